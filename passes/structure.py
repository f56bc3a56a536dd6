"""The structure of a model without its large tensors: what checks and comparisons work on.

Serializing BERT-base for a check would copy 440 MB; without its weights the graph is about 3 MB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from passes.errors import RefusedGraph

__all__ = ["Interface", "Structure"]

SMALL = 1024  # bytes; shape inference reads the constants of Reshape, Slice and the like


@dataclass(frozen=True)
class Interface:
    """The names, types and shapes by which a model is fed and read."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: ir.Model) -> Self:
        """The interface of `model`, each value as text such as `ids INT64 [batch,sequence]`."""
        return cls(*(tuple(map(_text, side)) for side in (model.graph.inputs, model.graph.outputs)))

    def __str__(self) -> str:
        return f"({', '.join(self.inputs)}) -> ({', '.join(self.outputs)})"


@dataclass(frozen=True, eq=False)
class Structure:
    """Everything of a model but its large tensors, which are held by reference."""

    interface: Interface
    skeleton: ir.Model  # its large initializers are graph inputs
    text: bytes  # the skeleton, serialized
    tensors: Mapping[str, ir.TensorProtocol]

    @classmethod
    def of(cls, model: ir.Model) -> Self:
        """Read `model`, leaving it untouched."""
        copy = model.clone()
        tensors: dict[str, ir.TensorProtocol] = {}
        for depth, graph in enumerate(tuple(copy.graphs())):
            for name, value in tuple(graph.initializers.items()):
                tensor = value.const_value
                if tensor is None:
                    continue
                if tensor.nbytes <= SMALL:
                    # The checker resolves files against the working directory: bring it in.
                    value.const_value = ir.Tensor(tensor.numpy(), name=name)
                    continue
                tensors[f"{depth}/{name}"] = tensor
                graph.initializers.pop(name)
                value.const_value = None
                value.shape = ir.Shape(tensor.shape.numpy())
                value.type = ir.TensorType(tensor.dtype)
                if value not in graph.inputs:
                    copy.graph.inputs.append(value)
        text = ir.to_proto(copy).SerializeToString(deterministic=True)
        return cls(Interface.of(model), copy, bytes(text), tensors)

    def check(self) -> None:
        """Raise `RefusedGraph` unless ONNX's checker and strict shape inference accept it."""
        functions = self.skeleton.functions.values()
        if functions:
            raise RefusedGraph(
                "structure",
                expected="a graph without local functions",
                found=", ".join(function.name for function in functions),
                remedy="inline the functions before lowering",
            )
        try:
            CheckerPass(full_check=True)(self.skeleton)
        except Exception as error:  # onnx's own two, which this leaf does not import to name
            raise RefusedGraph(
                "structure",
                expected="a graph that ONNX's checker and strict shape inference accept",
                found=" ".join(str(error).split()),
                remedy="inspect the node it names",
            ) from error

    def same_as(self, other: "Structure") -> bool:
        """Whether both describe the same bytes; a tensor changed inside its buffer goes unseen."""
        if self.text != other.text or self.tensors.keys() != other.tensors.keys():
            return False
        return all(_same(tensor, other.tensors[name]) for name, tensor in self.tensors.items())


def _same(left: ir.TensorProtocol, right: ir.TensorProtocol) -> bool:
    return left is right or left.tobytes() == right.tobytes()


def _text(value: ir.Value) -> str:
    kind = "unknown" if value.dtype is None else value.dtype.name
    return f"{value.name} {kind} {'of unknown rank' if value.shape is None else value.shape}"
