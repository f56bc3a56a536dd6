"""Quantizers that are missing, added, or in another place than in the trained model."""

from typing import Any

import numpy as np
import onnx_ir as ir

from nxmi_export.artefact import CPU_MODEL
from passes.constants import store
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Cause, Kind, Naming, drifted, stored
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    add_node,
    layer_of,
    node_of,
    pair_of,
    recoded,
    rescaled,
)
from samples.fault_injection.site import BOTH, Site

__all__ = ["FAULTS"]

UP = f"{BLOCK}.intermediate.dense"
NORM = f"{BLOCK}.attention.output.LayerNorm"


def _dropped(module: str, files: tuple[str, ...] = BOTH) -> Plant:
    def plant(site: Site) -> Naming:
        def edit(model: ir.Model) -> None:
            quantize, dequantize = pair_of(model, module)
            dequantize.outputs[0].replace_all_uses_with(quantize.inputs[0])
            model.graph.remove([dequantize, quantize], safe=True)

        site.edit(edit, *files)
        return stored(module, "quantizer", file=files[0], found="missing from the graph")

    return plant


def _added(site: Site) -> Naming:
    """Around the input of a GELU, which no placement quantizes."""
    module = f"{BLOCK}.intermediate.intermediate_act_fn"

    def edit(model: ir.Model) -> None:
        gelu = node_of(model, module, "Gelu")
        scale = store(model.graph, np.array(0.05, np.float32), "planted_scale")
        point = store(model.graph, np.array(0, np.int8), "planted_zero_point")
        codes = add_node(gelu, "QuantizeLinear", [gelu.inputs[0], scale, point])
        value = add_node(gelu, "DequantizeLinear", [codes, scale, point])
        gelu.replace_input_with(0, value)

    site.edit(edit)
    return stored(module, "quantizer", found="a QuantizeLinear")


def _residual_unquantized(site: Site) -> Naming:
    """The residual addition reads the norm itself, and the linears its codes as before."""

    def edit(model: ir.Model) -> None:
        quantize, dequantize = pair_of(model, f"{NORM}.output_quantizer")
        add = node_of(model, f"{BLOCK}.output", "Add")
        place = list(add.inputs).index(dequantize.outputs[0])
        add.replace_input_with(place, quantize.inputs[0])

    site.edit(edit)
    return drifted(Cause.SUM, f"{BLOCK}.output.LayerNorm", Kind.INPUT, maker=f"{BLOCK}.output")


def _moved(site: Site) -> Naming:
    """The quantizer of a linear's output is put before its bias."""
    module = f"{BLOCK}.output.dense"

    def edit(model: ir.Model) -> None:
        layer = layer_of(model, module)
        quantize, dequantize = pair_of(model, f"{module}.output_quantizer")
        assert layer.add is not None
        dequantize.outputs[0].replace_all_uses_with(layer.add.outputs[0])
        quantize.replace_input_with(0, layer.node.outputs[0])
        place = list(layer.add.inputs).index(layer.node.outputs[0])
        layer.add.replace_input_with(place, dequantize.outputs[0])
        model.graph.sort()

    site.edit(edit)
    return stored(f"{module}.output_quantizer", "quantizer")


def _float_fallback(files: tuple[str, ...] = BOTH) -> Plant:
    """One layer multiplies the floats that its codes stand for."""

    def plant(site: Site) -> Naming:
        def edit(model: ir.Model) -> None:
            layer = layer_of(model, UP)
            scale: Any = layer.weight.scale
            floats = (layer.weight.stored * scale).astype(np.float32)
            layer.node.replace_input_with(1, store(model.graph, floats, "planted_floats"))

        site.edit(edit, *files)
        return stored(UP, "storage", file=files[0], found="float32 values")

    return plant


def _wide_codes(site: Site) -> Naming:
    """All scales halved and the codes doubled: the same floats, but for those that saturate."""

    def edit(model: ir.Model) -> None:
        recoded(UP, lambda codes: np.clip(codes.astype(np.int16) * 2, -127, 127).astype(np.int8))(
            model
        )
        rescaled(UP, lambda scale: (scale / 2).astype(np.float32))(model)

    site.edit(edit)
    return stored(UP, "code")


FAULTS = (
    Fault(
        "quantizer of query dropped", "quantizers", _dropped(f"{ATTENTION}.query.output_quantizer")
    ),
    Fault(
        "quantizer of the softmax dropped",
        "quantizers",
        _dropped(f"{ATTENTION}.softmax_quantizer"),
    ),
    Fault(
        "input quantizer dropped, linear placement",
        "quantizers",
        _dropped(f"{BLOCK}.output.dense.input_quantizer"),
        Base.LINEAR,
    ),
    Fault(
        "quantizer dropped in the CPU file",
        "quantizers",
        _dropped(f"{BLOCK}.output.dense.output_quantizer", (CPU_MODEL,)),
    ),
    Fault("quantizer added before GELU", "quantizers", _added),
    Fault("residual reads the unquantized norm", "quantizers", _residual_unquantized),
    Fault("quantizer moved before the bias", "quantizers", _moved),
    Fault("float fallback of one layer", "quantizers", _float_fallback()),
    Fault("float fallback in the CPU file", "quantizers", _float_fallback((CPU_MODEL,))),
    Fault("codes saturated on half the scale", "quantizers", _wide_codes),
)
