"""A certificate's JSON in, its tables as HTML out: totals by claim, what is open, every module."""

from collections.abc import Iterator, Sequence

from nxmi_export.certificate import Claim
from nxmi_export.report.certificate_table import (
    ATTENTION_CLAIMS,
    HEADINGS,
    LINEAR_CLAIMS,
    WORDS,
    unproved,
)
from nxmi_export.report.markup import Html, element, figure, joined, table
from nxmi_export.report.parity_facts import FAILS, HOLDS, NOT_CLAIMED, OPEN, Facts

__all__ = ["certificate_section"]

_MARKS = {"proved": HOLDS, "refuted": FAILS, "unproven": OPEN, "not claimed": NOT_CLAIMED}


def certificate_section(found: Facts | str) -> Iterator[Html]:
    """What a page shows of a certificate; a text is the reason why the artefact's is not shown."""
    if isinstance(found, str):
        yield element("p", OPEN("No valid certificate"), f": {found}.")
        return
    engine = found["engine"] or "no engine"
    answer = found["answer"]
    yield element("p", _MARKS[answer](f"Everything together: {answer}"), f" ({engine}).")
    yield _totals(found)
    yield _whole_model(found)
    if rows := list(_open(found)):
        yield table("What is not proved", ("claim", "answer", "times", "first, and why"), rows)
    yield element(
        "details",
        element("summary", "Every linear and attention"),
        _modules("Linears", found["linears"], LINEAR_CLAIMS),
        _modules("Attentions", found["attentions"], ATTENTION_CLAIMS),
    )


def _totals(facts: Facts) -> Html:
    rows = (
        (
            HEADINGS[Claim(claim)],
            facts["claims"][claim],
            *(figure(counts[answer], "d") for answer in _MARKS),
        )
        for claim, counts in facts["totals"].items()
        if claim not in facts["model"]
    )
    headings = ("claim", "about each module", *_MARKS)
    return table("Claims about linears and attentions, counted", headings, rows)


def _whole_model(facts: Facts) -> Html:
    rows = (
        (HEADINGS[Claim(claim)], _mark(cell), facts["claims"][claim], _told(cell))
        for claim, cell in facts["model"].items()
    )
    return table("Claims about the whole model", ("claim", "answer", "means", "why"), rows)


def _open(facts: Facts) -> Iterator[tuple[str, Html, Html, str]]:
    for claim, cells in unproved(facts):
        module, first = cells[0]
        told = f"{module}: {_told(first)}"
        yield HEADINGS[claim], _mark(first), figure(len(cells), "d"), told


def _modules(caption: str, modules: Sequence[Facts], claims: Sequence[Claim]) -> Html:
    rows = (
        (
            joined((module["module"], " ", _scheme(module))),
            *(_mark(module["claims"][claim.value]) for claim in claims),
        )
        for module in modules
    )
    return table(caption, ("module", *(HEADINGS[claim] for claim in claims)), rows)


def _scheme(module: Facts) -> Html:
    scheme = module["scheme"]
    return element("span", scheme, class_="below") if scheme else Html("")


def _mark(cell: Facts) -> Html:
    answer = cell["answer"]
    return _MARKS[answer](WORDS[answer][1])


def _told(cell: Facts) -> str:
    where = ", ".join(cell["evidence"])
    return f"{cell['why']} ({where})" if where else str(cell["why"])
