"""Results in, the table in Markdown out."""

from collections.abc import Iterator, Sequence
from typing import Any

from samples.fault_injection.controls import void_reasons

__all__ = ["markdown"]

_LONGEST = 220  # characters of a message in a cell; the JSON has all of it
_OTHER_CODE = (
    "These rows were made by other code than this tree's (SHA-256 {stored}…, here {here}…): run "
    "python -m samples.fault_injection again."
)
_ON_PURPOSE = (
    "The gate refuses some of them all the same: it compares stored numbers bit for bit, and "
    "quantizers one by one, whether or not an output shows them; another dev set might."
)


def markdown(results: dict[str, Any], here: str) -> str:
    """Totals, then one row per control, per fault, and per change that no output shows.

    `here` is the digest of the code in this tree. Where a control failed, or rows are of other
    code, that comes first.
    """
    rows = results["faults"]
    faults = [row for row in rows if not row["proof"]]
    equivalent = [row for row in rows if row["proof"]]
    return "\n".join(
        (
            *_doubts(results, here),
            _totals(faults, equivalent, results["controls"]),
            "",
            *_faults(faults),
            "",
            *_equivalents(equivalent),
            "",
            *_controls(results["controls"]),
        )
    )


def _doubts(results: dict[str, Any], here: str) -> Iterator[str]:
    void = void_reasons(results["controls"], results["faults"])
    if void:
        yield f"VOID: {_cell('; '.join(void))}"
        yield ""
    if results["code"] != here:
        yield _OTHER_CODE.format(stored=results["code"][:12], here=here[:12])
        yield ""


def _totals(
    faults: Sequence[dict[str, Any]],
    equivalent: Sequence[dict[str, Any]],
    controls: Sequence[dict[str, Any]],
) -> str:
    detected = sum(row["detected"] for row in faults)
    named = sum(row["named"] for row in faults)
    passed = sum(not row["detected"] for row in controls)
    refused = sum(row["detected"] for row in equivalent)
    return (
        f"{len(faults)} faults: {detected} detected, {named} named; "
        f"{len(equivalent)} changes that no output shows, of which the gate refuses {refused}; "
        f"{len(controls)} artefacts without a fault, of which {passed} passed"
    )


def _faults(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| fault | family | answer | first seen | named | first cause stated |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        named = "yes" if row["named"] else "**no**"
        cause = _cause(row)
        yield (
            f"| {row['name']} | {row['family']} | {row['answer']} | {row['rung']} | {named} | "
            f"{cause} |"
        )


def _cause(row: dict[str, Any]) -> str:
    """The first cause in few words; where none was stated, the first sentence."""
    if not row["causes"]:
        return f"none: {_cell(' '.join(row['messages']))}"
    cause = row["causes"][0]
    match cause["by"]:
        case "drift":
            kind = f" ({cause['kind']})" if cause["kind"] else ""
            told = f"{cause['cause']} at {cause['module'] or 'the logits'}{kind}"
            told += f", made by {cause['maker']}" if cause["maker"] else ""
            told += f", nothing of {', '.join(cause['absent'])}" if cause["absent"] else ""
        case "refusal":
            told = f"{cause['subject']}: expected {cause['expected']}, found {cause['met']}"
        case "foreign file":
            told = f"{cause['file']}: a file of another checkpoint"
        case _:
            told = f"{cause['module']}: {cause['what']}, {cause['found']} for {cause['expected']}"
    return _cell(told)


def _equivalents(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| equivalent | outputs that differ | proof | its premises, as measured | gate |"
    yield "|---|---|---|---|---|"
    for row in rows:
        premises = "; ".join(_premise(each) for each in row["premises"])
        gate = row["answer"]
        if row["detected"]:
            gate += f": {_cause(row)}"
        yield f"| {row['name']} | {row['different']} | {row['proof']} | {premises} | {gate} |"
    yield ""
    yield _ON_PURPOSE


def _premise(premise: dict[str, Any]) -> str:
    doubt = "" if premise["holds"] else " (DOES NOT HOLD)"
    return f"{premise['what']}: {premise['measured']:.4g}{doubt}"


def _controls(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| without a fault | answer |"
    yield "|---|---|"
    for row in rows:
        yield f"| {row['name']} | {row['answer']} |"


def _cell(message: str) -> str:
    text = " ".join(message.split()).replace("|", "\\|")
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
