"""Values of a graph in, the same values in the other float type out; each is made once."""

import numpy as np
import onnx_ir as ir

from passes.constants import constant, free_name, store
from passes.float16_invariants import LARGEST, MASK
from passes.float_regions import is_mask
from passes.provenance import MODULE_KEY

__all__ = ["Casts", "as_float16", "hides"]

_TYPE = {"float16": ir.DataType.FLOAT16, "float32": ir.DataType.FLOAT}


class Casts:
    """The casts of one graph. A cast stands right behind what it casts, in the same module."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._halves: dict[ir.Value, ir.Value] = {}
        self._wholes: dict[ir.Value, ir.Value] = {}

    def half(self, value: ir.Value) -> ir.Value:
        """`value` in float16: constants are stored again, a mask is chosen again, others cast."""
        if value not in self._halves:
            self._halves[value] = self._made_half(value)
        return self._halves[value]

    def whole(self, half: ir.Value) -> ir.Value:
        """The float16 value `half` in float32."""
        if half not in self._wholes:
            whole = self._cast(half, "float32")
            self._wholes[half] = whole
            self._halves[whole] = half
        return self._wholes[half]

    def _made_half(self, value: ir.Value) -> ir.Value:
        tensor, producer = constant(value), value.producer()
        if tensor is not None:
            return store(self._graph, as_float16(tensor), f"{value.name}_float16")
        if producer is not None and is_mask(producer):
            return self._mask(producer)
        return self._cast(value, "float16")

    def _mask(self, node: ir.Node) -> ir.Value:
        branches = [self.half(value) for value in node.inputs[1:] if value is not None]
        chosen = ir.node("Where", [node.inputs[0], *branches], name=f"{node.name}_float16")
        self._insert(chosen, node, node.outputs[0], "float16")
        return chosen.outputs[0]

    def _cast(self, value: ir.Value, kind: str) -> ir.Value:
        cast = ir.node("Cast", [value], attributes={"to": int(_TYPE[kind])})
        behind = value.producer()
        cast.name = f"{value.name if behind is None else behind.name}_to_{kind}"
        self._insert(cast, behind, value, kind)
        return cast.outputs[0]

    def _insert(self, node: ir.Node, behind: ir.Node | None, like: ir.Value, kind: str) -> None:
        output = node.outputs[0]
        output.name = free_name(self._graph, f"{like.name}_{kind}")
        output.type, output.shape = ir.TensorType(_TYPE[kind]), like.shape
        module = behind if behind is not None else next(iter(like.uses())).node
        node.metadata_props[MODULE_KEY] = module.metadata_props.get(MODULE_KEY, "")
        if behind is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(behind, node)


def hides(tensor: ir.TensorProtocol) -> bool:
    """Whether it is one number below everything that float16 holds, as masks have it."""
    return bool(tensor.size == 1 and float(tensor.numpy().item()) < -LARGEST)


def as_float16(tensor: ir.TensorProtocol) -> "np.ndarray[tuple[int, ...], np.dtype[np.float16]]":
    """The numbers rounded to float16, or `MASK` for one that only hides."""
    numbers = np.full(tensor.shape.numpy(), MASK) if hides(tensor) else tensor.numpy()
    return numbers.astype(np.float16)
