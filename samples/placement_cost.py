"""What a placement costs on the CPU beside `linear`: whole runs by turns, and where the time goes.

    python -m samples.placement_cost            # BERT-base and MiniLM's sizes, 1 and 2 threads
    python -m samples.placement_cost --print    # the table of the last run, in Markdown

Weights are random: time does not depend on them. Every placement is exported with autotuning, so
each runs on onnxruntime in the form that is fastest for it; OpenVINO takes turns with it on the
portable file. Operators are those of onnxruntime's own profile, each with the first tenth of its
times; they are summed over the graph.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from transformers import BertConfig

from nxmi_export.artefact import CPU_MODEL, MODEL, Artefact, read_artefact
from nxmi_export.backends import Feeds, Runner
from nxmi_export.backends.names import Backend
from nxmi_export.backends.onnxruntime_options import session_options
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.bench.batches import batch_for
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Timer, Turn, samples
from nxmi_export.output_files import atomic_file
from nxmi_export.processor import this_processor
from nxmi_export.recipe import Placement
from nxmi_export.workflow.export import ExportRequest, export
from samples.made_with import is_as_made_now, note_what_made
from samples.random_bert import write_random_bert

__all__ = ["main", "markdown", "measure"]

RESULT = Path(__file__).parent / "results" / "placement_cost.json"
MODELS = {
    "bert-base": BertConfig(),
    "minilm": BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
}
PLACEMENTS = (Placement.LINEAR, Placement.ATTENTION, Placement.SPARSE)
LIBRARIES = (Backend.ONNXRUNTIME, Backend.OPENVINO)
THREADS = (1, 2)
SHAPES = (Workload(1, 128), Workload(8, 128))
PROFILED = SHAPES[-1]
ROUNDS, RUNS, WARM_UP = 11, 12, 3

WHY = {
    "Attention": "float attention as one operator: only where its products are not quantized",
    "DequantizeLinear": "codes that a float operator reads become floats again",
    "FusedMatMul": "the products of attention in float32",
    "MatMul": "the products of attention in float32",
    "MatMulIntegerToFloat": "integer products that give floats",
    "MatMulInteger": "integer products that give integers",
    "QLinearMatMul": "integer products that give codes",
    "QuantizeLinear": "a walk over every value that is rounded, the probabilities among them",
    "QLinearSoftmax": "the softmax on codes",
    "Softmax": "apart, as its result is rounded",
    "Transpose": "heads are laid out in memory, which one operator for attention does not do",
}


def main() -> None:
    """Measure and store, or print what is stored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("runs/placement_cost"))
    parser.add_argument("--only", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--print", action="store_true", dest="show")
    arguments = parser.parse_args()
    if not arguments.show:
        found = measure(arguments.models, arguments.only)
        with atomic_file(RESULT) as temporary:
            temporary.write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    print(markdown(json.loads(RESULT.read_text(encoding="utf-8"))))


def measure(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Every model on every number of threads; exports are kept in `folder`."""
    console = Console(stderr=True)
    cells = []
    for name in names:
        artefacts = {each: _exported(folder, name, each) for each in PLACEMENTS}
        for threads in THREADS:
            console.print(f"{name}, {threads} threads")
            cells.append(
                {
                    "model": name,
                    "threads": threads,
                    "forms": {str(each): _form(found) for each, found in artefacts.items()},
                    "times": _times(artefacts, threads),
                    "operators": {
                        str(each): _operators(found, threads) for each, found in artefacts.items()
                    },
                }
            )
    return {
        "cells": cells,
        "processor": str(this_processor()),
        "versions": {each: version(each) for each in (*LIBRARIES, "numpy")},
    }


def _exported(folder: Path, name: str, placement: Placement) -> Artefact:
    output = folder / f"{name}-{placement}.artefact"
    if not is_as_made_now(output):
        model = output.with_suffix(".pt")
        if not model.is_file():
            model.parent.mkdir(parents=True, exist_ok=True)
            write_random_bert(model, placement, MODELS[name])
        export(ExportRequest(str(model), output, tune=True, overwrite=True))
        note_what_made(output)
    return read_artefact(output)


def _form(artefact: Artefact) -> str:
    tuning = artefact.manifest.tuning
    assert tuning is not None  # it was exported with `tune`
    return tuning.graph


def _times(
    artefacts: Mapping[Placement, Artefact], threads: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Medians in seconds, by library, shape and placement."""
    times: dict[str, dict[str, dict[str, float]]] = {each: {} for each in LIBRARIES}
    with ExitStack() as stack:
        runners = {
            (library, placement): stack.enter_context(_runner(library, found, threads))
            for library in LIBRARIES
            for placement, found in artefacts.items()
        }
        for shape in SHAPES:
            timers = {each: _timer(runner, shape) for each, runner in runners.items()}
            rounds = samples(timers, ROUNDS, turn=Turn(untimed=1, timed=1), warm_up=1)
            for (library, placement), found in rounds.items():
                median = statistics.median(run for runs in found for run in runs)
                times[library].setdefault(str(shape), {})[str(placement)] = median
    return times


def _runner(
    library: Backend, artefact: Artefact, threads: int
) -> OnnxRuntimeRunner | OpenVinoRunner:
    if library is Backend.OPENVINO:
        return OpenVinoRunner(artefact.path(MODEL), threads=threads)
    return OnnxRuntimeRunner(
        artefact.path(CPU_MODEL),
        optimize=True,
        threads=threads,
        entries=artefact.manifest.session_options,
    )


def _timer(runner: Runner, shape: Workload) -> Timer:
    feeds = _feeds(shape, runner.input_names)

    def run() -> float:
        begin = time.perf_counter()
        runner.run(feeds)
        return time.perf_counter() - begin

    return run


def _feeds(shape: Workload, names: tuple[str, ...]) -> Feeds:
    vocabulary = BertConfig().vocab_size
    return batch_for(shape, names, vocabulary=vocabulary, rng=np.random.default_rng(0))


def _operators(artefact: Artefact, threads: int) -> dict[str, float]:
    """Seconds of one run on `PROFILED`, by operator."""
    path, manifest = artefact.path(CPU_MODEL), artefact.manifest
    with TemporaryDirectory() as folder:
        options = session_options(
            onnxruntime,
            path.parent,
            optimize=True,
            threads=threads,
            entries=manifest.session_options,
        )
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        feeds = dict(_feeds(PROFILED, manifest.input_names))
        for _ in range(WARM_UP + RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[str, list[float]] = defaultdict(list)
    for operator, times in _by_node(events):
        spent[operator].append(statistics.quantiles(times, n=10, method="inclusive")[0])
    return {operator: sum(each) for operator, each in sorted(spent.items())}


def _by_node(events: list[dict[str, Any]]) -> Iterator[tuple[str, list[float]]]:
    """The operator of every node and its times in seconds, warm-up left out."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] * 1e-6)
    for (operator, _), found in times.items():
        yield operator, found[WARM_UP:]


def markdown(found: Mapping[str, Any]) -> str:
    """Ratios to `linear` of the same run, then where the difference lies."""
    lines = ["| model | threads | batch x tokens | library | " + " | ".join(PLACEMENTS) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(PLACEMENTS))
    for cell in found["cells"]:
        for library, shapes in cell["times"].items():
            for shape, times in shapes.items():
                place = f"{cell['model']} | {cell['threads']} | {shape} | {library}"
                lines.append(f"| {place} | {' | '.join(_row(times))} |")
    for cell in found["cells"]:
        lines += [
            "",
            f"{cell['model']}, {cell['threads']} threads, {PROFILED}, ms in operators:",
            "",
        ]
        lines += _operator_lines(cell)
    return "\n".join(lines)


def _row(times: Mapping[str, float]) -> Iterator[str]:
    base = times[Placement.LINEAR]
    for each in PLACEMENTS:
        yield f"{times[each] * 1e3:.1f} ms ({times[each] / base:.2f}x)"


def _operator_lines(cell: Mapping[str, Any]) -> Iterator[str]:
    """Operators that matter, at least a hundredth of `linear`'s time in any placement."""
    operators = cell["operators"]
    least = sum(operators[Placement.LINEAR].values()) / 100
    names = sorted({name for each in operators.values() for name in each})
    yield (
        "| operator | "
        + " | ".join(f"{each} ({cell['forms'][each]})" for each in PLACEMENTS)
        + " | |"
    )
    yield "|---|" + "---|" * (len(PLACEMENTS) + 1)
    for name in names:
        times = [operators[each].get(name, 0.0) for each in PLACEMENTS]
        if max(times) >= least:
            shown = " | ".join(f"{seconds * 1e3:.1f}" for seconds in times)
            yield f"| {name} | {shown} | {WHY.get(name, '')} |"


if __name__ == "__main__":
    main()
