"""Graphs for onnxruntime in, which is fastest on this machine, and without which fusions, out.

Which fusions pay changes with the release and the processor: in one SkipLayerNormalization is
faster than Add and LayerNormalization, in another slower. None of them changes what a graph means,
so the choice is one of speed alone, and is measured.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from pydantic import ValidationError

from nxmi_export.artefact.manifest import RefusedWay, TimedOptions, TimedShape, Tuning
from nxmi_export.backends import Feeds
from nxmi_export.backends.onnxruntime_options import WITHOUT_FUSIONS
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.latency_statistics import speedup
from nxmi_export.errors import ArtefactError, ShapeError
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Timer, Turn, samples
from nxmi_export.output_files import atomic_file
from nxmi_export.parity.logits import Float32Array, different_rows, largest_gap, median_gap
from nxmi_export.processor import this_processor

__all__ = ["CANDIDATES", "ROUNDS", "tune_session"]

CANDIDATES: tuple[Mapping[str, str], ...] = tuple(
    MappingProxyType({WITHOUT_FUSIONS: ";".join(names)})
    for names in (("SkipLayerNormFusion",), ("BiasGeluFusion", "SkipLayerNormFusion"))
)
"""Configuration entries of a session, other than what onnxruntime does by itself."""

ROUNDS = 7  # the interval of 95 % needs six
PATIENCE = 6.0  # seconds within which as many rounds again are begun while it tells nothing
_SHAPES = (Workload(1, 128), Workload(4, 64))  # one text, and a small batch as served
_TURN = Turn(untimed=1, timed=1)


def tune_session(
    graphs: Mapping[str, Path],
    *,
    vocabulary: int,
    position_limit: int,
    built_on: Mapping[str, str] = MappingProxyType({}),
    cache: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuning:
    """Let the ways to run one of `graphs` challenge the fastest so far, in this order.

    The first graph with every fusion begins; `CANDIDATES` challenge it, then the other graphs with
    the options that are fastest by then; one that is `built_on` another only where that one leads.
    A challenger wins that is faster on one shape and slower on none, beyond chance: by the 95 %
    intervals of `speedup`, of more rounds where a few cannot tell, as on a machine that does
    something else as well. Two sessions are loaded at a time. Left out, with the reason, are graphs
    that do not open, or do not give the bits of the first when both run as written, and ways whose
    kernels move logits further than ties of rounding do. `cache` is a folder that keeps results for
    graphs of the same operators and sizes, this processor and this release of onnxruntime; an entry
    that does not read, or whose winner is left out with these weights, counts as none. Raises
    ArtefactError where the first graph does not open.
    """
    shapes = [Workload(each.batch, min(each.sequence, position_limit)) for each in _SHAPES]
    graphs, expected, refused = _equal(graphs, shapes, vocabulary)
    entry = None if cache is None else cache / f"{_key(graphs, shapes)}.json"
    first, *others = graphs
    contest = _Contest(graphs, shapes, vocabulary, clock, expected, graph=first, refused=refused)
    known = None if entry is None else _read(entry)
    if known is not None and contest.takes(known):
        return known.model_copy(update={"refused": tuple(refused)})
    for options in CANDIDATES:
        contest.challenge(first, options)
    for graph in others:
        if built_on.get(graph, contest.graph) == contest.graph:
            contest.challenge(graph, contest.options)
    tuning = Tuning(
        processor=str(this_processor()),
        onnxruntime=version("onnxruntime"),
        timed=tuple(contest.timed),
        graph=contest.graph,
        options=dict(contest.options),
        refused=tuple(contest.refused),
    )
    # What was refused depends on weights, which an entry does not.
    if entry is not None and not tuning.refused:
        _write(entry, tuning)
    return tuning


@dataclass
class _Contest:
    """The fastest way so far, and how every challenger did against it."""

    graphs: Mapping[str, Path]
    shapes: Sequence[Workload]
    vocabulary: int
    clock: Callable[[], float]
    expected: Sequence[Float32Array]  # logits as written, of a padded batch of each shape
    graph: str
    options: Mapping[str, str] = field(default_factory=dict)
    timed: list[TimedOptions] = field(default_factory=list)
    refused: list[RefusedWay] = field(default_factory=list)
    # How far from `expected` logits may be: set by the first holder, which is the first graph.
    ties: float | None = None

    def takes(self, known: Tuning) -> bool:
        """Whether what was fastest for other weights can be taken for these."""
        try:
            with self._both(known.graph, known.options) as (_, challenger):
                self._trust(challenger)
        except _Refused:
            return False
        return True

    def challenge(self, graph: str, options: Mapping[str, str]) -> None:
        """Time both by turns on every shape, unless the challenger cannot be taken."""
        found: dict[str, TimedShape] = {}
        try:
            with self._both(graph, options) as (holder, challenger):
                self._trust(challenger)
                for shape in self.shapes:
                    found[str(shape)] = latest = self._timed(holder, challenger, shape)
                    if latest.high < 1:
                        break  # it has lost
        except _Refused as refused:
            way = RefusedWay(graph=graph, options=dict(options), reason=str(refused))
            self.refused.append(way)
            return
        timed = found.values()
        won = any(each.low > 1 for each in timed) and all(each.high >= 1 for each in timed)
        self.timed.append(TimedOptions(graph=graph, options=dict(options), shapes=found, won=won))
        if won:
            self.graph, self.options = graph, options

    @contextmanager
    def _both(
        self, graph: str, options: Mapping[str, str]
    ) -> Iterator[tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]]:
        """The fastest so far and a challenger, whose failures to open or run refuse it."""
        with OnnxRuntimeRunner(
            self.graphs[self.graph], optimize=True, entries=self.options
        ) as holder:
            if self.ties is None:
                self.ties = self._ties(holder)
            try:
                with OnnxRuntimeRunner(
                    self.graphs[graph], optimize=True, entries=options
                ) as challenger:
                    yield holder, challenger
            except (ArtefactError, ShapeError) as error:
                raise _Refused(f"onnxruntime does not run it: {error.found}") from error

    def _ties(self, first: OnnxRuntimeRunner) -> float:
        """How far ties of rounding may move a typical logit.

        Sums in another order fall on either side of a tie, which moves some logits; an error moves
        most. So a typical example may lie four times as far from what is written as the furthest of
        the first graph, at least a thousandth of the largest logit and at most a tenth.
        """
        found = _padded_logits(first, self.shapes, self.vocabulary)
        largest = max(float(np.abs(each).max()) for each in self.expected)
        gap = max(map(largest_gap, self.expected, found))
        return min(max(4 * gap, 1e-3 * largest), 0.1 * largest) if np.isfinite(gap) else 0.0

    def _trust(self, challenger: OnnxRuntimeRunner) -> None:
        """Refuse kernels that answer otherwise than the graph as written says (`_ties`)."""
        found = _padded_logits(challenger, self.shapes, self.vocabulary)
        typical = float(np.max(list(map(median_gap, self.expected, found))))
        assert self.ties is not None, "`_both` has measured it"
        if not typical <= self.ties:  # not a number either
            raise _Refused(
                f"its kernels move half of the logits by {typical:.2g} or more from those of the "
                f"graph as written, where {self.ties:.2g} is within what rounding explains"
            )

    def _timed(
        self, holder: OnnxRuntimeRunner, challenger: OnnxRuntimeRunner, shape: Workload
    ) -> TimedShape:
        feeds = _batch(shape, holder.input_names, self.vocabulary)
        sides = {side: _timer(side, feeds, self.clock) for side in (holder, challenger)}
        times: dict[OnnxRuntimeRunner, list[list[float]]] = {side: [] for side in sides}
        end = self.clock() + PATIENCE
        while True:
            # As many again as there are: few looks, since each may take chance for a difference.
            done = len(times[holder])
            found = samples(sides, max(ROUNDS, done), turn=_TURN, warm_up=0 if done else 1)
            for side, rounds in found.items():
                times[side] += rounds
            ratio = speedup(times[holder], times[challenger])
            assert ratio.low is not None, "`ROUNDS` are enough for an interval"
            assert ratio.high is not None, "it has both ends or none"
            if ratio.low > 1 or ratio.high < 1 or self.clock() >= end:
                break
        median = float(np.median(times[challenger]))
        return TimedShape(seconds=median, speedup=ratio.median, low=ratio.low, high=ratio.high)


class _Refused(Exception):
    """Why a way cannot be taken."""


def _equal(
    graphs: Mapping[str, Path], shapes: Sequence[Workload], vocabulary: int
) -> tuple[dict[str, Path], list[Float32Array], list[RefusedWay]]:
    """Those that give the bits of the first on padded batches, run as written, and these bits."""
    first, *others = graphs
    expected = _written(graphs[first], shapes, vocabulary)
    found, refused = {first: graphs[first]}, []
    for name in others:
        try:
            logits = _written(graphs[name], shapes, vocabulary)
        except (ArtefactError, ShapeError) as error:
            reason = f"onnxruntime does not run it: {error.found}"
        else:
            if not any(map(len, map(different_rows, expected, logits))):
                found[name] = graphs[name]
                continue
            reason = "it gives other logits than the portable graph, both as written"
        refused.append(RefusedWay(graph=name, options={}, reason=reason))
    return found, expected, refused


def _written(path: Path, shapes: Sequence[Workload], vocabulary: int) -> list[Float32Array]:
    with OnnxRuntimeRunner(path, optimize=False, threads=1) as runner:
        return _padded_logits(runner, shapes, vocabulary)


def _padded_logits(
    runner: OnnxRuntimeRunner, shapes: Sequence[Workload], vocabulary: int
) -> list[Float32Array]:
    names = runner.input_names
    found = [runner.run(_padded(each, names, vocabulary))["logits"] for each in shapes]
    return [np.asarray(each, np.float32) for each in found]


def _padded(shape: Workload, names: Sequence[str], vocabulary: int) -> Feeds:
    """Every row but the first is shorter than the batch."""
    feeds = _batch(shape, names, vocabulary)
    for row, mask in enumerate(feeds["attention_mask"]):
        mask[shape.sequence - row :] = 0
    return feeds


def _batch(shape: Workload, names: Sequence[str], vocabulary: int) -> Feeds:
    return batch_for(shape, names, vocabulary=vocabulary, rng=np.random.default_rng(0))


def _timer(runner: OnnxRuntimeRunner, feeds: Feeds, clock: Callable[[], float]) -> Timer:
    def run() -> float:
        begin = clock()
        runner.run(feeds)
        return clock() - begin

    return run


def _key(graphs: Mapping[str, Path], shapes: Sequence[Workload]) -> str:
    """SHA-256 of everything that decides which way wins, weights apart."""
    facts = {
        "graphs": {name: _structure(path) for name, path in graphs.items()},
        "shapes": [str(each) for each in shapes],
        "processor": str(this_processor()),
        "onnxruntime": version("onnxruntime"),
        "candidates": [dict(each) for each in CANDIDATES],
        "rounds": [ROUNDS, PATIENCE],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _structure(path: Path) -> list[list[Any]]:
    return [
        [node.op_type, node.domain, [_shape(value) for value in node.inputs]]
        for node in ir.load(path).graph.all_nodes()
    ]


def _shape(value: ir.Value | None) -> str:
    return "" if value is None else f"{value.dtype}{value.shape}"


def _read(entry: Path) -> Tuning | None:
    try:
        return Tuning.model_validate_json(entry.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(entry: Path, tuning: Tuning) -> None:
    with atomic_file(entry) as temporary:
        temporary.write_text(f"{tuning.model_dump_json(indent=1)}\n", encoding="utf-8")
