"""An ONNX file and the PyTorch model it came from in, their activation quantizers side by side out.

The capture names every node after its module. A quantizer that several linears share has several
names in PyTorch, of which the graph knows one; here it goes by the first. One in a block that runs
repeatedly has one node, and one value, for every run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn

from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.errors import ArtefactError
from nxmi_export.unreadable_graph import UNREADABLE_GRAPH
from passes.constants import constant_values
from passes.provenance import module_of
from passes.quantizers import Quantizer, is_quantize, read_quantizer
from passes.spell_out_products import spell_out_products

__all__ = ["GraphQuantizer", "Pairing", "module_names", "open_graph", "pair_quantizers"]


@dataclass(frozen=True)
class GraphQuantizer:
    """One QuantizeLinear of an activation."""

    module: str  # as the graph names it
    value: str  # the float tensor that it reads
    codes: str  # the integer tensor that it makes
    parameters: Quantizer

    @property
    def step(self) -> NDArray[Any]:
        """The scale, shape (); ArtefactError where it is none for the whole tensor."""
        scale = self.parameters.scale
        if scale is None or scale.size != 1:
            raise self._unreadable("one constant scale", scale)
        return scale.reshape(())

    @property
    def zero_point(self) -> int:
        """The code of 0; ArtefactError where it is none for the whole tensor."""
        point = self.parameters.zero_point
        if point is None or point.size != 1:
            raise self._unreadable("one constant zero-point", point)
        return int(point.item())

    def _unreadable(self, expected: str, found: NDArray[Any] | None) -> ArtefactError:
        return ArtefactError(
            self.module,
            expected=expected,
            found="one that the graph computes" if found is None else f"{found.size} values",
            remedy="export the model again",
        )


@dataclass(frozen=True)
class Pairing:
    """Which QuantizeLinear nodes belong to which quantizer of the PyTorch model."""

    pairs: Mapping[str, tuple[GraphQuantizer, ...]]  # by module, at least one each
    missing: tuple[str, ...]  # modules that the graph has no quantizer for
    extra: tuple[str, ...]  # quantizers of the graph that are no module's

    @property
    def complaint(self) -> str | None:
        """Why values cannot be compared one by one, as a sentence without a full stop, or None."""
        if self.missing:
            return f"the graph has no quantizer for {self.missing[0]}"
        if self.extra:
            return f"the graph quantizes at {self.extra[0]}, where the PyTorch model does not"
        return None

    def require(self, path: Path) -> Mapping[str, tuple[GraphQuantizer, ...]]:
        """By module one quantizer for each value that it reads, in order of execution.

        Raises ArtefactError where there is a complaint.
        """
        if self.complaint:
            raise ArtefactError(
                path,
                expected="the quantizers of the PyTorch model",
                found=f"a difference: {self.complaint}",
                remedy="export the model again from this checkpoint",
            )
        return {module: _first_of_each_value(nodes) for module, nodes in self.pairs.items()}


def open_graph(path: Path) -> ir.Model:
    """Read an ONNX file, integer products in standard operators (`spell_out_products`).

    Raises ArtefactError for one that is missing or damaged.
    """
    try:
        return spell_out_products(ir.load(path))
    except UNREADABLE_GRAPH as error:
        raise ArtefactError(
            path,
            expected="a readable ONNX model",
            found=" ".join(str(error).split()),
            remedy="export the model again or correct the path",
        ) from error


def module_names(model: nn.Module) -> dict[str, str]:
    """Every name of every module of `model`, to the first name of that module."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(module), name)
        for name, module in model.named_modules(remove_duplicate=False)
    }


def pair_quantizers(model: nn.Module, graph: ir.Graph) -> Pairing:
    """Match the activation quantizers of both by module name."""
    names = module_names(model)
    wanted = {
        name for name, module in model.named_modules() if isinstance(module, ActivationQuantizer)
    }
    pairs: dict[str, tuple[GraphQuantizer, ...]] = {}
    extra: list[str] = []
    for quantizer in _activation_quantizers(graph):
        name = names.get(quantizer.module)
        if name is not None and name in wanted:
            pairs[name] = (*pairs.get(name, ()), quantizer)
        else:
            extra.append(quantizer.module or quantizer.codes)
    missing = tuple(sorted(wanted - pairs.keys()))
    return Pairing(pairs, missing, tuple(extra))


def _first_of_each_value(nodes: tuple[GraphQuantizer, ...]) -> tuple[GraphQuantizer, ...]:
    first: dict[str, GraphQuantizer] = {}
    for node in nodes:
        first.setdefault(node.value, node)
    return tuple(first.values())


def _activation_quantizers(graph: ir.Graph) -> list[GraphQuantizer]:
    """In order of execution; a QuantizeLinear of a constant is a weight's."""
    fixed = constant_values(graph)
    found = []
    for node in graph:
        if not is_quantize(node) or node.outputs[0] in fixed:
            continue
        parameters = read_quantizer(node)
        source, codes = node.inputs[0], node.outputs[0]
        assert source is not None
        found.append(GraphQuantizer(module_of(node), str(source.name), str(codes.name), parameters))
    return found
