"""Biases, norms and embedding tables that are not those that were trained."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    EMBEDDINGS,
    NEXT,
    Change,
    change_input,
    layer_of,
    node_of,
    recoded,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

WORDS, POSITIONS, TYPES = (
    f"{EMBEDDINGS}.{part}_embeddings" for part in ("word", "position", "token_type")
)
NORM = f"{NEXT}.output.LayerNorm"
VALUE = f"{ATTENTION}.value"


def _bias(module: str, change: Change) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        def edit(model: ir.Model) -> None:
            layer = layer_of(model, module)
            if layer.add is None:
                change_input(layer.node, 2, change)
            else:
                change_input(layer.add, list(layer.add.inputs).index(layer.bias), change)

        site.edit(edit)
        return (f"{module}: bias at [",)

    return plant


def _bias_dropped(site: Site) -> tuple[str, ...]:
    def edit(model: ir.Model) -> None:
        layer = layer_of(model, VALUE)
        assert layer.add is not None
        layer.add.outputs[0].replace_all_uses_with(layer.node.outputs[0])
        model.graph.remove(layer.add, safe=True)

    site.edit(edit)
    return (f"{VALUE}: bias is missing",)


def _float_weight(module: str, change: Change) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.edit(recoded(module, change))
        return (f"{module}: weight at [0, 0] is ",)

    return plant


def _norm(index: int, what: str, change: Change) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.edit(
            lambda model: change_input(node_of(model, NORM, "LayerNormalization"), index, change)
        )
        return (f"{NORM}: norm {what} at [",)

    return plant


def _epsilon(site: Site) -> tuple[str, ...]:
    def edit(model: ir.Model) -> None:
        norm = node_of(model, NORM, "LayerNormalization")
        norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)

    site.edit(edit)
    return (f"{NORM}: norm epsilon is 1e-05, not 1e-12",)


def _table(module: str, change: Change) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.edit(lambda model: change_input(node_of(model, module, "Gather"), 0, change))
        return (f"{module}: embedding at [",)

    return plant


def _truncated(site: Site) -> tuple[str, ...]:
    """The last rows of the vocabulary are missing, which no review needs."""
    site.edit(
        lambda model: change_input(node_of(model, WORDS, "Gather"), 0, lambda rows: rows[:-1])
    )
    return (f"{WORDS}: shape of embedding is ",)


def _cut_short(site: Site) -> tuple[str, ...]:
    """Words that the reviews hold are missing."""
    site.edit(lambda model: change_input(node_of(model, WORDS, "Gather"), 0, lambda rows: rows[:8]))
    return (f"{WORDS}/Gather", "out of data bounds")


def _table_code(site: Site) -> tuple[str, ...]:
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
    return (f"{WORDS}: code at [7, 3] is ",)


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
