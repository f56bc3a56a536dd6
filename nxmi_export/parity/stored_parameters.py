"""A PyTorch model and its ONNX graph in, every float parameter outside its linears compared out.

Embedding tables, and weights, biases and epsilons of norms. All are found by module name, and each
must be found: a parameter that no node reads is a mismatch, as is one of a kind that is not known
here, and as is a norm or a table that the graph alone has. Linears are `layer_weights`' affair.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.compression.tables import QuantizedEmbedding
from nxmi_export.parity.graph_quantizers import module_names
from nxmi_export.parity.layer_weights import Mismatch, array_mismatches, rounded_like
from passes.constants import constant_array
from passes.provenance import module_of

__all__ = ["StoredParameters", "stored_parameters"]

_DEFAULT_EPSILON = 1e-5  # ONNX LayerNormalization's own
# Whose parameters others compare.
_ELSEWHERE = (nn.Linear, ActivationQuantizer, WeightQuantizer, QuantizedEmbedding)
_TABLE_AXES = 2  # (rows, channels): what else is gathered, sizes and tokens, is computed


@dataclass(frozen=True)
class StoredParameters:
    """What was compared, and everything that differs."""

    compared: int  # parameters of the model
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True)
class _Place:
    """Where nodes read a kind of parameter."""

    what: str  # as a mismatch calls it
    op_type: str
    index: int  # of the input


_PLACES: tuple[tuple[type[nn.Module], Mapping[str, _Place]], ...] = (
    (nn.Embedding, {"weight": _Place("embedding", "Gather", 0)}),
    (
        nn.LayerNorm,
        {
            "weight": _Place("norm weight", "LayerNormalization", 1),
            "bias": _Place("norm bias", "LayerNormalization", 2),
        },
    ),
    (NoNorm, {"weight": _Place("norm weight", "Mul", 1), "bias": _Place("norm bias", "Add", 1)}),
)


def stored_parameters(
    model: nn.Module, graph: ir.Graph, *, float16: bool = False
) -> StoredParameters:
    """Compare bit for bit; one parameter of a block that runs repeatedly, in every run.

    INT8 tables are `table_weights`' affair. With `float16`, a table may be stored as PyTorch's
    rounded to float16.
    """
    nodes = _by_module(model, graph)
    compared = 0
    mismatches: list[Mismatch] = []
    for name, module in model.named_modules():
        if isinstance(module, _ELSEWHERE):
            continue
        own = nodes.get(name, [])
        for leaf, parameter in module.named_parameters(recurse=False):
            compared += 1
            found = _place_of(module, leaf)
            expected = parameter.detach().cpu().numpy()
            mismatches += _parameter_mismatches(name, leaf, found, expected, own, float16)
        if isinstance(module, nn.LayerNorm):
            mismatches += _norm_mismatches(name, module, own)
    return StoredParameters(compared, (*mismatches, *_extra(model, nodes)))


def _by_module(model: nn.Module, graph: ir.Graph) -> dict[str, list[ir.Node]]:
    names = module_names(model)
    nodes: dict[str, list[ir.Node]] = {}
    for node in graph:
        nodes.setdefault(names.get(module_of(node), module_of(node)), []).append(node)
    return nodes


def _place_of(module: nn.Module, leaf: str) -> _Place | None:
    return next(
        (places.get(leaf) for kind, places in _PLACES if isinstance(module, kind)),
        None,
    )


def _parameter_mismatches(
    name: str,
    leaf: str,
    place: _Place | None,
    expected: NDArray[Any],
    nodes: Iterable[ir.Node],
    float16: bool,
) -> Iterator[Mismatch]:
    if place is None:
        yield Mismatch(name, "parameter", "one of a kind that can be compared", f"a {leaf}")
        return
    reading = [node for node in nodes if node.op_type == place.op_type]
    if not reading:
        yield Mismatch(name, place.what, "a constant", "missing from the graph")
    for node in reading:
        found = _constant_input(node, place.index)
        if found is None:
            yield Mismatch(name, place.what, "a constant", "missing from the graph")
        else:
            wanted = rounded_like(found, expected, float16)
            yield from array_mismatches(name, place.what, wanted, found)


def _norm_mismatches(name: str, norm: nn.LayerNorm, nodes: Iterable[ir.Node]) -> Iterator[Mismatch]:
    """What a LayerNorm has besides its parameters: an epsilon, and a bias that PyTorch lacks."""
    for node in nodes:
        if node.op_type != "LayerNormalization":
            continue
        epsilon = node.attributes.get_float("epsilon", _DEFAULT_EPSILON)
        # The attribute is float32, the module's is Python's float64.
        if not abs(epsilon - norm.eps) <= norm.eps * 1e-6:  # NaN either
            yield Mismatch(name, "norm epsilon", f"{norm.eps:g}", f"{epsilon:g}")
        bias = _constant_input(node, 2)
        known = "bias" in dict(norm.named_parameters(recurse=False))
        if not known and bias is not None and bias.any():
            yield Mismatch(name, "norm bias", "absent", "a constant one")


def _extra(model: nn.Module, nodes: Mapping[str, list[ir.Node]]) -> Iterator[Mismatch]:
    """Norms and tables of the graph that are no module's."""
    modules = dict(model.named_modules())
    for name, own in nodes.items():
        module = modules.get(name)
        for node in own:
            where = name or str(node.name)
            if node.op_type == "LayerNormalization" and not isinstance(module, nn.LayerNorm):
                yield Mismatch(where, "norm weight", "none in the PyTorch model", "a LayerNorm")
            if node.op_type == "Gather" and not isinstance(module, nn.Embedding):
                table = _constant_input(node, 0)
                if table is not None and table.ndim == _TABLE_AXES:
                    yield Mismatch(where, "embedding", "none in the PyTorch model", "a table")


def _constant_input(node: ir.Node, index: int) -> NDArray[Any] | None:
    return constant_array(node.inputs[index]) if index < len(node.inputs) else None
