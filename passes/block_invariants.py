"""Statements about weights that are packed in blocks; each names the layer where it is false."""

from collections.abc import Collection

import onnx_ir as ir

from passes.contract import Invariant
from passes.errors import InvariantViolated
from passes.linear_layers import LinearLayer, linear_layers

__all__ = ["expected_layers_are_int4_blocks"]


def expected_layers_are_int4_blocks(modules: Collection[str], block_size: int) -> Invariant:
    """Every module of `modules` is there as a linear layer with a float input and INT4 codes, of
    which each `block_size` inputs have a scale and no zero-point but 0.
    """

    def check(model: ir.Model) -> None:
        seen = set()
        for layer in (each for graph in model.graphs() for each in linear_layers(graph)):
            if layer.module in modules:
                seen.add(layer.module)
                if found := _other_storage(layer, block_size):
                    raise _violated(layer.module, block_size, found)
        for module in modules:
            if module not in seen:
                raise _violated(module, block_size, "no linear layer of that module")

    return Invariant("expected_layers_are_int4_blocks", check)


def _other_storage(layer: LinearLayer, block_size: int) -> str:
    """What is not as it should be, or nothing."""
    weight = layer.weight
    if weight.dequantize is None or not weight.is_int4:
        return f"{weight.stored.dtype} values"
    if weight.block != block_size or weight.scale_axis != weight.reduction_axis:
        return f"blocks of {weight.block} along axis {weight.scale_axis}"
    point = weight.dequantize.zero_point
    if point is None or point.any():
        return "a zero-point other than 0"
    return "a quantized input" if layer.input_quantizer is not None else ""


def _violated(module: str, block_size: int, found: str) -> InvariantViolated:
    return InvariantViolated(
        module,
        expected=f"INT4 codes in blocks of {block_size} inputs beside a float input",
        found=found,
        remedy="run PackInt4Blocks on the graph",
    )
