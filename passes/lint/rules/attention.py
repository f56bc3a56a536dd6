"""Attention: INT8 as a whole or not at all, in a form that TensorRT fuses."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import constant_array
from passes.lint.attention import Attention
from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.lint.walk import quantize_behind

__all__ = [
    "float_attention",
    "head_size",
    "partial_attention",
    "quantized_scores",
    "sdpa_guard",
    "softmax_scale",
    "unknown_head_size",
]

_SOFTMAX_SCALE = 1 / 127  # a softmax ends at 1, the int8 codes at 127
_TOLERANCE = 0.01
_FUSED_HEADS = {16, 32, 64}
_HALF = {ir.DataType.BFLOAT16, ir.DataType.FLOAT16}


@rule(
    "partial-attention",
    Severity.DEGRADE,
    remedy="quantize query, key, probabilities and value, or none of them",
)
def partial_attention(reading: Reading) -> Iterator[Place]:
    """Attention is fused in INT8 only if all four operands of its two products are INT8."""
    for attention in reading.attentions:
        floats = _float_operands(attention)
        if 0 < len(floats) < len(attention.operands):
            yield attention.softmax, f"float {', '.join(floats)} among INT8 operands"


@rule("float-attention", Severity.NOTE, remedy="quantize its four operands, or deploy it in FP16")
def float_attention(reading: Reading) -> Iterator[Place]:
    """Unquantized attention is fused in FP16 graphs only; in FP32 it runs in pieces."""
    for attention in reading.attentions:
        # The products decide: a softmax in float32 between them is fused all the same.
        half = attention.scores.outputs[0].dtype in _HALF
        all_float = len(_float_operands(attention)) == len(attention.operands)
        if reading.is_quantized and all_float and not half:
            yield attention.softmax, "float attention in a quantized encoder"


@rule(
    "attention-head-size",
    Severity.DEGRADE,
    remedy="leave attention in float (placement linear), or take a model with such heads",
)
def head_size(reading: Reading) -> Iterator[Place]:
    """INT8 attention is fused for heads of 16, 32 and 64 channels (TensorRT-RTX); for others it
    runs in pieces.
    """
    for attention in reading.attentions:
        size = attention.head_size
        if size is not None and size not in _FUSED_HEADS and not _float_operands(attention):
            yield attention.softmax, f"INT8 attention with heads of {size} channels"


@rule(
    "unknown-head-size",
    Severity.NOTE,
    remedy="write the channels of a head as a constant, or read the build's log",
)
def unknown_head_size(reading: Reading) -> Iterator[Place]:
    """INT8 attention is fused for some sizes of head alone; where shapes do not follow from the
    graph, only the built engine shows whether it was.
    """
    for attention in reading.attentions:
        if attention.head_size is None and not _float_operands(attention):
            yield attention.softmax, "INT8 attention with heads of an unknown size"


@rule("quantized-scores", Severity.DEGRADE, remedy="remove the quantizer in front of the softmax")
def quantized_scores(reading: Reading) -> Iterator[Place]:
    """A quantizer between the first product and the softmax breaks the fusion."""
    for attention in reading.attentions:
        for node in attention.score_quantizers:
            yield node, "a quantizer between the scores and the softmax"


@rule("softmax-scale", Severity.DEGRADE, remedy="quantize the output of a softmax at 1/127")
def softmax_scale(reading: Reading) -> Iterator[Place]:
    """Probabilities reach 1: a smaller scale than 1/127 clips them, a larger one wastes codes."""
    for attention in reading.attentions:
        node = quantize_behind(attention.operands["probabilities"])
        scale = None if node is None else constant_array(node.inputs[1])
        if node is None or scale is None or scale.size != 1:
            continue
        number = float(scale.astype(np.float32).ravel()[0])
        if number > 0 and abs(number / _SOFTMAX_SCALE - 1) > _TOLERANCE:
            yield node, f"scale {number:.6g} where 1/127 = {_SOFTMAX_SCALE:.6g} is exact"


@rule(
    "sdpa-guard",
    Severity.DEGRADE,
    remedy='capture the model with attn_implementation="eager"',
)
def sdpa_guard(reading: Reading) -> Iterator[Place]:
    """The export of scaled_dot_product_attention replaces NaN behind the softmax (IsNaN, Where),
    which breaks the fusion of INT8 attention.
    """
    for attention in reading.attentions:
        if attention.guard is not None:
            yield attention.guard, "a Where that replaces NaN behind the softmax"


def _float_operands(attention: Attention) -> list[str]:
    return [name for name, value in attention.operands.items() if quantize_behind(value) is None]
