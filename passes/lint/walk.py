"""Steps through a graph: towards what a value was made from, and towards what it becomes."""

from collections.abc import Collection, Iterator

import onnx_ir as ir

from passes.constants import readers
from passes.quantizers import is_dequantize, is_quantize

__all__ = ["MOVERS", "ancestors", "descendants", "producer", "quantize_behind", "walk_back"]

# Operators that move numbers and change none: TensorRT pulls Q and DQ through them.
MOVERS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def producer(value: ir.Value | None) -> ir.Node | None:
    """The node that computes `value`, if any."""
    return None if value is None else value.producer()


def walk_back(value: ir.Value | None, through: Collection[str]) -> ir.Value | None:
    """Follow first inputs through the operators named; the value that none of them computes."""
    while (node := producer(value)) is not None and not node.domain and node.op_type in through:
        value = node.inputs[0]
    return value


def quantize_behind(value: ir.Value | None) -> ir.Node | None:
    """The QuantizeLinear of the pair that `value` comes from, through what only moves it."""
    dequantize = producer(walk_back(value, MOVERS))
    if dequantize is None or not is_dequantize(dequantize):
        return None
    quantize = producer(walk_back(dequantize.inputs[0], MOVERS))
    return quantize if is_quantize(quantize) else None


def ancestors(value: ir.Value | None, through: Collection[str]) -> Iterator[ir.Node]:
    """Nodes behind `value`, nearest first, not looking behind one that `through` does not name."""
    waiting, seen = [value], set()
    while waiting:
        node = producer(waiting.pop(0))
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node.op_type in through and not node.domain:
            waiting.extend(node.inputs)


def descendants(value: ir.Value, through: Collection[str]) -> Iterator[ir.Node]:
    """Nodes that read `value`, nearest first, looking past those that `through` names."""
    waiting, seen = [value], set()
    while waiting:
        for node in readers(waiting.pop(0)):
            if node in seen:
                continue
            seen.add(node)
            yield node
            if node.op_type in through and not node.domain:
                waiting.extend(node.outputs)
