"""The schemes of configurations in, an HTML table of rows by linears or components out."""

import math
import re
from collections.abc import Mapping
from html import escape

from nxmi_export.recipe import Scheme
from nxmi_export.recipe.scheme import DENSE_BITS

__all__ = ["MAP_STYLE", "by_block", "scheme_map"]

_STRONGEST = 60  # per cent of colour; text stays readable on it in both themes

MAP_STYLE = """
.map td { text-align: center; padding: 3px 8px; border: 2px solid var(--ground); font-size: 12px;
  background: color-mix(in srgb, var(--first) calc(1% * var(--tint)), var(--ground)); }
.map th { padding: 3px 8px; font-size: 12px; border: 0; text-align: center;
  vertical-align: bottom; }
.map tr:first-child th { white-space: normal; min-width: 72px; }
.map th:first-child { text-align: left; padding-left: 0; }
"""


def by_block(schemes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The schemes of linears by module name, as rows of `scheme_map`: one for every block."""
    rows: dict[str, dict[str, str]] = {}
    for name, text in schemes.items():
        # "bert.encoder.layer.3.attention.self.query": block 3, and which of its linears
        numbered = re.fullmatch(r".*?\.(\d+)\.(.+)", name)
        block, linear = (f"block {numbered[1]}", numbered[2]) if numbered else ("", name)
        rows.setdefault(block, {})[linear] = text
    return rows


def scheme_map(rows: Mapping[str, Mapping[str, str]]) -> str:
    """A table of the schemes in `rows`, by row and column; the fewer bits, the more colour."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = "".join(f"<th>{_breakable(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_cell(row.get(each)) for each in columns)}</tr>\n"
        for name, row in rows.items()
    )
    return f'<div class="scrolls"><table class="map"><tr><th></th>{head}</tr>\n{body}</table></div>'


def _breakable(column: str) -> str:
    """A component's or a module's name that may go on in another line at each of its parts."""
    return escape(column.replace("_", " ")).replace(".", ".<wbr>")


def _cell(text: str | None) -> str:
    if text is None:
        return "<td></td>"
    # Every halving of the bits adds as much colour, up to 2 of 32.
    tint = min(1.0, math.log2(DENSE_BITS / Scheme.parse(text).nominal_bits) / 4)
    return f'<td style="--tint: {tint * _STRONGEST:.0f}">{escape(text)}</td>'
