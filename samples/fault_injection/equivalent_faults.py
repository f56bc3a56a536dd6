"""Changes that leave every bit of every output as it was, each with the reason why."""

from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from samples.fault_injection.fault import Fault, Plant, Proof
from samples.fault_injection.naming import UNSEEN, Naming, stored
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    WORDS,
    add_node,
    change_input,
    node_of,
    pair_of,
)
from samples.fault_injection.premises import (
    codes_survive,
    integer_codes,
    scores_leave_room,
    token_is_none,
    variance_hides_epsilon,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

LOWEST = -10000.0
NORM = f"{BLOCK}.output.LayerNorm"
QUANTIZER = f"{ATTENTION}.query.output_quantizer"


def _planted(edit: Any, naming: Naming = UNSEEN) -> Plant:
    """`naming` is what the gate says of a stored number that no output shows, if it says it."""

    def plant(site: Site) -> Naming:
        site.edit(edit)
        return naming

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
    change_input(where, 2, lambda array: np.full_like(array, LOWEST))


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
    gather = node_of(model, WORDS, "Gather")

    def change(rows: Any) -> Any:
        rows[-1] += 1
        return rows

    change_input(gather, 0, change)


FAULTS = (
    Fault(
        "padding hidden by -10000",
        "equivalent",
        _planted(_mask_of_ten_thousand),
        proof=Proof(
            "A hidden key's score lies more than 104 below its row's maximum, and exp of that is 0 "
            "in float32, as it is for the lowest float: the sum and every probability keep their "
            "bits.",
            partial(scores_leave_room, lowest=LOWEST),
        ),
    ),
    Fault(
        "epsilon of a norm 1e-13",
        "equivalent",
        _planted(_smaller_epsilon, stored(NORM, "norm epsilon", found="1e-13")),
        proof=Proof(
            "1e-12 and 1e-13 are less than half an ulp of every float32 variance that the norm "
            "reads, so that variance + epsilon is the variance.",
            partial(variance_hides_epsilon, norm=NORM, epsilon=1e-12),
        ),
    ),
    Fault(
        "quantized twice",
        "equivalent",
        _planted(_quantized_twice, stored(ATTENTION, "quantizer", found="a QuantizeLinear")),
        proof=Proof(
            "Quantization is idempotent: c·s / s rounds to c, for every code of this scale.",
            partial(codes_survive, quantizer=QUANTIZER),
        ),
    ),
    Fault(
        "saturate=0 of a QuantizeLinear",
        "equivalent",
        _planted(_saturate),
        proof=Proof(
            "ONNX QuantizeLinear: the attribute is of float8 alone; integers always saturate.",
            partial(integer_codes, quantizer=QUANTIZER),
        ),
    ),
    Fault(
        "a row of the vocabulary that no text can have",
        "equivalent",
        _planted(_unread_row, stored(WORDS, "embedding")),
        proof=Proof(
            "Gather reads the rows of its indices alone, and no token of the tokenizer has this "
            "id.",
            token_is_none,
        ),
    ),
)
