"""Results in, the table in Markdown out."""

from collections import Counter
from typing import Any

__all__ = ["markdown"]

_LONGEST = 140  # characters of evidence in a cell; the JSON has all of it


def markdown(results: dict[str, Any]) -> str:
    """One row per bad graph, below a line about the good one and above a count of effects."""
    library = "{name} {version}".format(**results["library"])
    lines = [
        f"{library}; the good graph: {results['good']}",
        "",
        f"| rule | severity | {library} | evidence |",
        "|---|---|---|---|",
    ]
    for row in results["graphs"]:
        evidence = " ".join(row["evidence"].split()).replace("|", "\\|")
        if len(evidence) > _LONGEST:
            evidence = f"{evidence[:_LONGEST]}…"
        if row["unseen"]:
            evidence = f"{row['unseen']}. {evidence}"
        lines.append(f"| {row['name']} | {row['severity']} | {row['effect']} | {evidence} |")
    counted = Counter(row["effect"] for row in results["graphs"])
    lines += ["", ", ".join(f"{effect}: {count}" for effect, count in counted.most_common())]
    return "\n".join(lines)
