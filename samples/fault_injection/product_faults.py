"""Integer products of `model.cpu.onnx` that are not those of the portable file."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from nxmi_export.artefact import CPU_MODEL
from passes.spell_out_products import PRODUCT
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Naming, stored
from samples.fault_injection.places import ATTENTION, BLOCK, Change, change_input, node_of
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

DENSE = f"{BLOCK}.attention.output.dense"
UP = f"{BLOCK}.intermediate.dense"
KEY, VALUE = (f"{ATTENTION}.{part}" for part in ("key", "value"))
CODES, WEIGHT, CODES_SCALE, WEIGHT_SCALE, CODES_POINT, WEIGHT_POINT, BIAS = range(7)  # its inputs


def _input(module: str, index: int, change: Change, naming: Naming) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(
            lambda model: change_input(node_of(model, module, PRODUCT), index, change), CPU_MODEL
        )
        return naming

    return plant


def _exchanged(index: int, what: str) -> Plant:
    """An input of the products of key and value, of one shape."""

    def plant(site: Site) -> Naming:
        def edit(model: ir.Model) -> None:
            one, other = (node_of(model, module, PRODUCT) for module in (KEY, VALUE))
            mine, theirs = one.inputs[index], other.inputs[index]
            one.replace_input_with(index, theirs)
            other.replace_input_with(index, mine)

        site.edit(edit, CPU_MODEL)
        return stored(KEY, what, file=CPU_MODEL)

    return plant


def _bias_dropped(site: Site) -> Naming:
    site.edit(lambda model: node_of(model, UP, PRODUCT).resize_inputs(BIAS), CPU_MODEL)
    return stored(UP, "bias", file=CPU_MODEL, found="missing")


def _flipped(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array[tuple(np.argwhere(array)[0])] ^= 1
    return array


def _percent(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return (array * np.float32(1.01)).astype(np.float32)


def _fifth(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.reshape(-1)[5] = 1
    return array


def _of_product(name: str, plant: Plant) -> Fault:
    return Fault(f"integer product: {name}", "products", plant, Base.PRODUCTS)


FAULTS = (
    _of_product(
        "one code flipped", _input(UP, WEIGHT, _flipped, stored(UP, "code", file=CPU_MODEL))
    ),
    _of_product(
        "weight transposed",
        _input(DENSE, WEIGHT, np.transpose, stored(DENSE, "code", file=CPU_MODEL)),
    ),
    _of_product("weights of key and value exchanged", _exchanged(WEIGHT, "code")),
    _of_product(
        "weight scales off by 1 %",
        _input(UP, WEIGHT_SCALE, _percent, stored(UP, "scale", file=CPU_MODEL)),
    ),
    _of_product(
        "a zero-point of the weight",
        _input(
            UP,
            WEIGHT_POINT,
            _fifth,
            stored(UP, "zero-point", file=CPU_MODEL, position=(5,), found=1),
        ),
    ),
    _of_product(
        "scale of the codes off by 1 %",
        _input(UP, CODES_SCALE, _percent, stored(f"{UP}.input_quantizer", "pair", file=CPU_MODEL)),
    ),
    _of_product(
        "zero-point of the codes off by 3",
        _input(
            UP,
            CODES_POINT,
            lambda point: (point + 3).astype(point.dtype),
            stored(f"{UP}.input_quantizer", "pair", file=CPU_MODEL),
        ),
    ),
    _of_product("bias off by 1 %", _input(UP, BIAS, _percent, stored(UP, "bias", file=CPU_MODEL))),
    _of_product("biases of key and value exchanged", _exchanged(BIAS, "bias")),
    _of_product("bias dropped", _bias_dropped),
)
