"""Changes that leave every bit of every output as it was, each with the reason why."""

from typing import Any

import numpy as np
import onnx_ir as ir

from samples.fault_injection.fault import Fault, Plant
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    EMBEDDINGS,
    add_node,
    change_input,
    node_of,
    pair_of,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

NORM = f"{BLOCK}.output.LayerNorm"
QUANTIZER = f"{ATTENTION}.query.output_quantizer"


def _planted(edit: Any) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.edit(edit)
        return ()

    return plant


def _mask_of_ten_thousand(model: ir.Model) -> None:
    softmax = node_of(model, ATTENTION, "Softmax")
    add = softmax.inputs[0].producer()  # type: ignore[union-attr]
    assert add is not None
    where = next(
        value.producer()
        for value in add.inputs
        if value is not None and getattr(value.producer(), "op_type", "") == "Where"
    )
    assert where is not None
    change_input(where, 2, lambda array: np.full_like(array, -10000.0))


def _smaller_epsilon(model: ir.Model) -> None:
    node_of(model, NORM, "LayerNormalization").attributes["epsilon"] = ir.AttrFloat32(
        "epsilon", 1e-13
    )


def _quantized_twice(model: ir.Model) -> None:
    quantize, dequantize = pair_of(model, QUANTIZER)
    readers = list(dequantize.outputs[0].uses())
    codes = add_node(
        readers[0].node, "QuantizeLinear", [dequantize.outputs[0], *quantize.inputs[1:]]
    )
    again = add_node(readers[0].node, "DequantizeLinear", [codes, *quantize.inputs[1:]])
    for use in readers:
        use.node.replace_input_with(use.idx, again)
    model.graph.sort()


def _saturate(model: ir.Model) -> None:
    pair_of(model, QUANTIZER)[0].attributes["saturate"] = ir.AttrInt64("saturate", 0)


def _unread_row(model: ir.Model) -> None:
    """A row of the vocabulary that no text is encoded with."""
    gather = node_of(model, f"{EMBEDDINGS}.word_embeddings", "Gather")

    def change(rows: Any) -> Any:
        rows[-1] += 1
        return rows

    change_input(gather, 0, change)


FAULTS = (
    Fault(
        "padding hidden by -10000",
        "equivalent",
        _planted(_mask_of_ten_thousand),
        proof=(
            "Scores of this model stay below 1 000, so a hidden key's lies more than 104 below its "
            "row's maximum, and exp of that is 0 in float32, as it is for the lowest float: the "
            "sum and every probability keep their bits. Every row has a real key."
        ),
    ),
    Fault(
        "epsilon of a norm 1e-13",
        "equivalent",
        _planted(_smaller_epsilon),
        proof=(
            "1e-12 and 1e-13 are less than half an ulp of a float32 variance above 4e-5, so that "
            "variance + epsilon is the variance; what the norm reads varies by far more."
        ),
    ),
    Fault(
        "quantized twice",
        "equivalent",
        _planted(_quantized_twice),
        proof=(
            "Quantization is idempotent: c·s / s rounds to c for every code, since product and "
            "quotient err by less than 128·2⁻²³ together, and saturation keeps c."
        ),
    ),
    Fault(
        "saturate=0 of a QuantizeLinear",
        "equivalent",
        _planted(_saturate),
        proof="ONNX QuantizeLinear: the attribute is of float8 alone; integers always saturate.",
    ),
    Fault(
        "a row of the vocabulary that no text has",
        "equivalent",
        _planted(_unread_row),
        proof=(
            "Gather reads the rows of its indices alone, and no token of the tokenizer has this id."
        ),
    ),
)
