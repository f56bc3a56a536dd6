"""What a comparison found, as values and as `bench.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nxmi_export.bench.contender import Contender, NotRun
from nxmi_export.bench.latency_statistics import Latency, Speedup
from nxmi_export.bench.limits import Limits, Peaks
from nxmi_export.bench.memory import Memory
from nxmi_export.bench.texts import Texts
from nxmi_export.latency import Workload

__all__ = ["SCHEMA", "BenchResult", "Measured", "MemoryResult", "WorkloadResult"]

SCHEMA = "nxmi-export/bench/3"


@dataclass(frozen=True)
class Measured:
    """One contender on one shape of batch."""

    call: Latency  # of a whole call, from numpy arrays to numpy arrays
    gpu: Latency | None  # of the GPU's work alone, for what runs there
    speedup: Speedup | None  # of `call`; None where the baseline did not run
    gpu_speedup: Speedup | None  # of `gpu`; None where the baseline runs elsewhere
    # The largest distance of a logit from that of the same file with exact products; None where
    # that did not run, or there is no such contender.
    from_exact: float | None = None
    # The median of `call` in every round, in order: what others took in the same rounds compares.
    round_seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class WorkloadResult:
    """Every contender on one shape of batch or on texts, by key; none is left out."""

    workload: Workload | Texts
    rounds: int
    other_cores: float | None  # that other processes kept busy meanwhile
    results: Mapping[str, Measured | NotRun]
    limits: Limits | None = None  # of this processor; None: not known, or these are texts


@dataclass(frozen=True)
class MemoryResult:
    """What every contender takes of the host's memory, by key; none is left out."""

    workload: Workload  # that was run
    results: Mapping[str, Memory | NotRun]


@dataclass(frozen=True)
class BenchResult:
    """Everything that was measured, and on what."""

    contenders: tuple[Contender, ...]
    baseline: str
    workloads: tuple[WorkloadResult, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    peaks: Peaks | str = "not measured"  # of this processor, or why they are not known
    memory: MemoryResult | str = "not measured"  # or why it was not

    def as_json(self) -> dict[str, Any]:
        """Plain data for `bench.json`; times in seconds, memory in bytes."""
        return {
            "schema": SCHEMA,
            "baseline": self.baseline,
            "settings": dict(self.settings),
            "environment": dict(self.environment),
            "contenders": {each.key: {"what": each.what, **each.facts} for each in self.contenders},
            "peaks": _peaks(self.peaks),
            "workloads": [_shape(each, self.contenders) for each in self._of(Workload)],
            "texts": [_texts(each, self.contenders) for each in self._of(Texts)],
            "memory": _memory(self.memory),
        }

    def _of(self, kind: type[Workload | Texts]) -> list[WorkloadResult]:
        return [each for each in self.workloads if isinstance(each.workload, kind)]


def _peaks(found: Peaks | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"measured": False, "reason": found}
    return {"measured": True, "operations_per_second": asdict(found)}


def _memory(found: MemoryResult | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"measured": False, "reason": found}
    return {
        "measured": True,
        "batch": found.workload.batch,
        "sequence": found.workload.sequence,
        "results": {
            key: {"ran": False, "reason": each.reason}
            if isinstance(each, NotRun)
            else {"ran": True, **asdict(each)}
            for key, each in found.results.items()
        },
    }


def _shape(found: WorkloadResult, contenders: Sequence[Contender]) -> dict[str, Any]:
    assert isinstance(found.workload, Workload)
    batch, sequence = found.workload.batch, found.workload.sequence
    return {"batch": batch, "sequence": sequence, **_times(found, contenders, batch)}


def _texts(found: WorkloadResult, contenders: Sequence[Contender]) -> dict[str, Any]:
    texts = found.workload
    assert isinstance(texts, Texts)
    return {
        "source": texts.source,
        "batching": texts.batching,
        "examples": texts.examples,
        "tokens": texts.tokens,
        "padded_tokens": texts.padded_tokens,
        "batches": len(texts.batches),
        **_times(found, contenders, texts.examples),
    }


def _times(found: WorkloadResult, contenders: Sequence[Contender], examples: int) -> dict[str, Any]:
    limits = {each.key: found.limits if each.on_cpu else None for each in contenders}
    return {
        "rounds": found.rounds,
        "other_cores": found.other_cores,
        "limits": None if found.limits is None else asdict(found.limits),
        "results": {
            key: _measured(each, examples, limits[key])
            if isinstance(each, Measured)
            else {"ran": False, "reason": each.reason}
            for key, each in found.results.items()
        },
    }


def _measured(found: Measured, examples: int, limits: Limits | None) -> dict[str, Any]:
    return {
        "ran": True,
        "call": _latency(found.call),
        "gpu": None if found.gpu is None else _latency(found.gpu),
        "examples_per_second": examples / found.call.p50,
        "of_int8_limit": None if limits is None else limits.int8 / found.call.p50,
        "speedup": None if found.speedup is None else asdict(found.speedup),
        "gpu_speedup": None if found.gpu_speedup is None else asdict(found.gpu_speedup),
        "logits_from_exact": _distance(found.from_exact),
        "round_seconds": list(found.round_seconds),
    }


def _distance(found: float | None) -> float | str | None:
    # JSON has no number for what is not finite.
    return found if found is None or math.isfinite(found) else str(found)


def _latency(found: Latency) -> dict[str, Any]:
    return {**asdict(found), "spread": found.spread}
