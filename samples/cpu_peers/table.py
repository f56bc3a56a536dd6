"""Result files in, a table in Markdown for each cell and a sentence for each aim out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nxmi_export.report.bench_table import limits_told
from samples.cell_table import read_result
from samples.cpu_peers.aims import sentences
from samples.cpu_peers.cells import MODELS, Cell, cells
from samples.cpu_peers.compare import Shape, run_of, shapes_of
from samples.cpu_peers.peers import PEERS

__all__ = ["markdown"]

# TensorRT's two, which have no place among processors.
_ELSEWHERE = ("tensorrt", "tensorrt-dense-kernels")
_BUSY_CORES = 0.1  # that others use, beyond which the times are theirs too
_READING = (
    "Each entry: median ms (times as fast as PyTorch float32, times as fast as the best exact peer "
    "on onnxruntime, share of the INT8 limit); ratios are medians over the rounds of both. Files "
    "run as their library runs them by default; “exact products” is the same file with kernels "
    "that neither saturate nor round, and the last column how far the logits of the default run "
    "are from it, on the batches that are timed. The limit is measured once, before, with "
    "onnxruntime's kernels: OpenVINO's, and a processor that runs faster later, may pass it."
)


def markdown(results: Path) -> str:
    """Every cell, then every aim; what did not run says so."""
    found = {cell: read_result(cell.name, results) for cell in cells()}
    lines = [_READING]
    for cell, result in found.items():
        lines += ["", *(_cell(cell, result))]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences(found))])


def _cell(cell: Cell, result: Mapping[str, Any] | None) -> Iterator[str]:
    title = f"**{MODELS[cell.model]}, {cell.threads_told}**"
    if result is None:
        yield f"{title}: not run"
        return
    bench = result["bench"]
    yield title
    yield ""
    shapes = list(shapes_of(result))
    headings = ("", *(each.name.replace("x", "×") for each in shapes), "logits off by")
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    for key, contender in bench["contenders"].items():
        if key not in _ELSEWHERE:
            row = _row(bench, key, shapes)
            yield f"| {contender['what']} | {' | '.join(row)} |"
    for peer in PEERS:
        if reason := result["peers"][peer.name]["not_run"]:
            for name in peer.files:
                empty = [""] * len(shapes)
                yield f"| {name} | {' | '.join((f'not run: {_plain(reason)}', *empty))} |"
    yield ""
    yield f"{limits_told(bench)}. {_disturbed(bench)}{_form(result.get('tuning'))}"
    for peer in PEERS:
        facts = result["peers"][peer.name]
        told = [facts[name] for name in ("with", "calibration", "processor") if name in facts]
        yield f"- {peer.name}: {'; '.join(told)}"


def _row(bench: Mapping[str, Any], key: str, shapes: list[Shape]) -> list[str]:
    found = [each["results"][key] for each in bench["workloads"]]
    entries = [_entry(key, each, shape) for each, shape in zip(found, shapes, strict=True)]
    gaps = [each["logits_from_exact"] for each in found if each.get("logits_from_exact")]
    strange = [gap for gap in gaps if isinstance(gap, str)]  # not a number
    return [*entries, strange[0] if strange else f"{max(gaps):.2g}" if gaps else ""]


def _entry(key: str, found: Mapping[str, Any], shape: Shape) -> str:
    if not found["ran"]:
        return f"not run: {_plain(found['reason'])}"
    run, sides = run_of(key, found), (shape.pytorch, shape.onnxruntime_exact)
    ratios = [f"{run.times_faster_than(side):.2f}×" if side else "–" for side in sides]
    share = "–" if run.of_limit is None else f"{run.of_limit:.0%}"
    return f"{1e3 * run.seconds:.4g} ({', '.join((*ratios, share))})"


def _plain(text: str) -> str:
    """Without what would end a cell."""
    return text.replace("|", "¦").replace("\n", " ")


def _form(tuning: Mapping[str, Any] | None) -> str:
    """Which form ours has; nothing for a result from before that was kept."""
    if tuning is None:
        return ""
    options = [f"{key} = {value}" for key, value in tuning["options"].items()]
    return f" The form of model.cpu.onnx: {', '.join((tuning['graph'], *options))}."


def _disturbed(bench: Mapping[str, Any]) -> str:
    """What else ran meanwhile, and how many rounds each shape had."""
    rounds = ", ".join(str(each["rounds"]) for each in bench["workloads"])
    busy = [each["other_cores"] for each in bench["workloads"]]
    text = f"Rounds: {rounds}."
    if any(each is None for each in busy):
        return f"{text} What other processes did meanwhile is unknown."
    if (most := max(busy, default=0.0)) > _BUSY_CORES:
        return f"{text} Other processes kept up to {most:.1f} processors busy: measure again."
    return text
