"""Stored integers of linear layers that are not those that were trained."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from nxmi_export.artefact import CPU_MODEL, MODEL
from passes.constants import store
from samples.fault_injection.fault import Fault, Plant
from samples.fault_injection.naming import Naming, stored
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    NEXT,
    add_node,
    codes_of,
    layer_of,
    recoded,
)
from samples.fault_injection.site import BOTH, Site

__all__ = ["FAULTS"]

KEY = f"{NEXT}.attention.self.key"
QUERY = f"{ATTENTION}.query"
DOWN = f"{BLOCK}.output.dense"
DENSE = f"{BLOCK}.attention.output.dense"
GROUP = 4  # of 2:4
CLIP = 0.02


def _flip(site: Site, files: tuple[str, ...] = BOTH) -> Naming:
    """The lowest bit of the first code that is not zero, so that the pattern holds."""
    codes = codes_of(site.read(), KEY)
    at = tuple(map(int, np.argwhere(codes)[0]))

    def change(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array[at] ^= 1
        return array

    site.edit(recoded(KEY, change), *files)
    return stored(KEY, "code", file=files[0], position=at, found=codes[at] ^ 1)


def _flip_shared(site: Site) -> Naming:
    """In the file of weights, which both graphs read."""
    layer = layer_of(site.read(), DOWN)
    codes = layer.weight.stored.copy()
    at = tuple(map(int, np.argwhere(codes)[-1]))
    before, codes[at] = codes[at], -codes[at]
    site.overwrite(layer.weight.constant, codes)
    row, column = at if layer.weight.reduction_axis == 1 else at[::-1]
    return stored(DOWN, "code", position=(row, column), found=-before)


def _third_in_group(site: Site) -> Naming:
    codes = codes_of(site.read(), QUERY)
    row, column = map(int, np.argwhere(codes == 0)[0])

    def change(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array[row, column] = 3
        return array

    site.edit(recoded(QUERY, change))
    return stored(QUERY, "code", position=(row, column), found=3)


def _other_places(site: Site) -> Naming:
    """2:4 still holds, with the weights of a group in other places."""

    def change(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        groups = array.reshape(len(array), -1, GROUP)
        return np.ascontiguousarray(np.roll(groups, 1, axis=2)).reshape(array.shape)

    site.edit(recoded(DOWN, change))
    return stored(DOWN, "code")


def _changed(module: str, change: Any) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(recoded(module, change))
        return stored(module, "code")

    return plant


def _exchanged(one: str, other: str) -> Plant:
    """The codes and scales of two layers of one shape."""

    def plant(site: Site) -> Naming:
        def edit(model: Any) -> None:
            first, second = (layer_of(model, name).weight.path[0] for name in (one, other))
            for index in (0, 1):
                mine, theirs = first.inputs[index], second.inputs[index]
                first.replace_input_with(index, theirs)
                second.replace_input_with(index, mine)

        site.edit(edit)
        return stored(one, "code")

    return plant


def _permuted(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array[np.r_[1, 0, 2 : len(array)]]


def _head_moved(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of one head in the place of the next, as a wrong reshape of heads stores them."""
    return np.roll(array, len(array) // 4, axis=0)


def _clipped(site: Site) -> Naming:
    """What is stored is right, and something else is multiplied."""

    def edit(model: ir.Model) -> None:
        layer = layer_of(model, DOWN)
        read = layer.node.inputs[1]
        assert read is not None
        limits = (store(model.graph, np.float32(x), f"planted_{x}") for x in (-CLIP, CLIP))
        clipped = add_node(layer.node, "Clip", [read, *limits])
        layer.node.replace_input_with(1, clipped)

    site.edit(edit)
    return stored(DOWN, "way to the product", found="DequantizeLinear → Clip")


FAULTS = (
    Fault("one code flipped in model.onnx", "weights", lambda s: _flip(s, files=(MODEL,))),
    Fault("one code flipped in model.cpu.onnx", "weights", lambda s: _flip(s, files=(CPU_MODEL,))),
    Fault("one code flipped in both graphs", "weights", _flip),
    Fault("one code negated in the file of weights", "weights", _flip_shared),
    Fault("three non-zeros in a 2:4 group", "weights", _third_in_group),
    Fault("2:4 kept, the places in a group others", "weights", _other_places),
    Fault("square weight transposed", "weights", _changed(DENSE, np.transpose)),
    Fault("two output channels exchanged", "weights", _changed(DOWN, _permuted)),
    Fault("query's heads in another order", "weights", _changed(QUERY, _head_moved)),
    Fault("codes halved, as for INT7", "weights", _changed(KEY, lambda codes: codes // 2)),
    Fault("weights clipped behind their scale", "weights", _clipped),
    Fault("query's and key's weights exchanged", "weights", _exchanged(QUERY, f"{ATTENTION}.key")),
    Fault(
        "weights of another layer",
        "weights",
        _exchanged(f"{BLOCK}.intermediate.dense", f"{NEXT}.intermediate.dense"),
    ),
)
