"""Scales and zero-points that are not those that were trained."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from nxmi_export.artefact import CPU_MODEL
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Naming, stored
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    Change,
    change_input,
    layer_of,
    pair_of,
    quantizer_changed,
    rescaled,
)
from samples.fault_injection.site import BOTH, Site

__all__ = ["FAULTS"]

UP = f"{BLOCK}.intermediate.dense"
GELU_OUT = f"{BLOCK}.output.dense.input_quantizer"
QUERY, KEY = (f"{ATTENTION}.{part}.output_quantizer" for part in ("query", "key"))
SOFTMAX = f"{ATTENTION}.softmax_quantizer"


def _ulp(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.reshape(-1)[0] = np.nextafter(array.reshape(-1)[0], np.float32(np.inf))
    return array


def _percent(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return (array * np.float32(1.01)).astype(np.float32)


def _weight_scale(change: Change) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(rescaled(UP, change))
        return stored(UP, "scale", position=(0,))

    return plant


def _activation_scale(module: str, change: Change) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(quantizer_changed(module, 1, change))
        return stored(module, "scale")

    return plant


def _exchanged(site: Site) -> Naming:
    """The scales of query and key."""

    def edit(model: ir.Model) -> None:
        scales = [pair_of(model, module)[0].inputs[1] for module in (QUERY, KEY)]
        for module, scale in zip((QUERY, KEY), reversed(scales), strict=True):
            for node in pair_of(model, module):
                node.replace_input_with(1, scale)

    site.edit(edit)
    return stored(QUERY, "scale")


def _one_side(node: int) -> Plant:
    """Only the QuantizeLinear (0) or the DequantizeLinear (1) is changed."""

    def plant(site: Site) -> Naming:
        site.edit(lambda model: change_input(pair_of(model, GELU_OUT)[node], 1, _percent))
        return stored(GELU_OUT, "scale" if node == 0 else "pair")

    return plant


def _zero_point(module: str, files: tuple[str, ...] = BOTH) -> Plant:
    def plant(site: Site) -> Naming:
        edit = quantizer_changed(module, 2, lambda point: (point + 3).astype(point.dtype))
        site.edit(edit, *files)
        return stored(module, "zero-point", file=files[0])

    return plant


def _weight_zero_point(site: Site) -> Naming:
    def edit(model: ir.Model) -> None:
        dequantize = layer_of(model, UP).weight.dequantize
        assert dequantize is not None

        def change(point: npt.NDArray[Any]) -> npt.NDArray[Any]:
            point.reshape(-1)[5] = 1
            return point

        change_input(dequantize.node, 2, change)

    site.edit(edit)
    return stored(UP, "zero-point", position=(5,), found=1)


def _axis(site: Site) -> Naming:
    """A square weight whose scales lie on the reduction axis."""
    module = f"{BLOCK}.attention.output.dense"

    def edit(model: ir.Model) -> None:
        dequantize = layer_of(model, module).weight.dequantize
        assert dequantize is not None
        axis = dequantize.node.attributes.get_int("axis", 1)
        dequantize.node.attributes["axis"] = ir.AttrInt64("axis", 1 - axis)

    site.edit(edit)
    return stored(module, "axis of the scale")


def _single(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.full_like(array, array.max())


FAULTS = (
    Fault("weight scale off by one ulp", "scales", _weight_scale(_ulp)),
    Fault("weight scales off by 1 %", "scales", _weight_scale(_percent)),
    Fault("weight scales permuted", "scales", _weight_scale(lambda s: np.roll(s, 1))),
    Fault("one scale for a whole weight", "scales", _weight_scale(_single)),
    Fault("weight scales on the reduction axis", "scales", _axis),
    Fault("activation scale off by one ulp", "scales", _activation_scale(GELU_OUT, _ulp)),
    Fault("activation scale off by 1 %", "scales", _activation_scale(GELU_OUT, _percent)),
    Fault("scales of query and key exchanged", "scales", _exchanged),
    Fault(
        "scales of query and key exchanged, attention placement",
        "scales",
        _exchanged,
        Base.ATTENTION,
    ),
    Fault(
        "softmax scale 1/128",
        "scales",
        _activation_scale(SOFTMAX, lambda s: np.full_like(s, 1 / 128)),
    ),
    Fault(
        "softmax scale 1/255, attention placement",
        "scales",
        _activation_scale(SOFTMAX, lambda s: np.full_like(s, 1 / 255)),
        Base.ATTENTION,
    ),
    Fault("QuantizeLinear alone off by 1 %", "scales", _one_side(0)),
    Fault("DequantizeLinear alone off by 1 %", "scales", _one_side(1)),
    Fault("activation zero-point off by 3", "scales", _zero_point(GELU_OUT)),
    Fault(
        "activation zero-point of the CPU file off by 3",
        "scales",
        _zero_point(GELU_OUT, (CPU_MODEL,)),
    ),
    Fault("weight zero-point of one channel is 1", "scales", _weight_zero_point),
)
