import dataclasses
from pathlib import Path

import onnx_ir as ir
import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    EngineMapping,
    MergeEvidence,
    Operand,
    ProductNodes,
    Verdict,
    engine_mapping,
    merge_evidence,
    parse_layers,
)
from nxmi_export.backends.tensorrt_engine.graph_products import (
    product_modules,
    shared_input_nodes,
)

FOLDER = Path(__file__).parent
FUSED = parse_layers((FOLDER / "rtx_1_7_fused_attention.log").read_text())
QKV = ("node_MatMul_90", "node_MatMul_102", "node_MatMul_114")
MODULE_OF = {
    **dict(zip(QKV, ("query", "key", "value"), strict=True)),
    "node_MatMul_136": "output",
    "node_MatMul_144": "up",
    "node_MatMul_150": "down",
    "node_matmul": "attention",
    "node_matmul_1": "attention",
    "node_Gemm_290": "pooler",
    "node_Gemm_291": "classifier",
}


def _gemm(*nodes: str, name: str = "") -> EngineLayer:
    operand = Operand("x", (-1, 16), "Int8")
    name = name or f"{'+'.join(nodes)}_myl0_1"
    return EngineLayer(name, "gemm", (operand,), (), (operand,), "", nodes, "the line")


def _graph() -> ir.Model:
    """Two linears of one value, a third of another, and the product of the first two."""
    weights = {
        name: ir.Value(
            name=name,
            const_value=ir.tensor([[1.0] * 16] * 16, name=name),
            shape=ir.Shape((16, 16)),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        for name in ("wq", "wk", "wd")
    }
    x = ir.Value(name="x", shape=ir.Shape((16, 16)), type=ir.TensorType(ir.DataType.FLOAT))
    q = ir.node("MatMul", [x, weights["wq"]], name="a/MatMul")
    k = ir.node("MatMul", [x, weights["wk"]], name="b/MatMul")
    scores = ir.node("MatMul", [q.outputs[0], k.outputs[0]], name="scores")
    down = ir.node("MatMul", [scores.outputs[0], weights["wd"]], name="c/MatMul")
    relu = ir.node("Relu", [down.outputs[0]], name="relu")
    for node, module in ((q, "a"), (k, "b"), (scores, "attention"), (down, "c"), (relu, "act")):
        node.metadata_props["nxmi.module"] = module
    nodes = [q, k, scores, down, relu]
    graph = ir.Graph(
        [x], relu.outputs, nodes=nodes, initializers=weights.values(), opset_imports={"": 20}
    )
    return ir.Model(graph, ir_version=10)


def test_every_product_of_a_real_engine_has_its_modules() -> None:
    mapping = engine_mapping(FUSED, ProductNodes(MODULE_OF))
    assert mapping.is_complete
    assert set(map(frozenset, mapping.modules.values())) == {
        frozenset({"query", "key", "value"}),
        *(frozenset({name}) for name in ("attention", "output", "up", "down")),
        *(frozenset({name}) for name in ("pooler", "classifier")),
    }


def test_a_product_of_the_engine_that_no_module_accounts_for_is_named() -> None:
    known = {node: module for node, module in MODULE_OF.items() if module != "up"}
    mapping = engine_mapping(FUSED, ProductNodes(known))
    [unmapped] = mapping.unmapped
    assert (unmapped.layer.name, unmapped.verdict, unmapped.reason) == (
        "node_MatMul_144_myl0_10",
        Verdict.REFUTED,
        "ONNX nodes that are no products of the graph",
    )
    assert not mapping.is_complete


def test_a_product_of_the_graph_that_the_engine_does_not_list_is_named() -> None:
    mapping = engine_mapping(FUSED, ProductNodes(MODULE_OF | {"node_MatMul_999": "lost"}))
    assert mapping.missing == ("node_MatMul_999",)
    assert not mapping.is_complete


def test_half_of_a_fused_attention_is_missing() -> None:
    attention = EngineLayer("_gemm_mha_v2_0", "kgen", (), (), (), "", ("scores", "softmax"), "")
    mapping = engine_mapping(
        [attention], ProductNodes({"scores": "attention", "context": "attention"})
    )
    assert mapping.modules == {"_gemm_mha_v2_0": ("attention",)}
    assert mapping.missing == ("context",)


def test_a_node_without_a_module_accounts_for_nothing() -> None:
    mapping = engine_mapping(
        [_gemm("a/MatMul", "b/MatMul")], ProductNodes({"a/MatMul": "a", "b/MatMul": ""})
    )
    [unmapped] = mapping.unmapped
    assert (unmapped.layer.name, unmapped.verdict, unmapped.reason) == (
        "a/MatMul+b/MatMul_myl0_1",
        Verdict.UNPROVEN,
        "a/MatMul has no module in the graph",
    )
    assert mapping.missing == ()


def test_kernels_around_a_product_do_not_stand_for_it() -> None:
    rescaling = EngineLayer("__myl_MulAdd_myl0_2", "kgen", (), (), (), "", ("a/MatMul",), "")
    assert engine_mapping([rescaling], ProductNodes({"a/MatMul": "a"})) == EngineMapping(
        {}, (), ("a/MatMul",)
    )


@pytest.mark.parametrize("module_of", [{}, MODULE_OF], ids=["no graph", "no engine"])
def test_nothing_is_not_complete(module_of: dict[str, str]) -> None:
    assert not engine_mapping((), ProductNodes(module_of)).is_complete


def test_a_product_without_onnx_nodes_is_unproven() -> None:
    [unmapped] = engine_mapping([_gemm(name="gemm_7")], ProductNodes({})).unmapped
    assert (unmapped.verdict, unmapped.reason) == (Verdict.UNPROVEN, "no ONNX node")


def test_a_convolution_of_rtx_is_a_product() -> None:
    layer = dataclasses.replace(_gemm("conv"), type="correlation")
    assert [each.layer for each in engine_mapping([layer], ProductNodes({})).unmapped] == [layer]


def test_a_fused_product_that_may_be_of_either_of_two_is_unproven() -> None:
    layer = dataclasses.replace(
        _gemm("a/MatMul", "b/MatMul", name="__myl_FcMulAdd_myl0_3"), type="fusion"
    )
    module_of = {"a/MatMul": "a", "b/MatMul": "b"}
    mapping = engine_mapping([layer], ProductNodes(module_of))
    [unmapped] = mapping.unmapped
    assert (unmapped.verdict, unmapped.reason) == (
        Verdict.UNPROVEN,
        "any of the nodes a/MatMul, b/MatMul",
    )
    assert mapping.missing == ("a/MatMul", "b/MatMul")
    merged = ProductNodes(module_of, together=(("a/MatMul", "b/MatMul"),))
    assert engine_mapping([layer], merged).is_complete


def test_a_linear_whose_rescaling_is_fused_into_an_attention_is_not_found_there() -> None:
    attention = _gemm("scores", "context", "a/MatMul", name="_gemm_mha_v2_myl0_7")
    module_of = {"a/MatMul": "a", "scores": "attention", "context": "attention"}
    mapping = engine_mapping([attention], ProductNodes(module_of))
    assert mapping.modules == {"_gemm_mha_v2_myl0_7": ("attention",)}
    assert mapping.missing == ("a/MatMul",)


def test_every_profile_must_list_a_product() -> None:
    first = _gemm("a/MatMul")
    second = _gemm("a/MatMul", name="a/MatMul [profile 1]_myl1_1")
    module_of = {"a/MatMul": "a"}
    assert engine_mapping([first], ProductNodes(module_of), profiles=2).missing == ("a/MatMul",)
    assert engine_mapping([first, second], ProductNodes(module_of), profiles=2).is_complete


def test_a_module_that_is_not_required_may_be_missing() -> None:
    module_of = {"a/MatMul": "a", "scores": "attention"}
    mapping = engine_mapping([_gemm("a/MatMul")], ProductNodes(module_of), required={"a"})
    assert mapping.is_complete


def test_a_mapping_becomes_json() -> None:
    mapping = engine_mapping(
        [_gemm("a/MatMul"), _gemm("x/MatMul")], ProductNodes({"a/MatMul": "a", "b": "b"})
    )
    assert mapping.as_json() == {
        "complete": False,
        "modules": {"a/MatMul_myl0_1": ["a"]},
        "unmapped": ["x/MatMul_myl0_1"],
        "missing": ["b"],
    }


def test_query_key_and_value_of_a_real_engine_are_merged() -> None:
    [evidence] = merge_evidence(FUSED, [QKV], ProductNodes(MODULE_OF))
    name = "node_MatMul_114+node_MatMul_102+node_MatMul_90_myl0_2"
    assert evidence == MergeEvidence(
        ("query", "key", "value"),
        Verdict.PROVED,
        f"one product: {name}",
        tuple(layer for layer in FUSED if layer.name == name),
    )


def test_separate_products_refute_the_merge() -> None:
    layers = [_gemm("a/MatMul", "b/MatMul"), _gemm("c/MatMul")]
    nodes = ("a/MatMul", "b/MatMul", "c/MatMul")
    [evidence] = merge_evidence(layers, [nodes], ProductNodes(dict.fromkeys(nodes, "")))
    assert evidence.verdict is Verdict.REFUTED
    assert evidence.reason == "2 products: a/MatMul+b/MatMul_myl0_1, c/MatMul_myl0_1"


def test_products_must_be_merged_in_every_profile() -> None:
    nodes, module_of = ("a/MatMul", "b/MatMul"), {"a/MatMul": "a", "b/MatMul": "b"}
    merged = _gemm(*nodes, name="a/MatMul+b/MatMul_myl0_1")
    other = _gemm(*nodes, name="a/MatMul+b/MatMul [profile 1]_myl1_1")
    [both] = merge_evidence([merged, other], [nodes], ProductNodes(module_of), profiles=2)
    assert both.verdict is Verdict.PROVED
    assert both.reason == (
        "one product in each of 2 profiles: a/MatMul+b/MatMul_myl0_1, "
        "a/MatMul+b/MatMul [profile 1]_myl1_1"
    )
    [one] = merge_evidence([merged], [nodes], ProductNodes(module_of), profiles=2)
    assert (one.verdict, one.reason) == (
        Verdict.UNPROVEN,
        "the build log lists no product named after a/MatMul, b/MatMul in each of 2 profiles",
    )
    apart = [_gemm(each, name=f"{each} [profile 1]_myl1_1") for each in nodes]
    [split] = merge_evidence([merged, *apart], [nodes], ProductNodes(module_of), profiles=2)
    assert (split.verdict, len(split.layers)) == (Verdict.REFUTED, 3)


def test_a_product_that_is_not_found_leaves_the_merge_unproven() -> None:
    [evidence] = merge_evidence(
        [_gemm("a/MatMul")], [("a/MatMul", "b/MatMul")], ProductNodes({"a/MatMul": "a"})
    )
    assert (evidence.modules, evidence.verdict, evidence.reason) == (
        ("a", "b/MatMul"),
        Verdict.UNPROVEN,
        "the build log lists no product named after b/MatMul",
    )


def test_the_products_of_a_graph_are_read_with_their_modules() -> None:
    assert product_modules(_graph()) == {
        "a/MatMul": "a",
        "b/MatMul": "b",
        "scores": "attention",
        "c/MatMul": "c",
    }


def test_linears_that_multiply_one_value_are_grouped() -> None:
    assert shared_input_nodes(_graph()) == (("a/MatMul", "b/MatMul"),)
