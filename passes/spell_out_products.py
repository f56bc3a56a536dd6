"""Integer products as onnxruntime's own operator in; the same graph in standard operators out.

`MatMulIntegerToFloat(codes, weight, scales, zero-points, bias)` of com.microsoft becomes
DequantizeLinear of both → MatMul → Add: what `IntegerProducts` made it from. Whoever reads, checks
or runs a graph as written sees it through this.
"""

import onnx_ir as ir

from passes.constants import constant_array, free_name
from passes.provenance import MODULE_KEY, module_of

__all__ = ["CONTRIB", "PRODUCT", "has_products", "spell_out_products"]

CONTRIB = "com.microsoft"
PRODUCT = "MatMulIntegerToFloat"
_CODES, _WEIGHT, _CODES_SCALE, _WEIGHT_SCALE, _CODES_POINT, _WEIGHT_POINT, _BIAS = range(7)
_OUTPUT_AXIS = 1  # of a (K, N) weight


def has_products(model: ir.Model) -> bool:
    """Whether there is anything to spell out."""
    return any(_is_product(node) for node in model.graph.all_nodes())


def spell_out_products(model: ir.Model) -> ir.Model:
    """Rewrite `model` in place and return it; one without such products stays as it is.

    Every value of the graph keeps its name, so that both forms can be compared at it.
    """
    for graph in tuple(model.graphs()):
        shared: dict[tuple[ir.Value | None, ...], ir.Node] = {}
        for node in [each for each in graph if _is_product(each)]:
            _spell_out(graph, node, shared)
    if all(node.domain != CONTRIB for node in model.graph.all_nodes()):
        model.opset_imports.pop(CONTRIB, None)
    return model


def _is_product(node: ir.Node) -> bool:
    return node.op_type == PRODUCT and node.domain == CONTRIB


def _spell_out(
    graph: ir.Graph, node: ir.Node, shared: dict[tuple[ir.Value | None, ...], ir.Node]
) -> None:
    """`shared` are the DequantizeLinear nodes of activations so far, by what they read."""
    module, output = module_of(node), node.outputs[0]
    inputs = (*node.inputs, *[None] * (_BIAS + 1 - len(node.inputs)))
    weight, bias = inputs[_WEIGHT], inputs[_BIAS]
    read = (inputs[_CODES], inputs[_CODES_SCALE], inputs[_CODES_POINT])
    known = shared.get(read)
    data = known or shared.setdefault(read, _dequantized(read, module))
    scale = constant_array(inputs[_WEIGHT_SCALE])
    matrix = _node(
        "DequantizeLinear",
        (weight, inputs[_WEIGHT_SCALE], inputs[_WEIGHT_POINT]),
        f"{module}.weight_quantizer",
        {} if scale is None or scale.ndim == 0 else {"axis": _OUTPUT_AXIS},
    )
    product = _node("MatMul", (data.outputs[0], matrix.outputs[0]), module)
    product.metadata_props.update(node.metadata_props)
    matrix.outputs[0].shape = None if weight is None else weight.shape
    product.outputs[0].shape = output.shape
    new = [*([] if known else [data]), matrix, product]
    if bias is not None:
        new.append(_node("Add", (product.outputs[0], bias), module))
    for index, made in enumerate(new):
        made.name = f"{node.name}_{index}_{made.op_type}"
        made.outputs[0].name = free_name(graph, f"{output.name}_{index}_{made.op_type}")
        made.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    _take_place(graph, node, new)


def _dequantized(read: tuple[ir.Value | None, ...], module: str) -> ir.Node:
    codes = read[0]
    source = None if codes is None else codes.producer()
    node = _node("DequantizeLinear", read, module if source is None else module_of(source))
    node.outputs[0].shape = None if codes is None else codes.shape
    return node


def _take_place(graph: ir.Graph, node: ir.Node, new: list[ir.Node]) -> None:
    old, result = node.outputs[0], new[-1].outputs[0]
    graph.insert_before(node, new)
    result.type, result.shape = old.type, old.shape
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    name = old.name
    graph.remove(node, safe=True)
    result.name = name


def _node(
    op_type: str,
    inputs: tuple[ir.Value | None, ...],
    module: str,
    attributes: dict[str, int] | None = None,
) -> ir.Node:
    return ir.node(
        op_type,
        inputs,
        attributes=attributes or {},
        num_outputs=1,
        metadata_props={MODULE_KEY: module},
    )
