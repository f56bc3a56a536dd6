"""Reading a graph as attentions: each softmax between two products of activations."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from passes.linear_layers import attention_matmuls
from passes.lint.walk import MOVERS, ancestors, descendants, producer

__all__ = ["Attention", "attentions"]

_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Between the product of queries and keys and the softmax: scaling, mask, bias.
_BEFORE = MOVERS | _PAIR | {"Add", "Cast", "Div", "Max", "Mul", "Sub", "Where"}
# Between the softmax and the product with the values: dropout, mask, guard.
_AFTER = MOVERS | _PAIR | {"Cast", "Dropout", "Mul", "Where"}


@dataclass(frozen=True)
class Attention:
    """`softmax(q kᵀ) v` in a graph."""

    scores: ir.Node  # q kᵀ
    softmax: ir.Node
    context: ir.Node  # probabilities × v
    guard: ir.Node | None  # the Where that replaces NaN after the softmax

    @property
    def operands(self) -> dict[str, ir.Value | None]:
        """What the two products multiply."""
        return {
            "query": self.scores.inputs[0],
            "key": self.scores.inputs[1],
            "probabilities": self.context.inputs[0],
            "value": self.context.inputs[1],
        }

    @property
    def head_size(self) -> int | None:
        """Channels per head, where the graph says."""
        query, key = self.scores.inputs
        sides = (
            (query, -1),
            (key, -2),
            (self.context.inputs[1], -1),
            (self.context.outputs[0], -1),
        )
        for value, side in sides:
            shape = () if value is None or value.shape is None else tuple(value.shape)
            if len(shape) > 1 and isinstance(size := shape[side], int):
                return size
        return None

    @property
    def score_quantizers(self) -> tuple[ir.Node, ...]:
        """Every QuantizeLinear between the first product and the softmax."""
        behind = ancestors(self.softmax.inputs[0], _BEFORE)
        ahead = set(descendants(self.scores.outputs[0], _BEFORE))
        return tuple(n for n in behind if n.op_type == "QuantizeLinear" and n in ahead)


def attentions(model: ir.Model) -> Iterator[Attention]:
    """Every attention of the model, in the order of its softmax."""
    for graph in model.graphs():
        products = set(attention_matmuls(graph))
        for softmax in graph:
            if softmax.op_type != "Softmax" or softmax.domain:
                continue
            behind = ancestors(softmax.inputs[0], _BEFORE)
            scores = next((node for node in behind if node in products), None)
            ahead = tuple(descendants(softmax.outputs[0], _AFTER))
            context = next((node for node in ahead if node in products), None)
            if scores is not None and context is not None:
                yield Attention(scores, softmax, context, _guard(ahead))


def _guard(ahead: tuple[ir.Node, ...]) -> ir.Node | None:
    for node in ahead:
        condition = producer(node.inputs[0]) if node.op_type == "Where" else None
        if condition is not None and condition.op_type == "IsNaN":
            return node
    return None
