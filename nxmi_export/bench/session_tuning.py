"""A graph for onnxruntime in, the fusions without which it is fastest on this machine out.

Which fusions pay changes with the release and the processor: SkipLayerNormalization took a quarter
of the time of Add and LayerNormalization in one release, and four times as long two releases later.
None of them changes what a graph means, so the choice is one of speed alone, and is measured.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from pydantic import ValidationError

from nxmi_export import doctor
from nxmi_export.artefact.manifest import TimedOptions, TimedShape, Tuning
from nxmi_export.backends import Feeds
from nxmi_export.backends.onnxruntime_options import WITHOUT_FUSIONS
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.latency_statistics import speedup
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Timer, Turn, samples
from nxmi_export.output_files import atomic_file

__all__ = ["CANDIDATES", "ROUNDS", "tune_session"]

CANDIDATES: tuple[Mapping[str, str], ...] = (
    MappingProxyType({}),  # what onnxruntime does by itself
    *(
        MappingProxyType({WITHOUT_FUSIONS: ";".join(names)})
        for names in (
            ("SkipLayerNormFusion",),
            ("BiasGeluFusion",),
            ("BiasGeluFusion", "SkipLayerNormFusion"),
        )
    ),
)
"""Configuration entries of a session."""

ROUNDS = 7  # the interval of 95 % needs six
_BATCHES = (1, 4)
_TOKENS = 128  # of all rows of a batch of one, half of them in the other
_TURN = Turn(untimed=1, timed=1)


def tune_session(
    path: Path,
    *,
    vocabulary: int,
    position_limit: int,
    threads: int | None = None,
    cache: Path | None = None,
    on_round: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuning:
    """Time the graph at `path` with each of `CANDIDATES`.

    Chosen is the fastest of those that beat onnxruntime's own choice on one shape and lose to it on
    none, beyond chance: by the 95 % intervals of `speedup`. `cache` is a folder that keeps results
    for graphs of the same operators and sizes, this processor and this release of onnxruntime; an
    entry that does not read counts as none. All candidates are loaded at once. Raises ArtefactError
    for a graph that does not open.
    """
    shapes = [Workload(rows, min(_TOKENS // min(rows, 2), position_limit)) for rows in _BATCHES]
    entry = None if cache is None else cache / f"{_key(path, shapes, threads)}.json"
    known = None if entry is None else _read(entry)
    if known is not None:
        return known
    with ExitStack() as stack:
        runners = [
            stack.enter_context(
                OnnxRuntimeRunner(path, optimize=True, threads=threads, entries=entries)
            )
            for entries in CANDIDATES
        ]
        rounds = ROUNDS * len(shapes)
        times = []
        for number, shape in enumerate(shapes):
            rng = np.random.default_rng(0)
            names = runners[0].input_names
            feeds = batch_for(shape, names, vocabulary=vocabulary, rng=rng)
            timers = {at: _timer(runner, feeds, clock) for at, runner in enumerate(runners)}
            tell = partial(_after, on_round, number * ROUNDS, rounds)
            times.append(samples(timers, ROUNDS, tell, turn=_TURN, warm_up=1))
    timed = [_timed(at, shapes, times) for at in range(len(CANDIDATES))]
    tuning = Tuning(
        processor=_processor(),
        threads=threads,
        onnxruntime=version("onnxruntime"),
        timed=tuple(timed),
        options=dict(_fastest(timed).options),
    )
    if entry is not None:
        _write(entry, tuning)
    return tuning


def _after(on_round: Callable[[int, int], None], before: int, all_: int, done: int, _: int) -> None:
    on_round(before + done, all_)


def _timer(runner: OnnxRuntimeRunner, feeds: Feeds, clock: Callable[[], float]) -> Timer:
    def run() -> float:
        begin = clock()
        runner.run(feeds)
        return clock() - begin

    return run


def _timed(
    candidate: int,
    shapes: Sequence[Workload],
    times: Iterable[Mapping[int, list[list[float]]]],
) -> TimedOptions:
    found = [(speedup(each[0], each[candidate]), each[candidate]) for each in times]
    return TimedOptions(
        options=dict(CANDIDATES[candidate]),
        shapes={
            str(shape): TimedShape(
                seconds=float(np.median(seconds)),
                speedup=ratio.median,
                low=ratio.low,
                high=ratio.high,
            )
            for shape, (ratio, seconds) in zip(shapes, found, strict=True)
            if ratio.low is not None and ratio.high is not None  # `ROUNDS` are enough for it
        },
    )


def _fastest(timed: Sequence[TimedOptions]) -> TimedOptions:
    plain, *others = timed
    better = [
        each
        for each in others
        if any(shape.low > 1 for shape in each.shapes.values())
        and all(shape.high >= 1 for shape in each.shapes.values())
    ]
    return max(better, key=_gain, default=plain)


def _gain(timed: TimedOptions) -> float:
    return float(np.prod([shape.speedup for shape in timed.shapes.values()]))


def _key(path: Path, shapes: Sequence[Workload], threads: int | None) -> str:
    """SHA-256 of everything that decides which candidate wins, weights apart."""
    model = ir.load(path)
    graph = [
        [node.op_type, node.domain, [_shape(value) for value in node.inputs]]
        for node in model.graph.all_nodes()
    ]
    facts = {
        "graph": graph,
        "shapes": [str(each) for each in shapes],
        "processor": _processor(),
        "threads": threads,
        "onnxruntime": version("onnxruntime"),
        "candidates": [dict(each) for each in CANDIDATES],
        "rounds": ROUNDS,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _shape(value: ir.Value | None) -> str:
    return "" if value is None else f"{value.dtype}{value.shape}"


def _processor() -> str:
    # No requirements and no driver: only the processor is asked for.
    found = doctor.examine(requirements=(), look_for_driver=lambda: None).processor
    return f"{found.model}, {found.cores} cores, {', '.join(found.int8_instructions)}"


def _read(entry: Path) -> Tuning | None:
    try:
        return Tuning.model_validate_json(entry.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(entry: Path, tuning: Tuning) -> None:
    with atomic_file(entry) as temporary:
        temporary.write_text(f"{tuning.model_dump_json(indent=1)}\n", encoding="utf-8")
