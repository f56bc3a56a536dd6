"""The style sheet of a parity page: both themes, a phone's width, paper."""

from nxmi_export.report.palette import FONT, themed

__all__ = ["NARROWEST_WIDE", "PARITY_PAGE_STYLE"]

NARROWEST_WIDE = 640  # pixels; below it tables become cards and the picture stands upright

# Okabe and Ito's hues, darkened on white and lightened on black until 4.5:1 (WCAG 2.2, 1.4.3).
# They are never alone: a sign and a word say the same.
_VERDICTS = """
html { --holds: #00735a; --fails: #b03a00; --open: #0069a5; --quiet: #57606a; }
@media (prefers-color-scheme: dark) {
html { --holds: #2dc596; --fails: #ff9057; --open: #56b4e9; --quiet: #9198a1; }
}
"""

PARITY_PAGE_STYLE = f"""{themed("html")}{_VERDICTS}
html {{ color-scheme: light dark; }}
* {{ box-sizing: border-box; }}
body {{ font: 15px/1.5 {FONT}; color: var(--text); max-width: 940px; margin: 0 auto;
  padding: 20px; overflow-wrap: anywhere; }}
h1 {{ font-size: 24px; margin: 0; }} h2 {{ font-size: 18px; margin: 36px 0 8px; }}
h3 {{ font-size: 15px; margin: 22px 0 6px; }}
p {{ margin: 6px 0; }} ul {{ margin: 6px 0; padding-left: 22px; }}
nav a {{ margin-right: 14px; color: var(--open); }}
.quiet, caption {{ color: var(--quiet); }}
.holds {{ color: var(--holds); }} .fails {{ color: var(--fails); }} .open {{ color: var(--open); }}
.holds, .fails, .open {{ font-weight: 600; }}
.verdict {{ border: 2px solid; border-radius: 10px; padding: 14px 18px; margin: 0 0 14px; }}
.verdict p, .verdict ul {{ color: var(--text); font-weight: 400; }}
.figures {{ display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0; padding: 0; }}
.figures div {{ flex: 1 1 150px; border: 1px solid var(--grid); border-radius: 8px;
  padding: 8px 12px; }}
.figures dt {{ font-size: 13px; color: var(--quiet); }}
.figures dd {{ margin: 0; font-size: 18px; font-weight: 600; }}
.scrolls {{ overflow-x: auto; }} :focus-visible {{ outline: 2px solid var(--open); }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }}
caption {{ text-align: left; font-size: 13px; padding: 16px 0 4px; }}
th, td {{ text-align: left; vertical-align: top; padding: 5px 14px 5px 0;
  border-bottom: 1px solid var(--grid); overflow-wrap: normal; }}
th {{ font-weight: 600; }} thead th {{ font-size: 13px; vertical-align: bottom; }}
td {{ overflow-wrap: break-word; }} .hash, q, li, td code {{ overflow-wrap: anywhere; }}
.below {{ display: block; font-weight: 400; font-size: 13px; }}
q {{ quotes: none; white-space: pre-wrap; display: block; min-width: 12em; }}
q + q {{ margin-top: 6px; }}
.bar {{ display: block; height: 8px; min-width: 2px; background: var(--first); }}
details {{ margin: 8px 0; }} summary {{ cursor: pointer; font-weight: 600; }}
pre {{ border: 1px solid var(--grid); border-radius: 8px; padding: 10px 12px; margin: 8px 0;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }}
code, .hash {{ font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px; }}
svg, img {{ max-width: 100%; height: auto; display: block; margin-bottom: 14px; }}
.narrow {{ display: none; }} span.holds, span.fails, span.open {{ white-space: nowrap; }}
svg text {{ font: 12px {FONT}; fill: var(--text); }}
svg .score {{ font-size: 14px; font-weight: 700; }}
svg .holds {{ fill: var(--holds); }} svg .fails {{ fill: var(--fails); }}
svg rect {{ fill: none; stroke: var(--quiet); stroke-width: 1.5; }}
svg .absent {{ stroke-dasharray: 5 4; }} svg .arrow {{ stroke: var(--quiet); fill: none; }}
svg .tip {{ fill: var(--quiet); }}
@media (max-width: {NARROWEST_WIDE}px) {{ body {{ padding: 14px; }}
.wide {{ display: none; }} .narrow {{ display: block; }}
table, tbody, tr, td, tbody th, caption {{ display: block; }} thead {{ position: absolute;
  clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }}
tbody tr {{ border-bottom: 1px solid var(--grid); padding: 8px 0; }}
td, tbody th {{ border: 0; padding: 1px 0; }}
td {{ display: flex; gap: 10px; }} td > div {{ flex: 1; min-width: 0; }}
td::before {{ content: attr(data-label); flex: 0 0 38%; color: var(--quiet); font-size: 13px; }} }}
@media print {{ nav {{ display: none; }} tr, svg {{ break-inside: avoid; }} }}
"""
