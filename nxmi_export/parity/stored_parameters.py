"""A PyTorch model and its ONNX file in, every stored number that differs out.

`weight_parity` compares the linears and quantizers. A value may go wrong in other constants too:
embedding tables, and the weights, biases and epsilons of LayerNorms.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
from torch import Tensor, nn

from nxmi_export.parity.graph_quantizers import module_names, open_graph
from nxmi_export.parity.layer_weights import Mismatch, array_mismatches
from nxmi_export.parity.weights import weight_parity
from passes.constants import constant_array
from passes.provenance import module_of

__all__ = ["stored_mismatches"]

_DEFAULT_EPSILON = 1e-5  # ONNX LayerNormalization's own


def stored_mismatches(model: nn.Module, path: Path) -> tuple[Mismatch, ...]:
    """Everything that the file stores otherwise than the model, bit for bit, by module name.

    Raises ArtefactError for a file that cannot be read.
    """
    weights = weight_parity(model, path).mismatches
    return (*weights, *_parameter_mismatches(model, open_graph(path).graph))


def _parameter_mismatches(model: nn.Module, graph: ir.Graph) -> Iterator[Mismatch]:
    names = module_names(model)
    modules = dict(model.named_modules())
    for node in graph:
        module = modules.get(names.get(module_of(node), ""))
        name = names.get(module_of(node), "")
        if node.op_type == "Gather" and isinstance(module, nn.Embedding):
            yield from _constant(name, "embedding", module.weight, node, 0)
        elif node.op_type == "LayerNormalization" and isinstance(module, nn.LayerNorm):
            yield from _norm_mismatches(name, module, node)


def _norm_mismatches(name: str, norm: nn.LayerNorm, node: ir.Node) -> Iterator[Mismatch]:
    yield from _constant(name, "norm weight", norm.weight, node, 1)
    if norm.bias is not None:
        yield from _constant(name, "norm bias", norm.bias, node, 2)
    epsilon = node.attributes.get_float("epsilon", _DEFAULT_EPSILON)
    # The attribute is float32, the module's is Python's float64.
    if abs(epsilon - norm.eps) > norm.eps * 1e-6:
        yield Mismatch(name, "norm epsilon", f"{norm.eps:g}", f"{epsilon:g}")


def _constant(
    name: str, what: str, expected: Tensor, node: ir.Node, index: int
) -> Iterator[Mismatch]:
    found = constant_array(node.inputs[index]) if index < len(node.inputs) else None
    if found is None:
        yield Mismatch(name, what, "a constant", "missing from the graph")
        return
    yield from array_mismatches(name, what, expected.detach().cpu().numpy(), found)
