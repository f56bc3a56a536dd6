"""A captured graph in, a graph for one target out, with the ledger of what every pass did.

Each target is one tuple of passes, applied from top to bottom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

import passes
from nxmi_export.errors import LoweringFailed

__all__ = ["LoweredGraph", "lower", "onnxruntime_passes", "tensorrt_passes"]


@dataclass(frozen=True)
class LoweredGraph:
    """The graph of a target and the account of how it came about."""

    model: ir.Model
    ledger: passes.Ledger


def tensorrt_passes(patterns: Mapping[str, tuple[int, int]]) -> tuple[passes.GraphPass, ...]:
    """`model.onnx`: stored int8 weights as (K, N), zero-points 0, one Q/DQ pair per value.

    `patterns` holds keep and group of every linear that must be sparse, by module name.
    """
    return (
        passes.FoldWeightQuantization(),
        passes.CanonicalLinear(),
        passes.ShareQuantizers(),
        passes.CertifySparsity(patterns),
        passes.NameNodes(),
    )


def onnxruntime_passes(patterns: Mapping[str, tuple[int, int]]) -> tuple[passes.GraphPass, ...]:
    """`model.cpu.onnx`, made from `model.onnx`: the same codes, activations shifted to uint8.

    onnxruntime multiplies uint8 by int8 far faster than int8 by int8 on x86. The weights are
    certified again, because this file is deployed on its own. Each has its own zero-point, without
    which the file cannot be run exactly on a CPU that lacks VNNI.
    """
    return (
        passes.CertifySparsity(patterns),
        passes.UnsignedActivations(),
        passes.OwnZeroPoints(),
    )


def lower(
    model: ir.Model,
    steps: Sequence[passes.GraphPass],
    *,
    check_each: bool = False,
    work_dir: Path | None = None,
) -> LoweredGraph:
    """Apply `steps` to `model`, which is consumed: after an error it must not be used.

    Raises LoweringFailed where a pass refuses or breaks a promise; the graph before that pass is
    then in `work_dir`, if one was given.
    """
    try:
        ledger = passes.lower(model, steps, check_each=check_each, work_dir=work_dir)
    except passes.PassError as error:
        remedy = error.remedy
        if work_dir is not None and work_dir.is_dir():
            remedy = f"{remedy}; the graph before it is in {work_dir}"
        raise LoweringFailed(
            error.subject, expected=error.expected, found=error.found, remedy=remedy
        ) from error
    return LoweredGraph(model, ledger)
