"""The stored tables of trained cells, written into samples/README.md between their marks.

    python -m samples.readme_tables

A test holds it to what is stored.
"""

import re
from pathlib import Path

from samples.glue_table.__main__ import RESULTS as GLUE
from samples.glue_table.table import markdown as glue
from samples.search_table.__main__ import RESULTS as SEARCH
from samples.search_table.table import markdown as search

__all__ = ["README", "with_tables"]

README = Path(__file__).with_name("README.md")


def with_tables(text: str) -> str:
    """`text` with every table as it is stored now; raises ValueError where a mark is missing."""
    for name, table in (("glue", glue(GLUE)), ("search", search(SEARCH))):
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
        text, count = pattern.subn(lambda _, table=table: f"{table}\n", text)
        if count != 1:
            raise ValueError(f"{README}: {begin.strip()} … {end} is there {count} times, not once")
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
