"""A parity run in, a page of Markdown out, as the summaries of CI services show it."""

import re
from collections.abc import Iterable, Iterator

from nxmi_export.artefact import Artefact
from nxmi_export.parity import NotCompared, ParityRun, SplitParity, Stage

__all__ = ["markdown_summary"]

_HEADINGS = (
    *("dev set", "examples", "metric", "PyTorch", "deployed", "points", "limits"),
    *("conclusion", "changed", "unexplained", "gate"),
)
_SHORT = 12  # hexadecimal digits of a hash, as elsewhere
# One after the other. GitHub looks for mentions, issues, emoji and addresses in what Markdown
# leaves, where a backslash is gone, and for formulas before it; a comment or an element that
# parts the text is there in both.
_ESCAPES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[\\`*_\[\]<>|#~&]", r"\\\g<0>"),
        (r"^(=|[-+](?=[-\s]|$))", r"\\\1"),  # and no number
        (r"^(\d+)([.)])(?=\s|$)", r"\1\\\2"),
        (r"(?i)(www)(?=\.)", r"\1<!-- -->"),
        (r"([@:#])(?=\S)", r"\1<!-- -->"),
        (r"\$", r"<span>$</span>"),
    )
)


def markdown_summary(run: ParityRun, artefact: Artefact) -> str:
    """The verdict, a row for each dev split, and a sentence for all that failed or is open."""
    verdict = "passed" if run.ok else "failed"
    lines = [f"# Parity {verdict}", "", *_subject(run, artefact), "", *_table(run)]
    open_questions = [
        f"{split.result.name}: {check.undecided}"
        for split in run.splits
        for check in split.verdict.checks
        if check.undecided
    ]
    failures = [
        f"{split.result.name}: {failure}"
        for split in run.splits
        for failure in split.verdict.failures
    ]
    for title, sentences in (
        ("OpenVINO", list(_openvino(run))),
        ("Failed", failures),
        ("Not decided", open_questions),
        ("Warnings", run.warnings),
    ):
        lines += _section(title, sentences)
    return "\n".join(lines) + "\n"


def _subject(run: ParityRun, artefact: Artefact) -> Iterator[str]:
    manifest = artefact.manifest
    yield f"{_plain(str(artefact.directory))}, exported from {_plain(manifest.source.path)}"
    if manifest.source.sha256:
        yield f"(SHA-256 {manifest.source.sha256[:_SHORT]}…)"
    if run.family is not None:
        terms = next(iter(run.family.members.values())).comparison.terms
        yield (
            f"with a margin of {100 * terms.margin:g} points at {100 * terms.confidence:g} % "
            f"confidence; all dev sets together: **{run.conclusion}**."
        )


def _table(run: ParityRun) -> Iterator[str]:
    yield _row(_HEADINGS)
    yield _row("---" for _ in _HEADINGS)
    for split in run.splits:
        yield _row(_cells(split))


def _cells(split: SplitParity) -> Iterator[str]:
    result = split.result
    dataset = result.dataset
    yield result.name
    yield str(len(dataset)) if dataset else ""
    yield dataset.task.primary_metric if dataset else ""
    for stage in (Stage.COMPRESSED, Stage.OPTIMIZED):
        rung = result.rungs.get(stage)
        yield f"{rung.primary:.4f}" if rung else "not run"
    deployed = result.step(Stage.COMPRESSED, Stage.OPTIMIZED)
    found = deployed.statistics if deployed else None
    if found is None or isinstance(found, NotCompared) or split.member is None:
        yield from ("", "", "not compared")
    else:
        yield f"{100 * found.difference:+.2f}"
        yield f"{100 * found.lower:+.2f} to {100 * found.upper:+.2f}"
        yield split.member.conclusion
    written = result.step(Stage.COMPRESSED, Stage.WRITTEN)
    yield str(len(deployed.comparison.changes)) if deployed else ""
    yield str(len(written.unexplained)) if written else ""
    yield "passed" if split.verdict.ok else "**failed**"


def _openvino(run: ParityRun) -> Iterator[str]:
    """A sentence for each dev split that it ran over."""
    for split in run.splits:
        step = split.result.step(Stage.COMPRESSED, Stage.OPENVINO)
        if step is not None:
            rung, changes = split.result.rungs[Stage.OPENVINO], len(step.comparison.changes)
            yield (
                f"{split.result.name}: {rung.primary:.4f} of {rung.name}, {changes} of "
                f"{step.comparison.examples} predictions changed"
            )


def _section(title: str, sentences: Iterable[str]) -> list[str]:
    items = [f"- {_plain(sentence)}" for sentence in sentences]
    return ["", f"## {title}", "", *items] if items else []


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_plain(cell) if cell[:2] != '**' else cell for cell in cells)} |"


def _plain(text: str) -> str:
    """The text as it is: nothing in it marks up, ends a cell, begins a list or calls somebody."""
    text = " ".join(text.split())
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return text
