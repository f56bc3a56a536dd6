"""What one engine layer computes: is it a matrix product, and does it multiply INT8."""

import re

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer, Operand

__all__ = [
    "FLOATS",
    "NAMED_IN_FULL",
    "describe",
    "is_fused_attention",
    "is_gemm",
    "is_product",
    "multiplies_int8",
]

# TensorRT-RTX calls a convolution a correlation, which it is.
_GEMM_TYPE = re.compile(r"gemm|conv|^correlation$|^matmul$|^fc$", re.IGNORECASE)
_FUSED_ATTENTION = re.compile(r"gemm_mha|fused_mha|_mha_v\d", re.IGNORECASE)
# cask names kernels <operand><output>_<operand><accumulator>: i8i8_i8i32, i8f32_i8i32.
_INT8_KERNEL = re.compile(r"_i8(i8|f16|bf16|f32|i32)_i8i32")
# cask and CUTLASS say in full what they multiply; Myelin's own names do not.
NAMED_IN_FULL = re.compile(r"xmma_(?:gemm|fprop)|cutlass\w*gemm", re.IGNORECASE)
# A fused kernel is named after its steps in order; before the product: how its operands are made.
# `kgen` are mostly elementwise, and those without a product among their steps are none.
_FUSION = re.compile(r"fusion$|^kgen$", re.IGNORECASE)
_STEPS_BEFORE = re.compile(r"__myl_(\w*?)(?:Fc|Gemm|MatMul|Bmm|Conv(?!e))")
FLOATS = {"Half", "FP16", "BFloat16", "BF16", "Float", "FP32"}
_PACKED = {"FP8", "Int4", "UInt8"}  # what a product may read instead: weights of four bits
_OTHERS = {"Bool", "Int32", "Int64"}  # masks, shapes
_FEWEST_ATTENTION_OPERANDS = 3  # query, key, value
_FEWEST_OPERANDS = 2  # of any other product


def is_fused_attention(layer: EngineLayer) -> bool:
    """Whether one kernel holds both products of an attention and the softmax between them."""
    return bool(_FUSED_ATTENTION.search(layer.name) or _FUSED_ATTENTION.search(layer.tactic))


def is_gemm(layer: EngineLayer) -> bool:
    """Whether it is a matrix product: not the elementwise kernels (`kgen`) around one.

    Those list the same ONNX nodes, because they hold the rescaling of its result; so may a fused
    kernel without a product among its steps.
    """
    if is_fused_attention(layer):
        return False
    if _FUSION.search(layer.type):
        return _steps_before_product(layer) is not None
    return bool(_GEMM_TYPE.search(layer.type))


def is_product(layer: EngineLayer) -> bool:
    """Whether it is one matrix product, or both of an attention."""
    return is_fused_attention(layer) or is_gemm(layer)


def multiplies_int8(layer: EngineLayer) -> bool | None:
    """True or False where the log decides it, None where it does not.

    1. The name of an INT8 kernel is proof. One that says in full that it is another proves that
       the operands do not tell all: INT8 ones then decide nothing.
    2. A fused kernel may read INT8 and still multiply floats: weights with scales on the reduction
       axis become `CastMulCastMulCastFc`, which dequantizes both operands before the product (Fc).
       Or it may read floats and quantize them itself (`Roun`), which its operands do not show.
    3. Otherwise the operands decide. Floats beside INT8 may be a bias or a residual, or the data of
       a product whose weights alone are INT8: not decided. Nor is anything by the rest where the
       type of one is missing ("N/A due to dynamic shapes"), or where one alone is listed.
    """
    if _INT8_KERNEL.search(layer.tactic):
        return True
    if _FUSION.search(layer.type) and (steps := _steps_before_product(layer)):
        return None if "Roun" in steps or "Cast" not in steps else False
    if not all(_is_known(operand) for operand in (*layer.inputs, *layer.constants)):
        return None
    inputs = [operand.datatype for operand in layer.inputs if _is_data(operand)]
    if "Int8" not in inputs:
        return False if inputs else None
    if NAMED_IN_FULL.search(layer.tactic):
        return None
    if is_fused_attention(layer):
        # A float operand beside three INT8 ones is an additive mask.
        few = inputs.count("Int8") < _FEWEST_ATTENTION_OPERANDS
        return None if few and set(inputs) != {"Int8"} else True
    constants = [operand.datatype for operand in layer.constants if _is_data(operand)]
    operands = inputs + constants
    return True if set(operands) == {"Int8"} and len(operands) >= _FEWEST_OPERANDS else None


def describe(layer: EngineLayer) -> str:
    """One phrase: the layer, its data types, its kernel."""
    inputs = "×".join(operand.datatype for operand in layer.inputs if _is_data(operand))
    outputs = ", ".join(operand.datatype for operand in layer.outputs)
    kernel = f" by {layer.tactic}" if layer.tactic else ""
    return f"{layer.type} {layer.name}: {inputs or 'nothing'} to {outputs or 'nothing'}{kernel}"


def _steps_before_product(layer: EngineLayer) -> str | None:
    """Abbreviated steps before the product, "" if it comes first, None if the name hides it."""
    found = _STEPS_BEFORE.search(layer.name)
    return found.group(1) if found else None


def _is_data(operand: Operand) -> bool:
    """Not a mask, a shape or one of the two scalars of a GEMM."""
    return not operand.is_scalar and operand.datatype in {"Int8"} | FLOATS | _PACKED


def _is_known(operand: Operand) -> bool:
    return operand.datatype in {"Int8"} | FLOATS | _PACKED | _OTHERS
