"""Results in, the table in Markdown out."""

from typing import Any

__all__ = ["markdown"]

_LONGEST = 150  # characters of a message in a cell; the JSON has all of it


def markdown(results: dict[str, Any]) -> str:
    """One row per fault, the equivalent ones apart, below a line of totals."""
    rows = results["faults"]
    faults = [row for row in rows if not row["proof"]]
    detected = sum(row["detected"] for row in faults)
    named = sum(row["named"] for row in faults)
    lines = [
        f"{len(faults)} faults: {detected} detected, {named} named; "
        f"{len(rows) - len(faults)} changes that no output shows",
        "",
        "| fault | family | answer | first seen | named | message |",
        "|---|---|---|---|---|---|",
    ]
    for row in faults:
        named_by = "yes" if row["named"] else "no"
        lines.append(
            f"| {row['name']} | {row['family']} | {row['answer']} | {row['rung']} | {named_by} | "
            f"{_short(' '.join(row['messages']))} |"
        )
    lines += ["", "| equivalent | answer | outputs that differ | proof |", "|---|---|---|---|"]
    for row in rows:
        if row["proof"]:
            lines.append(
                f"| {row['name']} | {row['answer']} | {row['different']} | {row['proof']} |"
            )
    return "\n".join(lines)


def _short(message: str) -> str:
    text = " ".join(message.split()).replace("|", "\\|")
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
