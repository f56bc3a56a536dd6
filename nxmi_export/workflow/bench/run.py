"""An artefact and a request in, every contender measured on every shape out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nxmi_export.artefact import Artefact
from nxmi_export.backends.nvidia_driver import find_driver
from nxmi_export.backends.tensorrt_engine import TensorRtRunner
from nxmi_export.backends.tensorrt_engine.layer_profile import profile_document
from nxmi_export.bench import (
    BenchResult,
    BenchSettings,
    NotRun,
    Texts,
    WorkloadResult,
    batch_for,
    measure,
)
from nxmi_export.bench.dense_model import dense_model
from nxmi_export.bench.limits import Peaks
from nxmi_export.bench.measure import TURN, OnProgress
from nxmi_export.bench.measure_peaks import measure_peaks
from nxmi_export.bench.operations import operations
from nxmi_export.errors import ShapeError
from nxmi_export.latency import Workload
from nxmi_export.parity.environment import run_environment
from nxmi_export.workflow.bench.contenders import contenders, model_config
from nxmi_export.workflow.bench.engines import ENGINE
from nxmi_export.workflow.bench.memory import measure_memory
from nxmi_export.workflow.bench.request import BenchRequest
from nxmi_export.workflow.bench.texts import texts_to_time

__all__ = ["EngineProfile", "bench", "profile_engine"]

PROFILED_RUNS = 50


@dataclass(frozen=True)
class EngineProfile:
    """The time of every layer of the engine on one shape, as trtexec would write it."""

    workload: Workload
    layers: list[dict[str, Any]]


def bench(
    artefact: Artefact,
    request: BenchRequest,
    *,
    on_progress: OnProgress,
    on_times: Callable[[BenchResult], object] = lambda result: None,
) -> BenchResult:
    """Measure everything that can run; raises UsageError for an unknown baseline.

    `threads` holds for this process while it measures, and is given back. Memory comes last, so
    that its processes disturb no time; `on_times` hears before of everything else, to keep it.
    """
    taking_part = contenders(artefact, request)
    texts = texts_to_time(artefact, request.texts) if request.texts else ()
    settings = BenchSettings(
        baseline=request.baseline,
        vocabulary=_vocabulary(artefact),
        rounds=request.rounds,
        seconds=request.seconds,
        least_rounds=request.least_rounds,
        turns=request.turns,
    )
    with _torch_threads(request.threads):
        threads = torch.get_num_threads()
        peaks = measure_peaks(request.threads, partial(on_progress, "peaks of this processor"))
        found = measure(
            taking_part, (*request.workloads, *texts), settings, on_progress=on_progress
        )
    result = BenchResult(
        contenders=taking_part,
        baseline=request.baseline,
        workloads=found if isinstance(peaks, str) else _limited(artefact, found, peaks),
        peaks=peaks,
        memory="the run ended before" if request.memory else "it was not asked for",
        settings={
            "rounds": request.rounds,
            "seconds": request.seconds,
            "untimed_runs_of_a_turn": TURN.untimed,
            "timed_runs_of_a_turn": TURN.timed,
            "other_turns": {str(shape): asdict(turn) for shape, turn in request.turns.items()},
            "threads": request.threads or f"PyTorch {threads}, the others their own choice",
            "cuda_graph": request.cuda_graph,
        },
        environment=_environment(),
    )
    on_times(result)
    if not request.memory:
        return result
    return replace(
        result,
        memory=measure_memory(artefact, request, taking_part, found, on_progress=on_progress),
    )


def _limited(
    artefact: Artefact, found: Sequence[WorkloadResult], peaks: Peaks
) -> tuple[WorkloadResult, ...]:
    """The results, those of shapes with the limits of this processor."""
    manifest = artefact.manifest
    model = dense_model(manifest.architecture, model_config(artefact), attention="eager")
    return tuple(
        each
        if isinstance(each.workload, Texts)
        else replace(
            each, limits=peaks.limits(operations(model, manifest.input_names, each.workload))
        )
        for each in found
    )


def profile_engine(artefact: Artefact, request: BenchRequest) -> EngineProfile | NotRun:
    """Layer by layer, on the largest of the shapes that the engine takes."""
    (engine,) = (each for each in contenders(artefact, request) if each.key == ENGINE)
    by_size = sorted(request.workloads, key=lambda each: each.rows, reverse=True)
    try:
        opened = engine.open()
        if isinstance(opened, NotRun):
            return opened
        with opened as runner:
            assert isinstance(runner, TensorRtRunner)
            return _profile(artefact, runner, by_size)
    except engine.refusals as refusal:
        return NotRun(str(refusal))


def _profile(
    artefact: Artefact, runner: TensorRtRunner, workloads: list[Workload]
) -> EngineProfile | NotRun:
    reason = ""
    for workload in workloads:
        rng = np.random.default_rng(0)
        names, vocabulary = runner.input_names, _vocabulary(artefact)
        feeds = batch_for(workload, names, vocabulary=vocabulary, rng=rng)
        try:
            times = runner.layer_times(feeds, PROFILED_RUNS)
        except ShapeError as refusal:
            reason = str(refusal)
        else:
            return EngineProfile(workload, profile_document(times, PROFILED_RUNS))
    return NotRun(reason)


def _vocabulary(artefact: Artefact) -> int:
    return int(str(model_config(artefact)["vocab_size"]))


def _environment() -> dict[str, str]:
    driver = find_driver()
    if driver is None or not driver.gpus:
        return {**run_environment(), "gpu": "none"}
    return {**run_environment(), "gpu": driver.gpus[0].name, "driver": driver.version}


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
