"""Parity results in, rich tables out: the ladder, the proof of the weights, the scores."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.artefact import Artefact
from nxmi_export.parity import (
    NotCompared,
    ParityResult,
    ParityRun,
    Probes,
    SplitParity,
    Stage,
    Verdict,
    WeightParity,
)
from nxmi_export.parity.statistics import Conclusion, ScoreComparison
from nxmi_export.report.changes_table import changes_table

__all__ = ["ladder_table", "parity_tables", "proof_table", "scores_table"]

_REFERENCES = {
    Stage.COMPRESSED: Stage.DENSE,
    Stage.SHIFTED: Stage.WRITTEN,
    Stage.FLOAT16: Stage.WRITTEN,
    Stage.INT4: Stage.WRITTEN,
}  # else compressed
_VERDICT_STYLE = {"proved": "green", "refuted": "bold red"}  # all others are open
_CONCLUSION_STYLE = {Conclusion.INFERIOR: "bold red", Conclusion.INCONCLUSIVE: "yellow"}


def parity_tables(
    result: ParityResult, verdict: Verdict, artefact: Artefact, engine: Mapping[str, Any] | None
) -> Iterator[Table]:
    """Everything about one split, the conclusion last; `engine` is the content of engine.json."""
    for step in result.steps:
        if step.reference is Stage.COMPRESSED:
            task = result.rungs[Stage.COMPRESSED].dataset.task
            yield from changes_table(step, task)
    yield ladder_table(result)
    yield proof_table(result, verdict, artefact, engine)


def ladder_table(result: ParityResult) -> Table:
    """One row a rung: every metric, and how many predictions differ from which other rung."""
    rungs = list(result.rungs.values())
    dataset = rungs[0].dataset
    title = f"{dataset.task.name} {dataset.split}: {len(dataset)} examples"
    table = Table(title=title, title_justify="left")
    table.add_column("rung")
    for metric in dataset.task.metrics:
        table.add_column(metric, justify="right")
    for heading in ("changed", "logit gap"):
        table.add_column(heading, justify="right")
    table.caption = (
        "changed predictions and largest logit gap: compressed from dense, all others from "
        "compressed PyTorch; unoptimized model.cpu.onnx from model.onnx, equal bit for bit or not"
    )
    if Stage.FLOAT16 in result.rungs:
        table.caption += "; model.fp16.onnx from model.onnx, too"
    if Stage.INT4 in result.rungs:
        table.caption += "; model.int4.onnx from what it was packed from, equal bit for bit or not"
    table.caption_justify = "left"
    for stage, rung in result.rungs.items():
        scores = [f"{rung.scores[metric]:.4f}" for metric in dataset.task.metrics]
        count = len(rung.dataset)
        name = rung.name if count == len(dataset) else f"{rung.name}, first {count}"
        table.add_row(escape(name), *scores, *_differences(result, stage))
    for stage, unproven in result.unproven.items():
        table.add_row(f"{stage.value}: [yellow]unproven[/], {escape(unproven.reason)}")
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
    storage = Counter(record.storage for record in artefact.manifest.linears.values())
    table.add_row("linears", ", ".join(f"{count} x {name}" for name, count in storage.items()))
    compressed = storage.total() - storage["dense"]
    table.add_row("2:4 on stored INT8", f"{storage['2:4+int8']} of {compressed} compressed")
    if result.codes:
        total = sum(each.total for each in result.codes)
        equal = sum(each.equal for each in result.codes)
        worse = sum(each.worse for each in result.codes)
        text = f"{equal / total:.3%} equal, {worse / total:.3%} off by more than one"
        table.add_row("activation codes", f"{text} ({len(result.codes)} quantizers)")
    for shapes in result.shapes:
        changed = max((each.changed for each in shapes.settings), default=0)
        replays = [replay for each in shapes.settings for replay in each.replays]
        explained = sum(bool(each.explained) for each in replays)
        text = f"{len(shapes.settings)} batch sizes and lengths, at most {changed} changed"
        text = f"{text} of {shapes.examples}"
        if shapes.observable:
            text = f"{text}; {explained} of {len(replays)} replays explained"
        else:
            medians = [each.median_logit_gap or 0.0 for each in shapes.settings]
            text = f"{text}; a typical logit moves by {max(medians, default=0.0):.2g} at most"
        table.add_row(f"shapes, {shapes.name}", text)
    for step in result.steps:
        if step.replayed:
            explained = sum(bool(each.explained) for each in step.replayed)
            text = f"{explained} of {len(step.replayed)} replayed examples explained"
            table.add_row(f"logits, {step.comparison.candidate}", text)
    if result.probes is not None:
        for name, text in _probes(result.probes):
            table.add_row(name, text)
    table.add_row("TensorRT engine", _engine(engine, result))
    for name, record in artefact.manifest.files.items():
        if name.startswith("model."):
            path = artefact.directory / name
            table.add_row(f"{record.bytes / 1e6:.1f} MB", escape(str(path)))
    table.add_row("gate", "[green]passed[/]" if verdict.ok else "[bold red]failed[/]")
    return table


def scores_table(run: ParityRun) -> Table:
    """What compression and deployment cost in score, each with its limits and what they prove.

    The caption says of every dev set that decides nothing what it could have decided.
    """
    table = Table(title=_scores_title(run), title_justify="left")
    for heading in ("dev set", "what changed the score"):
        table.add_column(heading)
    for heading in ("points", "limits"):
        table.add_column(heading, justify="right")
    table.add_column("conclusion", overflow="fold")
    for split in run.splits:
        for before, after, cause in (
            (Stage.DENSE, Stage.COMPRESSED, "compression"),
            (Stage.COMPRESSED, Stage.OPTIMIZED, "deployment"),
        ):
            step = split.result.step(before, after)
            if step is not None and step.statistics is not None:
                judged = after is Stage.OPTIMIZED
                table.add_row(
                    split.result.name,
                    cause,
                    *_points(step.statistics),
                    _conclusion(split, step.statistics) if judged else "not judged",
                )
    doubts = [
        f"{split.result.name}: {check.undecided}"
        for split in run.splits
        for check in split.verdict.checks
        if check.undecided
    ]
    table.caption = escape("\n".join(doubts)) or None
    table.caption_justify = "left"
    return table


def _scores_title(run: ParityRun) -> str:
    if run.family is None:
        return "scores were not compared"
    # One gate, so one margin and one confidence.
    terms = next(iter(run.family.members.values())).comparison.terms
    title = f"scores, margin {100 * terms.margin:g} points, {100 * terms.confidence:g} % confidence"
    several = len(run.splits) > 1
    return f"{title}; all dev sets together: {run.conclusion}" if several else title


def _points(found: ScoreComparison | NotCompared) -> tuple[str, str]:
    if isinstance(found, NotCompared):
        return "", ""
    low, high = 100 * found.lower, 100 * found.upper
    return f"{100 * found.difference:+.2f}", f"{low:+.2f} to {high:+.2f}"


def _conclusion(split: SplitParity, found: ScoreComparison | NotCompared) -> str:
    if isinstance(found, NotCompared) or split.member is None:
        return "[yellow]not compared[/]"
    conclusion = split.member.conclusion
    text = f"[{_CONCLUSION_STYLE.get(conclusion, 'green')}]{conclusion}[/]"
    if conclusion is not found.conclusion:
        text += f" (alone: {found.conclusion})"
    return text


def _differences(result: ParityResult, stage: Stage) -> tuple[str, str]:
    step = result.step(_REFERENCES.get(stage, Stage.COMPRESSED), stage)
    if stage is Stage.INT4:
        step = result.step(Stage.FLOAT16, stage) or step
    if step is None:
        return "", ""
    comparison = step.comparison
    gap = f"{comparison.largest_logit_gap:.2g}"
    if stage in {Stage.SHIFTED, Stage.INT4}:
        gap = f"[bold red]{gap}[/]" if comparison.different else "[green]equal[/]"
    return str(len(comparison.changes)), gap


def _weights(weights: WeightParity) -> str:
    if weights.equal:
        tables = f"{weights.tables} INT8 embedding tables, " if weights.tables else ""
        return (
            f"{tables}{weights.linears} linears ({weights.compressed} compressed), "
            f"{weights.quantizers} activation scales and {weights.parameters} parameters of "
            "embeddings and norms: every one equals PyTorch's"
        )
    return f"differ in {len(weights.mismatches)} places, first {weights.mismatches[0]}"


def _probes(probes: Probes) -> Iterator[tuple[str, str]]:
    """What made-up inputs reach next to the dev set, and what came of them."""
    reach, positions = probes.reach, probes.sizes.positions
    yield "probes reach", f"{reach}, of {positions} positions; the dev set {probes.dev_set}"
    for step in probes.steps:
        every = (*step.explanations, *step.replayed)
        explained = sum(bool(each.explained) for each in every)
        text = f"{explained} of {len(every)} replayed probes explained"
        if not every:
            text = f"{len(step.comparison.different)} of {step.comparison.examples} probes differ "
            text += f"in a bit from {step.comparison.reference}"
        yield f"probes, {step.comparison.candidate}", text


def _engine(facts: Mapping[str, Any] | None, result: ParityResult) -> str:
    """What its build proves, and whether this very run ran it, which measures no speed."""
    if facts is None:
        return "[yellow]not built[/]"
    linears, attentions = facts["int8"]["linears"], facts["int8"]["attentions"]
    text = f"{linears['int8']} of {linears['total']} linears in INT8"
    if attentions["total"]:
        text += f", {attentions['int8']} of {attentions['total']} attentions fused in INT8"
    sparse = facts["sparse_kernels"]["verdict"]
    text += f"; sparse kernels [{_VERDICT_STYLE.get(sparse, 'yellow')}]{sparse}[/]"
    rung = result.rungs.get(Stage.ENGINE)
    if rung is None:
        return f"{text}; it did [yellow]not run[/] here"
    return f"{text}; it ran {len(rung.dataset)} examples here; its speed is for bench to measure"
