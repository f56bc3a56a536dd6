"""A certificate's JSON in, rich tables out: a row a module, a column a claim, and why not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from nxmi_export.certificate import Claim

__all__ = [
    "ATTENTION_CLAIMS",
    "HEADINGS",
    "LINEAR_CLAIMS",
    "WORDS",
    "certificate_tables",
    "unproved",
]

# Short enough for seven columns beside a module's name in 80 characters.
HEADINGS: Mapping[Claim, str] = {
    Claim.MASK: "mask",
    Claim.STORED: "stored",
    Claim.PARITY: "parity",
    Claim.INT8_IN: "INT8 in",
    Claim.INT8_OUT: "INT8 out",
    Claim.ELIGIBLE: "sparse able",
    Claim.SPARSE: "sparse kernel",
    Claim.FUSED: "fused",
    Claim.SCALES: "activation scales",
    Claim.LINT: "linter",
    Claim.MAPPING: "layers to modules",
    Claim.NO_FLOAT: "no float left over",
    Claim.MERGED_QKV: "merged QKV",
    Claim.RUNS: "runs on a GPU",
}
LINEAR_CLAIMS = (
    Claim.MASK,
    Claim.STORED,
    Claim.PARITY,
    Claim.INT8_IN,
    Claim.INT8_OUT,
    Claim.ELIGIBLE,
    Claim.SPARSE,
)
ATTENTION_CLAIMS = (Claim.INT8_IN, Claim.FUSED)
# A sign, a word, a style: none of them alone.
WORDS: Mapping[str, tuple[str, str, str]] = {
    "proved": ("✓", "yes", "green"),
    "refuted": ("✗", "no", "bold red"),
    "unproven": ("?", "open", "yellow"),
    "not claimed": ("–", "n/a", "dim"),
}
_OPEN = ("refuted", "unproven")  # what needs a reason, the worse first
_LEGEND = "✓ yes: proved; ✗ no: refuted; ? open: unproven; – n/a: not claimed by the recipe"


def certificate_tables(facts: Mapping[str, Any]) -> Iterator[Table]:
    """Linears, attentions, the model, and the first reason of each claim that is not proved."""
    engine = facts["engine"] or "no engine"
    title = f"Deployment certificate: {facts['answer']} ({engine})"
    yield _modules(title, facts["linears"], LINEAR_CLAIMS, _LEGEND)
    yield _modules("Attention", facts["attentions"], ATTENTION_CLAIMS)
    yield _model(facts)
    if any(unproved(facts)):
        yield _reasons(facts)


def unproved(facts: Mapping[str, Any]) -> list[tuple[Claim, list[tuple[str, Mapping[str, Any]]]]]:
    """Claims about modules with the cells that are refuted, then with those that are unproven.

    Each cell comes with its module; claims keep the order of the columns.
    """
    found: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for module in (*facts["linears"], *facts["attentions"]):
        for claim, cell in module["claims"].items():
            if cell["answer"] in _OPEN:
                found.setdefault((cell["answer"], claim), []).append((module["module"], cell))
    ordered = sorted(found.items(), key=lambda each: _OPEN.index(each[0][0]))
    return [(Claim(claim), cells) for (_, claim), cells in ordered]


def _modules(
    title: str, modules: Sequence[Mapping[str, Any]], claims: Sequence[Claim], caption: str = ""
) -> Table:
    table = Table(
        title=escape(title),
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_footer=True,
        padding=(0, 1, 0, 0),
    )
    table.add_column("module", footer="proved of claimed", overflow="fold", min_width=22)
    for claim in claims:
        words = HEADINGS[claim].replace(" ", "\n")
        table.add_column(words, footer=_share(modules, claim), vertical="bottom", min_width=6)
    block = None
    for module in modules:
        if module["block"] != block:
            block = module["block"]
            table.add_row(f"[bold]{escape(block)}[/]")
        name = module["module"].removeprefix(f"{block}.")
        cells = (_cell(module["claims"][claim]["answer"]) for claim in claims)
        table.add_row(f" {escape(name)}", *cells)
    return table


def _share(modules: Sequence[Mapping[str, Any]], claim: Claim) -> str:
    answers = [module["claims"][claim]["answer"] for module in modules]
    claimed = len(answers) - answers.count("not claimed")
    return f"{answers.count('proved')}/{claimed}" if claimed else WORDS["not claimed"][1]


def _cell(answer: str) -> str:
    sign, word, style = WORDS[answer]
    return f"[{style}]{sign} {word}[/]"


def _model(facts: Mapping[str, Any]) -> Table:
    table = Table(title="The model as a whole", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("claim", "answer", "why"):
        table.add_column(heading, overflow="fold")
    for name, cell in facts["model"].items():
        table.add_row(HEADINGS[Claim(name)], _cell(cell["answer"]), escape(_told(cell)))
    return table


def _reasons(facts: Mapping[str, Any]) -> Table:
    table = Table(title="What is not proved", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("claim")
    table.add_column("answer")
    table.add_column("times", justify="right")
    table.add_column("first, and why", overflow="fold")
    for claim, cells in unproved(facts):
        module, first = cells[0]
        told = escape(f"{module}: {_told(first)}")
        table.add_row(HEADINGS[claim], _cell(first["answer"]), str(len(cells)), told)
    table.caption = "every reason, with its line of the log, is in certificate.json"
    table.caption_justify = "left"
    return table


def _told(cell: Mapping[str, Any]) -> str:
    where = ", ".join(cell["evidence"])
    return f"{cell['why']} ({where})" if where else str(cell["why"])
