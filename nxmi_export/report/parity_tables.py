"""Parity results in, rich tables out: the ladder, the proof of the weights, what changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.artefact import Artefact
from nxmi_export.parity import ParityResult, Stage, Step, Verdict, WeightParity

__all__ = ["changes_table", "ladder_table", "parity_tables", "proof_table"]

SHOWN_CHANGES = 3  # the JSON has them all


def parity_tables(
    result: ParityResult, verdict: Verdict, artefact: Artefact, engine: Mapping[str, Any] | None
) -> Iterator[Table]:
    """Everything about one split, the conclusion last; `engine` is the content of engine.json."""
    for step in result.steps:
        if step.reference is Stage.COMPRESSED:
            yield from changes_table(step)
    yield ladder_table(result)
    yield proof_table(result, verdict, artefact, engine)


def ladder_table(result: ParityResult) -> Table:
    """One row a rung: every metric, and how many predictions differ from compressed PyTorch."""
    rungs = list(result.rungs.values())
    dataset = rungs[0].dataset
    title = f"{dataset.task.name} {dataset.split}: {len(dataset)} examples"
    table = Table(title=title, title_justify="left")
    table.add_column("rung")
    for metric in dataset.task.metrics:
        table.add_column(metric, justify="right")
    table.add_column("changed", justify="right")
    table.add_column("largest logit gap", justify="right")
    for stage, rung in result.rungs.items():
        scores = [f"{rung.scores[metric]:.4f}" for metric in dataset.task.metrics]
        table.add_row(rung.name, *scores, *_against_compressed(result, stage))
    return table


def proof_table(
    result: ParityResult, verdict: Verdict, artefact: Artefact, engine: Mapping[str, Any] | None
) -> Table:
    """What was proved about the files, by what, and where they are; `engine` is engine.json."""
    table = Table(title="what runs is what was trained", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, weights in result.weights.items():
        table.add_row(f"weights of {name}", escape(_weights(weights)))
    linears = artefact.manifest.linears.values()
    sparse = [each for each in linears if ":" in each.storage]
    integer = [each for each in linears if "int" in each.storage]
    table.add_row("stored as integers", f"{len(integer)} linears")
    table.add_row("2:4 on the stored integers", f"{len(sparse)} of {len(integer)}")
    if result.codes:
        total = sum(each.total for each in result.codes)
        equal = sum(each.equal for each in result.codes)
        worse = sum(each.worse for each in result.codes)
        text = f"{equal / total:.3%} equal, {worse / total:.3%} off by more than one"
        table.add_row("activation codes", f"{text} ({len(result.codes)} quantizers)")
    for shapes in result.shapes:
        changed = max((each.changed for each in shapes.settings), default=0)
        text = f"{len(shapes.settings)} batch sizes and lengths, at most {changed} changed"
        table.add_row(f"shapes, {shapes.name}", f"{text} of {shapes.examples}")
    table.add_row("TensorRT engine", _engine(engine))
    for name, record in artefact.manifest.files.items():
        if name.startswith("model."):
            path = artefact.directory / name
            table.add_row(f"{record.bytes / 1e6:.1f} MB", escape(str(path)))
    table.add_row("gate", "[green]passed[/]" if verdict.ok else "[bold red]failed[/]")
    return table


def changes_table(step: Step) -> Iterator[Table]:
    """The first changed examples of a comparison and why they changed; nothing if none did."""
    changes = step.comparison.changes
    if not changes:
        return
    shown: Sequence[Any] = changes[:SHOWN_CHANGES]
    title = f"changed by {step.comparison.candidate}: {len(shown)} of {len(changes)}"
    table = Table(title=title, title_justify="left")
    for heading in ("example", "text", "margin", "why"):
        table.add_column(heading, overflow="fold")
    reasons = {each.index: each.reason for each in step.explanations}
    for change in shown:
        table.add_row(
            str(change.index),
            escape(" | ".join(change.texts)),
            f"{change.margin_before:.4f}",
            escape(reasons.get(change.index, "")),
        )
    yield table


def _against_compressed(result: ParityResult, stage: Stage) -> tuple[str, str]:
    if stage is Stage.COMPRESSED:
        return "", ""
    if stage is Stage.DENSE:
        step = result.step(Stage.DENSE, Stage.COMPRESSED)
    else:
        step = result.step(Stage.COMPRESSED, stage)
    if step is None:
        return "", ""
    return str(len(step.comparison.changes)), f"{step.comparison.largest_logit_gap:.2g}"


def _weights(weights: WeightParity) -> str:
    if weights.equal:
        return (
            f"{weights.linears} linears ({weights.compressed} compressed) and "
            f"{weights.quantizers} activation scales: every one equals PyTorch's"
        )
    return f"differ in {len(weights.mismatches)} places, first {weights.mismatches[0]}"


def _engine(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "[yellow]not built[/]"
    linears, attentions = facts["int8"]["linears"], facts["int8"]["attentions"]
    text = f"{linears['int8']} of {linears['total']} linears in INT8"
    if attentions["total"]:
        text += f", {attentions['int8']} of {attentions['total']} attentions fused in INT8"
    return f"{text}; speed and sparse kernels [yellow]unproven[/] without a GPU"
