"""2:4 that brings nothing."""

import numpy as np
import onnx_ir as ir

from passes import linear_layers
from passes.lint.fixes.parameters import replace_constant
from passes.sparsity import SPARSITY_KEY
from samples.bad_graphs.bad_graph import BadGraph
from samples.bad_graphs.places import (
    DENSE,
    QUERY,
    UP,
    dequantize_of,
    drop_pair,
    layer_of,
    node_of,
    pair_of,
)

__all__ = ["GRAPHS"]


def _broken_stamp(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 0, layer.weight.stored | 1)


def _sparse_along_outputs(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 0, np.ascontiguousarray(layer.weight.stored.T))
    layer.node.metadata_props.pop(SPARSITY_KEY)


def _float_residual(model: ir.Model) -> None:
    norm = layer_of(model, QUERY).input_quantizer.inputs[0].producer().inputs[0]
    quantized = pair_of(model, f"{DENSE}.output_quantizer")[1].outputs[0]
    (use,) = quantized.uses()
    use.node.replace_input_with(1 - use.idx, norm)


def _small_layers(model: ir.Model) -> None:
    up = layer_of(model, UP)
    gelu = node_of(model, "Gelu")
    ahead = gelu.outputs[0].uses()[0].node.outputs[0].uses()[0].node
    down = next(layer for layer in linear_layers(model.graph) if layer.input_quantizer is ahead)
    for index, array in enumerate((up.weight.stored[:, :128], up.weight.scale[:128])):
        replace_constant(dequantize_of(up), index, array)
    replace_constant(dequantize_of(up), 2, np.zeros(128, np.int8))
    replace_constant(up.add, 1, up.bias.const_value.numpy()[:128])
    replace_constant(dequantize_of(down), 0, down.weight.stored[:128])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None if value.name not in {"logits"} else value.shape


_IGNORED = "TensorRT-RTX ignores 2:4, so that its kernels do not tell"

GRAPHS = (
    BadGraph("sparsity-stamp", _broken_stamp, unseen=_IGNORED),
    BadGraph("sparsity-along-outputs", _sparse_along_outputs, unseen=_IGNORED),
    BadGraph(
        "missing-int8-output",
        lambda model: drop_pair(model, f"{DENSE}.output_quantizer"),
        unseen=_IGNORED,
    ),
    BadGraph("float-residual", _float_residual, unseen=_IGNORED),
    BadGraph("small-sparse-layer", _small_layers),
)
