"""A captured graph in, a graph for one target out, with the ledger of what every pass did.

Each target is one tuple of passes, applied from top to bottom.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

import passes
from nxmi_export.errors import LoweringFailed

__all__ = [
    "LoweredGraph",
    "lower",
    "onnxruntime_passes",
    "tensorrt_fp16_passes",
    "tensorrt_int4_passes",
    "tensorrt_passes",
]


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
        passes.ScaleGatheredRows(),
        passes.CanonicalLinear(),
        passes.ShareQuantizers(),
        passes.CertifySparsity(patterns),
        passes.NameNodes(),
    )


def tensorrt_fp16_passes(patterns: Mapping[str, tuple[int, int]]) -> tuple[passes.GraphPass, ...]:
    """`model.fp16.onnx`, made from `model.onnx`: the same codes and scales, floats in float16.

    TensorRT's networks are strongly typed, so the types of the graph are those of the engine. The
    weights are certified again, because this file is deployed on its own.
    """
    return (
        passes.CertifySparsity(patterns),
        passes.Float16OutsideIslands(),
        passes.NameNodes(),
    )


def tensorrt_int4_passes(
    patterns: Mapping[str, tuple[int, int]], modules: Collection[str], block_size: int
) -> tuple[passes.GraphPass, ...]:
    """`model.int4.onnx`, made from `model.fp16.onnx` where there is one, else from `model.onnx`:
    the same numbers, those of `modules` as INT4 with one scale per `block_size` inputs.

    The weights are certified again, because this file is deployed on its own.
    """
    return (
        passes.CertifySparsity(patterns),
        passes.PackInt4Blocks(modules, block_size),
        passes.NameNodes(),
    )


def onnxruntime_passes(
    patterns: Mapping[str, tuple[int, int]],
    *,
    fused_attention: bool = False,
    integer_products: bool = False,
) -> tuple[passes.GraphPass, ...]:
    """`model.cpu.onnx`, made from `model.onnx`: the same codes, activations shifted to uint8.

    onnxruntime multiplies uint8 by int8 far faster than int8 by int8 on x86, and takes codes out of
    a table before they become floats. The weights are certified again, because this file is
    deployed on its own. Each has its own zero-point, without which the file cannot be run exactly
    on a CPU that lacks VNNI. `fused_attention` writes float attention as one operator of opset 23,
    which onnxruntime has since 1.24; `integer_products` writes quantized linears as onnxruntime's
    own operator.
    """
    steps: tuple[passes.GraphPass, ...] = (
        passes.CertifySparsity(patterns),
        passes.GatherCodes(),
        passes.UnsignedActivations(),
        passes.OwnZeroPoints(),
        *([passes.FuseAttention()] if fused_attention else []),
    )
    if integer_products:
        promises = dict.fromkeys(promise for step in steps for promise in step.establishes)
        steps = (*steps, passes.IntegerProducts(keeps=tuple(promises)))
    return steps


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
