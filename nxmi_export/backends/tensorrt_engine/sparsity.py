"""Did the builder choose kernels that skip 2:4 zeros: its own count, checked by kernel names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer
from nxmi_export.backends.tensorrt_engine.int8_layers import NAMED_IN_FULL, is_gemm
from nxmi_export.backends.tensorrt_engine.verdict import Verdict

__all__ = [
    "BuiltBy",
    "SparseEvidence",
    "names_dense_kernel",
    "names_sparse_kernel",
    "sparse_evidence",
]

_COUNT = re.compile(r"\(Sparsity\) (Found|Chose) (\d+) layer\(s\)")
# TensorRT 8 names the layers instead of counting them.
_NAMED = re.compile(
    r"\(Sparsity\) (Layers eligible for sparse math|TRT inference plan picked sparse"
    r" implementation for layers): ?(.*)"
)
# Not the end of another word, as in "TranspGemm".
_KERNEL = re.compile(r"(?<![a-z])(spars|sptensor|spmma|sp_?gemm)", re.IGNORECASE)


class BuiltBy(Protocol):
    """What built an engine: a `Library`, or a record of one."""

    @property
    def is_rtx(self) -> bool:
        """Whether it was TensorRT-RTX, which has no sparse kernels."""


@dataclass(frozen=True, slots=True)
class SparseEvidence:
    """What a build says about sparse kernels; a speed-up is a measurement, never read from here."""

    verdict: Verdict
    reason: str
    eligible: int | None  # layers; None where the log does not say
    chosen: int | None  # layers; None where the log does not say
    layers: tuple[str, ...]  # engine layers whose kernel is named as a sparse one
    lines: tuple[str, ...]  # the log lines this was read from
    eligible_names: tuple[str, ...] = ()  # TensorRT 8 names them, later releases only count
    chosen_names: tuple[str, ...] = ()
    # Whether no later count is below an earlier one. Then the largest is of all that was compiled
    # so far; otherwise it may be of kernels that the engine does not have.
    grows: bool = True


def sparse_evidence(
    log: str, layers: Sequence[EngineLayer], library: BuiltBy | None
) -> SparseEvidence:
    """Judge one build. `library` is None for a log of unknown origin, read as TensorRT's.

    The `HasSparseWeights` field of a layer is ignored: it describes the weights, not the kernel.
    """
    lines = tuple(line for line in log.splitlines() if "(Sparsity)" in line)
    found, picked = _counts(lines, "Found", "Layers"), _counts(lines, "Chose", "TRT")
    eligible, chosen = max(found, default=None), max(picked, default=None)
    grows = found == sorted(found) and picked == sorted(picked)
    sparse = tuple(layer.name for layer in layers if names_sparse_kernel(layer))
    if library is not None and library.is_rtx:
        verdict, reason = (
            Verdict.UNPROVEN,
            "TensorRT-RTX ignores SPARSE_WEIGHTS, so its plan says nothing about sparse kernels",
        )
    else:
        verdict, reason = _judge(eligible, chosen, layers)
        if verdict is Verdict.PROVED and not grows:
            verdict, reason = Verdict.UNPROVEN, "the log's counts of sparse kernels fall"
    named = _named(lines, "Layers"), _named(lines, "TRT")
    return SparseEvidence(verdict, reason, eligible, chosen, sparse, lines, *named, grows)


def names_sparse_kernel(layer: EngineLayer) -> bool:
    """Whether the layer's own kernel is named as one that skips 2:4 zeros."""
    return bool(_KERNEL.search(layer.tactic))


def names_dense_kernel(layer: EngineLayer) -> bool:
    """Whether the layer's own kernel is named in full, and not as one that skips zeros."""
    return bool(NAMED_IN_FULL.search(layer.tactic)) and not names_sparse_kernel(layer)


def _judge(
    eligible: int | None, chosen: int | None, layers: Sequence[EngineLayer]
) -> tuple[Verdict, str]:
    """Some sparse kernels are not all: what promises 2:4 promises it of every eligible layer."""
    named = sum(map(names_sparse_kernel, layers))
    if chosen is None:
        return _judge_names(named, layers)
    if chosen == 0 and named:
        return Verdict.UNPROVEN, f"the log counts no sparse kernel but names {named}"
    if chosen == 0:
        return (
            Verdict.REFUTED,
            f"of {eligible or 0} eligible layers the builder chose a sparse kernel for none",
        )
    told = f"the builder chose sparse kernels for {chosen} of {eligible} eligible layers"
    if chosen != eligible:
        return Verdict.UNPROVEN, told
    possible = sum(is_gemm(layer) and not names_dense_kernel(layer) for layer in layers)
    if layers and possible < chosen:
        return Verdict.UNPROVEN, f"{told}, but all products but {possible} are named as dense ones"
    return Verdict.PROVED, told


def _judge_names(named: int, layers: Sequence[EngineLayer]) -> tuple[Verdict, str]:
    if not named:
        return Verdict.UNPROVEN, "the log neither counts sparse kernels nor names one"
    products = sum(map(is_gemm, layers))
    told = f"{named} of {products} products run a kernel named as a sparse one"
    return Verdict.PROVED if named == products else Verdict.UNPROVEN, told


def _counts(lines: Sequence[str], counted: str, named: str) -> list[int]:
    """Every count, in order; each compiled subgraph reports one, and earlier ones are partial."""
    counts = [
        int(match.group(2))
        for line in lines
        if (match := _COUNT.search(line)) and match.group(1) == counted
    ]
    lists = [names for line in lines if (names := _list(line, named)) is not None]
    return counts + [len(names) for names in lists]


def _named(lines: Sequence[str], starts: str) -> tuple[str, ...]:
    """Every layer that any line lists, once, in order."""
    return tuple(dict.fromkeys(name for line in lines for name in _list(line, starts) or ()))


def _list(line: str, starts: str) -> list[str] | None:
    """The layers that a line of TensorRT 8 lists; None where it is no such line."""
    match = _NAMED.search(line)
    if match is None or not match.group(1).startswith(starts):
        return None
    return [name.strip() for name in match.group(2).split(",") if name.strip()]
