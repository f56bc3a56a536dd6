"""Statements about the linear layers of a model; each names the layer where it is false."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from passes.constants import constant, constant_values
from passes.contract import Invariant, invariant
from passes.errors import InvariantViolated
from passes.linear_layers import LinearLayer, linear_layers
from passes.provenance import describe
from passes.quantizers import is_dequantize, is_quantize
from passes.sparsity import Groups, check_groups, stamp_of

__all__ = [
    "expected_layers_are_stamped",
    "linear_layers_are_canonical",
    "other_than_canonical",
    "stamped_sparsity_holds",
    "weight_scales_lie_on_the_output_axis",
    "weights_are_stored_integers",
]


@invariant
def weights_are_stored_integers(model: ir.Model) -> None:
    """No QuantizeLinear is left on a constant: quantized weights lie in the file as integers."""
    for graph in model.graphs():
        fixed = constant_values(graph)
        for node in graph:
            source = node.inputs[0] if is_quantize(node) else None
            if source is not None and (source in fixed or constant(source) is not None):
                raise InvariantViolated(
                    describe(node),
                    expected="stored integers",
                    found=f"a QuantizeLinear of the constant {source.name!r}",
                    remedy="run FoldWeightQuantization on the graph",
                )


@invariant
def linear_layers_are_canonical(model: ir.Model) -> None:
    """Every constant weight matrix reaches its product stored as it is read.

    MatMul reads W (K, N); Gemm reads it as its transB says, and is `data × W + bias` with nothing
    scaled. Between constant and product stands nothing, or the DequantizeLinear of stored codes.
    A bias is the second operand of its Add.
    """
    for graph in model.graphs():
        for node, found in other_than_canonical(graph):
            raise InvariantViolated(
                describe(node),
                expected="a linear layer whose stored weight is read directly and whose bias comes "
                "second",
                found=found,
                remedy="run CanonicalLinear on the graph",
            )


def other_than_canonical(graph: ir.Graph) -> Iterator[tuple[ir.Node, str]]:
    """Every product with a constant matrix that is not canonical, and what is found there."""
    layers = {layer.node: layer for layer in linear_layers(graph)}
    for node, layer in layers.items():
        found = _other_than_canonical(layer)
        if found is not None:
            yield node, found
    fixed = constant_values(graph)
    for node in graph:
        if node.op_type in {"Gemm", "MatMul"} and node not in layers:
            operand = node.inputs[1]
            if operand is not None and operand in fixed and _rank(operand) in {None, 2}:
                yield node, f"a weight computed by {_producer_text(operand)}"


@invariant
def weight_scales_lie_on_the_output_axis(model: ir.Model) -> None:
    """A weight has one scale, one per output channel, or in each of them one per block of inputs;
    on the other axis engines go float.
    """
    for layer in _layers(model):
        weight = layer.weight
        if weight.dequantize is None or weight.scale_axis is None:
            continue
        if weight.block is not None:
            _check_blocks(layer, weight.block)
            continue
        channels = None if weight.scale is None else weight.scale.size
        if weight.scale_axis != weight.output_axis or channels != weight.shape[1]:
            raise InvariantViolated(
                describe(layer.node),
                expected=f"{weight.shape[1]} weight scales on axis {weight.output_axis}, "
                "that of the output channels",
                found=f"{channels} on axis {weight.scale_axis}",
                remedy="quantize the weight per output channel",
            )


@invariant
def stamped_sparsity_holds(model: ir.Model) -> None:
    """Every layer stamped N:M has it in its stored numbers; raises `SparsityRefuted` if not."""
    layers = {layer.node: layer for layer in _layers(model)}
    for node in (node for graph in model.graphs() for node in graph):
        groups = stamp_of(node)
        if groups is None:
            continue
        if node not in layers:
            raise InvariantViolated(
                describe(node),
                expected=f"a linear layer, since the node is stamped {groups}",
                found="no constant weight matrix",
                remedy="keep the weight of a stamped layer readable",
            )
        check_groups(layers[node], groups)


def expected_layers_are_stamped(expected: Mapping[str, Groups]) -> Invariant:
    """Every module of `expected` is there as a linear layer and carries its stamp."""

    def check(model: ir.Model) -> None:
        stamps: dict[str, set[Groups | None]] = {}
        for layer in _layers(model):
            stamps.setdefault(layer.module, set()).add(stamp_of(layer.node))
        for module, groups in expected.items():
            found = stamps.get(module)
            if found != {groups}:
                text = "no linear layer of that module" if found is None else _stamps_text(found)
                raise InvariantViolated(
                    module,
                    expected=f"a linear layer stamped {groups}",
                    found=text,
                    remedy="check that the graph was captured from the model that was pruned",
                )

    return Invariant("expected_layers_are_stamped", check)


def _check_blocks(layer: LinearLayer, block: int) -> None:
    """Raise unless every `block` inputs of each output channel have a scale of their own."""
    weight, (inputs, outputs) = layer.weight, layer.weight.shape
    found = None if weight.scale is None else weight.scale.shape
    expected = (
        (inputs // block, outputs) if weight.reduction_axis == 0 else (outputs, inputs // block)
    )
    if weight.scale_axis != weight.reduction_axis or inputs % block or found != expected:
        raise InvariantViolated(
            describe(layer.node),
            expected=f"weight scales of shape {expected} for blocks of {block} along axis "
            f"{weight.reduction_axis}, that of the {inputs} inputs",
            found=f"{'computed ones' if found is None else found} along axis {weight.scale_axis}",
            remedy="quantize the weight in blocks of its inputs",
        )


def _layers(model: ir.Model) -> Iterator[LinearLayer]:
    for graph in model.graphs():
        yield from linear_layers(graph)


def _stamps_text(stamps: set[Groups | None]) -> str:
    return ", ".join(sorted("no stamp" if stamp is None else str(stamp) for stamp in stamps))


def _other_than_canonical(layer: LinearLayer) -> str | None:
    node, path = layer.node, layer.weight.path
    stored_codes = len(path) == 1 and is_dequantize(path[0]) and layer.weight.is_integer
    if path and not stored_codes:
        return "the weight behind " + ", ".join(map(describe, path))
    if node.op_type == "Gemm":
        scaled = {
            name: value
            for name, neutral in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))
            if (value := _attribute(node, name, neutral)) != neutral
        }
        if scaled:
            return ", ".join(f"{name} {value}" for name, value in scaled.items())
    if layer.add is not None and layer.add.inputs[0] is not node.outputs[0]:
        return f"the bias as first operand of {describe(layer.add)}"
    return None


def _attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _producer_text(value: ir.Value) -> str:
    producer = value.producer()
    return repr(value.name) if producer is None else describe(producer)


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)
