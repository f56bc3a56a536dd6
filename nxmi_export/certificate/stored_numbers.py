"""ONNX files and the PyTorch model they came from in, what holds of the stored numbers out.

Two claims: the N:M pattern, counted on the numbers as they lie in the file, and their equality with
PyTorch's. Every file has to prove them; the cell tells of the first that does not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir
from torch import nn

from nxmi_export.backends.tensorrt_engine import Verdict
from nxmi_export.certificate.claims import Answer, Cell, answered, not_claimed, worst
from nxmi_export.certificate.promises import LinearPromise
from nxmi_export.parity.graph_quantizers import module_names, open_graph
from nxmi_export.parity.layer_weights import Mismatch
from nxmi_export.parity.weights import WeightParity, weight_parity
from passes.errors import InvalidGroups, SparsityRefuted
from passes.linear_layers import LinearLayer, linear_layers
from passes.sparsity import Groups, check_groups

__all__ = ["GraphFile", "integer_parity", "scale_parity", "stored_pattern"]


@dataclass(frozen=True)
class GraphFile:
    """One ONNX file of the artefact, read as the layers of a PyTorch model."""

    path: Path
    structure: nn.Module  # of the model that it was exported from
    trained: nn.Module | None  # the same with its weights, where the checkpoint is there
    float16: bool  # whether floats may be rounded to float16 in it; codes may nowhere

    @cached_property
    def graph(self) -> ir.Graph:
        """The graph; raises ArtefactError for a damaged file."""
        return open_graph(self.path).graph

    @cached_property
    def layers(self) -> Mapping[str, tuple[LinearLayer, ...]]:
        """Every linear layer by PyTorch module; several where a block runs repeatedly."""
        names = module_names(self.structure)
        found: dict[str, tuple[LinearLayer, ...]] = {}
        for layer in linear_layers(self.graph):
            name = names.get(layer.module, layer.module)
            found[name] = (*found.get(name, ()), layer)
        return found

    @cached_property
    def parity(self) -> WeightParity:
        """What was compared with the trained model, and what the file has otherwise."""
        assert self.trained is not None
        return weight_parity(self.trained, self.path, float16=self.float16)


def stored_pattern(linear: LinearPromise, files: tuple[GraphFile, ...]) -> Cell:
    """The pattern on the integers (or, without bits, the floats) that every file stores."""
    pattern = linear.scheme.pattern
    if pattern is None:
        return not_claimed(f"the scheme is {linear.scheme}")
    groups = Groups(pattern.keep, pattern.group)
    found = worst(_pattern_in(linear, groups, file) for file in files)
    return _in_all(found, files, f"{pattern} on the {_stored(linear)}, along the reduction axis")


def integer_parity(linear: LinearPromise, files: tuple[GraphFile, ...], absent: str) -> Cell:
    """Codes, scales, zero-points and bias of one linear, against PyTorch's, in every file.

    Unproven for the reason `absent` where there is no trained model to compare with.
    """
    if any(file.trained is None for file in files):
        return answered(Verdict.UNPROVEN, absent)
    found = worst(_parity_in(linear, file) for file in files)
    return _in_all(found, files, f"{_stored(linear)}, scales and bias equal PyTorch's")


def scale_parity(
    linears: tuple[LinearPromise, ...], files: tuple[GraphFile, ...], absent: str
) -> Cell:
    """Everything that was compared and is no encoder linear's own: activation scales above all.

    Unproven where a file has none of the scales that a linear needs whose input is quantized.
    """
    if any(file.trained is None for file in files):
        return answered(Verdict.UNPROVEN, absent)
    owned = {linear.module for linear in linears}
    rest = [
        (file, each)
        for file in files
        for each in file.parity.mismatches
        if not any(_belongs(each, name) for name in owned)
    ]
    if rest:
        file, first = rest[0]
        more = f", the first of {len(rest)}" if len(rest) > 1 else ""
        return answered(Verdict.REFUTED, f"{file.path.name}: {first}{more}")
    if bare := [file for file in files if not file.parity.quantizers]:
        if not any(linear.multiplies_int8 for linear in linears):
            stored = any(linear.is_quantized for linear in linears)
            return not_claimed(f"the recipe quantizes {'weights alone' if stored else 'nothing'}")
        why = f"no activation scale of {bare[0].path.name} was compared"
        return answered(Verdict.UNPROVEN, why)
    counts = {file.parity.quantizers for file in files}
    return answered(
        Verdict.PROVED, f"{' and '.join(map(str, sorted(counts)))} scales, in {_names(files)}"
    )


def _pattern_in(linear: LinearPromise, groups: Groups, file: GraphFile) -> Cell:
    complaint = next(_complaints(linear, groups, file), None)
    if complaint is None:
        return answered(Verdict.PROVED, "")
    return answered(Verdict.REFUTED, f"{file.path.name}: {complaint}")


def _complaints(linear: LinearPromise, groups: Groups, file: GraphFile) -> Iterator[str]:
    layers = file.layers.get(linear.module, ())
    if not layers:
        yield "no linear layer of the graph is this module"
    for layer in layers:
        weight = layer.weight
        if linear.is_quantized and not weight.is_integer:
            yield f"{weight.stored.dtype} is stored, not integers"
        point = None if weight.dequantize is None else weight.dequantize.zero_point
        if linear.is_quantized and (point is None or point.any()):
            # 0 then stands for another number, and what was pruned is not.
            yield "the zero-point of the weight is not a constant 0"
        try:
            check_groups(layer, groups)
        except (SparsityRefuted, InvalidGroups) as error:
            yield f"expected {error.expected}, found {error.found}"


def _parity_in(linear: LinearPromise, file: GraphFile) -> Cell:
    own = [each for each in file.parity.mismatches if _belongs(each, linear.module)]
    if not own and linear.module not in file.parity.compared:
        return answered(Verdict.UNPROVEN, f"{file.path.name}: the module was not compared")
    if not own:
        return answered(Verdict.PROVED, "")
    more = f" ({len(own)} mismatches)" if len(own) > 1 else ""
    return answered(Verdict.REFUTED, f"{file.path.name}: {own[0]}{more}")


def _belongs(mismatch: Mismatch, module: str) -> bool:
    """Whether it is the module's own or one of its quantizers'."""
    return mismatch.module == module or mismatch.module.startswith(f"{module}.")


def _in_all(found: Cell, files: tuple[GraphFile, ...], told: str) -> Cell:
    if found.answer is not Answer.PROVED:
        return found
    return answered(Verdict.PROVED, f"{told}, in {_names(files)}")


def _stored(linear: LinearPromise) -> str:
    return "stored integers" if linear.is_quantized else "stored floats"


def _names(files: tuple[GraphFile, ...]) -> str:
    return ", ".join(file.path.name for file in files)
