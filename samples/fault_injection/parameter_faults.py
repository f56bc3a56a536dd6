"""Biases, norms and embedding tables that are not those that were trained."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from nxmi_export.errors import ShapeError
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Naming, refused, stored
from samples.fault_injection.observe import unread_token
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    NEXT,
    POSITIONS,
    TYPES,
    WORDS,
    Change,
    change_input,
    layer_of,
    node_of,
    recoded,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

NORM = f"{NEXT}.output.LayerNorm"
VALUE = f"{ATTENTION}.value"


def _bias(module: str, change: Change) -> Plant:
    def plant(site: Site) -> Naming:
        def edit(model: ir.Model) -> None:
            layer = layer_of(model, module)
            if layer.add is None:
                change_input(layer.node, 2, change)
            else:
                change_input(layer.add, list(layer.add.inputs).index(layer.bias), change)

        site.edit(edit)
        return stored(module, "bias")

    return plant


def _bias_dropped(site: Site) -> Naming:
    def edit(model: ir.Model) -> None:
        layer = layer_of(model, VALUE)
        assert layer.add is not None
        layer.add.outputs[0].replace_all_uses_with(layer.node.outputs[0])
        model.graph.remove(layer.add, safe=True)

    site.edit(edit)
    return stored(VALUE, "bias", found="missing")


def _float_weight(module: str, change: Change) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(recoded(module, change))
        return stored(module, "weight", position=(0, 0))

    return plant


def _norm(index: int, what: str, change: Change) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(
            lambda model: change_input(node_of(model, NORM, "LayerNormalization"), index, change)
        )
        return stored(NORM, f"norm {what}")

    return plant


def _epsilon(site: Site) -> Naming:
    def edit(model: ir.Model) -> None:
        norm = node_of(model, NORM, "LayerNormalization")
        norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)

    site.edit(edit)
    return stored(NORM, "norm epsilon", found="1e-05")


def _table(module: str, change: Change) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(lambda model: change_input(node_of(model, module, "Gather"), 0, change))
        return stored(module, "embedding")

    return plant


def _truncated(site: Site) -> Naming:
    """The last row of the vocabulary is missing, which no review needs, and a probe does."""
    site.edit(
        lambda model: change_input(node_of(model, WORDS, "Gather"), 0, lambda rows: rows[:-1])
    )
    return refused(f"to be looked up by {WORDS} (Gather", found=" in input_ids", error=ShapeError)


def _cut_short(site: Site) -> Naming:
    """Words that the reviews hold are missing."""
    site.edit(lambda model: change_input(node_of(model, WORDS, "Gather"), 0, lambda rows: rows[:8]))
    return refused(f"to be looked up by {WORDS} (Gather", found=" in input_ids", error=ShapeError)


def _unread_row(site: Site) -> Naming:
    """Of a token that the tokenizer has, and no text of the dev set."""
    row = unread_token(site.directory, site.projects)

    def change(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows[row] += 1
        return rows

    site.edit(lambda model: change_input(node_of(model, WORDS, "Gather"), 0, change))
    return stored(WORDS, "embedding", position=(row, 0))


def _table_code(site: Site) -> Naming:
    def edit(model: ir.Model) -> None:
        def change(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
            codes[7, 3] ^= 1
            return codes

        gather = node_of(model, WORDS, "Gather")
        source = gather.inputs[0]
        assert source is not None
        producer = source.producer()
        change_input(gather if producer is None else producer, 0, change)

    site.edit(edit)
    return stored(WORDS, "code", position=(7, 3))


def _exchanged_rows(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows[np.r_[0, 2, 1, 3 : len(rows)]]


FAULTS = (
    Fault(
        "bias off by one ulp",
        "parameters",
        _bias(f"{BLOCK}.intermediate.dense", lambda b: np.nextafter(b, np.float32(9))),
    ),
    Fault(
        "bias of another scale",
        "parameters",
        _bias(f"{BLOCK}.output.dense", lambda b: b * np.float32(2)),
    ),
    Fault("bias dropped", "parameters", _bias_dropped),
    Fault(
        "norm weight off by 1 %", "parameters", _norm(1, "weight", lambda w: w * np.float32(1.01))
    ),
    Fault(
        "norm bias rotated by a channel", "parameters", _norm(2, "bias", lambda b: np.roll(b, 1))
    ),
    Fault("epsilon of a norm 1e-5", "parameters", _epsilon),
    Fault(
        "word embedding off by one row",
        "parameters",
        _table(WORDS, lambda t: np.roll(t, 1, axis=0)),
    ),
    Fault("two position rows exchanged", "parameters", _table(POSITIONS, _exchanged_rows)),
    Fault("token types exchanged", "parameters", _table(TYPES, lambda t: t[::-1])),
    Fault("last vocabulary row truncated", "parameters", _truncated),
    Fault("row of a token that no text has", "parameters", _unread_row),
    Fault("vocabulary truncated to eight rows", "parameters", _cut_short),
    Fault("one code of an INT8 table flipped", "parameters", _table_code, Base.TABLES),
    Fault(
        "classifier's rows exchanged", "parameters", _float_weight("classifier", lambda w: w[::-1])
    ),
    Fault(
        "pooler off by 1 %",
        "parameters",
        _float_weight("bert.pooler.dense", lambda w: w * np.float32(1.01)),
    ),
)
