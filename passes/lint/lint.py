"""A graph in, everything in it that TensorRT would refuse, spoil or waste out."""

import onnx_ir as ir

from passes.lint.finding import Finding, Rule
from passes.lint.reading import Reading
from passes.lint.rules import (
    attention,
    code_types,
    linears,
    operators,
    scales,
    sequence,
    sparsity,
    weights,
    zero_points,
)
from passes.lint.unfold import unfold

__all__ = ["RULES", "lint"]

RULES: tuple[Rule, ...] = (
    operators.integer_operator,
    operators.foreign_operator,
    operators.unread_function,
    operators.attention_operator,
    operators.one_by_one_convolution,
    operators.unread_product,
    code_types.code_type,
    code_types.fp8_capability,
    code_types.stored_bias,
    code_types.int4_per_channel,
    code_types.blocks_times_int8,
    code_types.int8_blocks,
    code_types.cast_blocks,
    zero_points.activation_zero_point,
    zero_points.uint8_around_128,
    zero_points.uint8_activation,
    zero_points.weight_zero_point,
    zero_points.uint8_weight,
    scales.activation_scale,
    scales.weight_scale,
    scales.computed_scale,
    scales.weight_scale_axis,
    scales.per_channel_activation,
    scales.half_scale,
    weights.moved_codes,
    weights.quantized_vector,
    weights.float_storage,
    weights.transposed_weight,
    weights.scaled_table,
    linears.turing_float,
    linears.float_layer,
    linears.float_input,
    linears.float_weight,
    linears.narrow_layer,
    linears.untied_inputs,
    linears.duplicate_quantizers,
    linears.quantized_product,
    linears.quantized_norm_input,
    linears.quantized_gelu_input,
    attention.partial_attention,
    attention.float_attention,
    attention.head_size,
    attention.unknown_head_size,
    attention.quantized_scores,
    attention.softmax_scale,
    attention.sdpa_guard,
    sparsity.sparsity_stamp,
    sparsity.sparsity_along_outputs,
    sparsity.missing_int8_output,
    sparsity.float_residual,
    sparsity.small_sparse_layer,
    sequence.position_limit,
    sequence.attention_length,
)


def lint(model: ir.Model, *, sm: int = 86, sequence: int | None = None) -> tuple[Finding, ...]:
    """Every finding of every rule, rule by rule; `model` is not changed.

    Shapes that the file leaves out are inferred, and local functions read in the place of their
    calls.

    `sm` is the compute capability to build for (86 for SM 8.6), `sequence` the tokens of the
    longest input, None where no more is known than what the graph fixes.
    """
    reading = Reading(unfold(model), sm, sequence)
    return tuple(finding for rule in RULES for finding in rule.findings(reading))
