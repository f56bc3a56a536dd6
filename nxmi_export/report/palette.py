"""The colours of every picture, as CSS variables that follow the reader's light or dark theme."""

__all__ = ["FONT", "themed"]

FONT = 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif'

# Okabe and Ito's colours, which colour-blind readers can tell apart; lighter on a dark ground.
_THEMED = """
{selector} {{ background: var(--ground); --ground: #ffffff; --text: #1f2328; --grid: #d8dee4;
  --reference: #6e7781; --first: #0072b2; --second: #d55e00; --third: #009e73; }}
@media (prefers-color-scheme: dark) {{
{selector} {{ background: var(--ground); --ground: #0d1117; --text: #e6edf3; --grid: #30363d;
  --reference: #9198a1; --first: #56b4e9; --second: #e69f00; --third: #2dc596; }}
}}
"""


def themed(selector: str) -> str:
    """A style sheet that gives the elements of `selector` a ground and the variables."""
    return _THEMED.format(selector=selector)
