import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    Int8Coverage,
    ModuleEvidence,
    Operand,
    ProductNodes,
    Verdict,
    int8_coverage,
    parse_layers,
)

FOLDER = Path(__file__).parent
FUSED = parse_layers((FOLDER / "rtx_1_7_fused_attention.log").read_text())
# The same placement with heads 8 wide: INT8 products, but no fused kernel.
APART = parse_layers((FOLDER / "rtx_1_7_attention_apart.log").read_text())

MODULE_OF = {
    "node_MatMul_90": "query",
    "node_MatMul_102": "key",
    "node_MatMul_114": "value",
    "node_MatMul_136": "output",
    "node_MatMul_144": "up",
    "node_MatMul_150": "down",
    "node_matmul": "attention",
    "node_matmul_1": "attention",
    "node_Gemm_290": "pooler",
    "node_Gemm_291": "classifier",
}
ENCODER = ("query", "key", "value", "output", "up", "down")
INT8 = Operand("x", (-1, 64), "Int8")
HALF = Operand("r", (-1, 64), "Half")
ALPHA = Operand("alpha", (1,), "Float")
WEIGHT = Operand("w", (64, 64), "Int8")
PACKED = Operand("w", (64, 64), "Int4")
UNREAD = Operand("?", (-1,), "?")
STEPS = ("a/MatMul", "a/Add", "b/MatMul")  # as the metadata of a fused kernel lists them


def _gemm(
    *inputs: Operand,
    constants: Sequence[Operand] = (),
    nodes: tuple[str, ...] = ("a/MatMul",),
    name: str = "a/MatMul_myl0_1",
    kind: str = "gemm",
    tactic: str = "",
    output: str = "Float",
) -> EngineLayer:
    outputs = (Operand("y", (-1, 64), output),)
    return EngineLayer(name, kind, inputs, tuple(constants), outputs, tactic, nodes, "the line")


def _judge(*layers: EngineLayer) -> ModuleEvidence:
    [evidence] = int8_coverage(
        layers, ProductNodes({"a/MatMul": "a"}), linears=["a"], attentions=[]
    ).linears
    return evidence


def _judge_several(
    *layers: EngineLayer, together: tuple[tuple[str, ...], ...] = ()
) -> tuple[ModuleEvidence, ...]:
    """Of the linears "a" and "b"."""
    products = ProductNodes({"a/MatMul": "a", "b/MatMul": "b"}, together)
    return int8_coverage(layers, products, linears=["a", "b"], attentions=[]).linears


def _judge_attention(*layers: EngineLayer) -> ModuleEvidence:
    nodes = {"scores": "attention", "context": "attention"}
    [evidence] = int8_coverage(
        layers, ProductNodes(nodes), linears=[], attentions=["attention"]
    ).attentions
    return evidence


def _real(layers: Sequence[EngineLayer]) -> Int8Coverage:
    return int8_coverage(layers, ProductNodes(MODULE_OF), linears=ENCODER, attentions=["attention"])


def test_a_real_build_proves_every_linear_and_the_attention() -> None:
    coverage = _real(FUSED)
    assert coverage.verdict is Verdict.PROVED
    assert (coverage.int8_linears, len(coverage.linears)) == (6, 6)
    assert (coverage.int8_attentions, len(coverage.attentions)) == (1, 1)


def test_rtx_gemms_write_float_and_the_attention_writes_int8() -> None:
    coverage = _real(FUSED)
    assert coverage.int8_output_linears == 0
    assert coverage.attentions[0].writes_int8


def test_evidence_is_the_line_and_a_phrase_about_it() -> None:
    output = next(each for each in _real(FUSED).linears if each.module == "output")
    assert output.reason == "gemm node_MatMul_136_myl0_8: Int8 to Float by __myelin_CASK_STUB"
    assert [line.partition(",")[0] for line in output.lines] == ["Name: node_MatMul_136_myl0_8"]


def test_query_key_and_value_share_one_line() -> None:
    lines = {each.module: each.lines for each in _real(FUSED).linears}
    assert lines["query"] == lines["key"] == lines["value"]
    assert len(lines["query"]) == 1


def test_float_layers_of_a_real_build_are_refuted() -> None:
    coverage = int8_coverage(
        FUSED, ProductNodes(MODULE_OF), linears=["pooler", "classifier"], attentions=[]
    )
    assert {each.module: each.verdict for each in coverage.linears} == {
        "classifier": Verdict.REFUTED,
        "pooler": Verdict.REFUTED,
    }
    assert coverage.verdict is Verdict.REFUTED


def test_int8_products_that_are_not_fused_refute_the_attention() -> None:
    [attention] = _real(APART).attentions
    assert attention.verdict is Verdict.REFUTED
    assert attention.reason == (
        "not fused: gemm node_matmul_myl0_6: Int8×Int8 to Float by __myelin_CASK_STUB; "
        "gemm node_matmul_1_myl0_11: Int8×Int8 to Int8 by __myelin_CASK_STUB"
    )


def test_modules_missing_from_the_log_are_unproven() -> None:
    coverage = _real(APART)
    down = next(each for each in coverage.linears if each.module == "down")
    assert (down.verdict, down.lines) == (Verdict.UNPROVEN, ())
    assert down.reason == "the build log lists no layer made from node_MatMul_150"


def test_an_empty_log_proves_nothing() -> None:
    coverage = _real(())
    assert coverage.verdict is Verdict.UNPROVEN
    assert (coverage.int8_linears, coverage.int8_attentions) == (0, 0)
    assert {each.verdict for each in (*coverage.linears, *coverage.attentions)} == {
        Verdict.UNPROVEN
    }


def test_asking_about_nothing_proves_nothing() -> None:
    coverage = int8_coverage(FUSED, ProductNodes(MODULE_OF), linears=[], attentions=[])
    assert coverage.verdict is Verdict.UNPROVEN


def test_a_module_without_nodes_is_unproven() -> None:
    coverage = int8_coverage(FUSED, ProductNodes({}), linears=["a"], attentions=["b"])
    reasons = [each.reason for each in (*coverage.linears, *coverage.attentions)]
    assert reasons == ["no MatMul or Gemm node of the graph belongs to it"] * 2
    assert coverage.verdict is Verdict.UNPROVEN


def test_a_rescaling_kernel_that_lists_the_product_proves_nothing() -> None:
    evidence = _judge(_gemm(INT8, name="__myl_MulAdd_myl0_2", kind="kgen"))
    assert evidence.verdict is Verdict.UNPROVEN
    assert evidence.reason == "a/MatMul only within layers of type kgen"


def test_a_fused_rescaling_does_not_hide_the_product() -> None:
    rescaling = _gemm(HALF, name="__myl_MulAddRelu_myl0_2", kind="fusion")
    assert _judge(_gemm(INT8, WEIGHT), rescaling).verdict is Verdict.PROVED


def test_a_neighbours_int8_product_proves_nothing() -> None:
    neighbour = _gemm(INT8, WEIGHT, nodes=("b/MatMul", "a/MatMul"), name="b/MatMul_myl0_3")
    assert _judge(neighbour).verdict is Verdict.UNPROVEN


def test_a_float_convolution_of_rtx_is_a_product_and_refutes() -> None:
    data = Operand("x", (-1, 64, -1, 1), "Float")
    assert _judge(_gemm(data, kind="correlation")).verdict is Verdict.REFUTED


def test_one_float_layer_among_several_refutes() -> None:
    assert _judge(_gemm(INT8), _gemm(HALF)).verdict is Verdict.REFUTED


def test_a_product_within_an_elementwise_kernel_is_a_product() -> None:
    own = _gemm(HALF, HALF, name="__myl_FcCastMulAdd_myl0_2", kind="kgen")
    assert _judge(own).verdict is Verdict.REFUTED
    assert _judge(dataclasses.replace(own, inputs=(INT8, WEIGHT))).verdict is Verdict.PROVED


def test_a_neighbours_fused_int8_product_proves_nothing() -> None:
    own = _gemm(HALF, name="__myl_FcCastMulAdd_myl0_2", kind="kgen")
    neighbour = _gemm(INT8, WEIGHT, nodes=STEPS, name="__myl_FcMulAdd_myl0_3", kind="fusion")
    first, second = _judge_several(own, neighbour)
    assert first.verdict is Verdict.REFUTED
    assert (second.verdict, second.layers) == (Verdict.UNPROVEN, ())
    assert second.reason == (
        "fusion __myl_FcMulAdd_myl0_3: Int8×Int8 to Float may be of a/MatMul or b/MatMul"
    )


def test_a_fused_product_of_nodes_that_read_one_value_is_of_all_of_them() -> None:
    merged = _gemm(INT8, WEIGHT, nodes=STEPS, name="__myl_FcMulAdd_myl0_3", kind="fusion")
    found = _judge_several(merged, together=(("b/MatMul", "a/MatMul", "c/MatMul"),))
    assert [each.verdict for each in found] == [Verdict.PROVED] * 2


def test_a_fused_product_lists_nodes_that_are_no_products_too() -> None:
    nodes = ("a/Dequantize", "a/MatMul", "a/Add")
    layer = _gemm(INT8, WEIGHT, nodes=nodes, name="__myl_FcAdd_myl0_3", kind="fusion")
    assert _judge(layer).verdict is Verdict.PROVED


@pytest.mark.parametrize(
    ("layer", "verdict"),
    [
        (_gemm(INT8, constants=[WEIGHT, ALPHA]), Verdict.PROVED),
        (_gemm(INT8, WEIGHT, ALPHA), Verdict.PROVED),
        (_gemm(HALF, constants=[WEIGHT, ALPHA]), Verdict.REFUTED),
        (_gemm(HALF, HALF), Verdict.REFUTED),
        (_gemm(INT8, constants=[HALF]), Verdict.UNPROVEN),
        (_gemm(HALF, WEIGHT), Verdict.UNPROVEN),
        (_gemm(INT8, WEIGHT, HALF), Verdict.UNPROVEN),
        (_gemm(INT8, WEIGHT, HALF, tactic="sm80_xmma_gemm_i8f16_i8i32_f32_tn_n"), Verdict.PROVED),
        (_gemm(INT8, WEIGHT, HALF, tactic="sm80_xmma_gemm_f16f16_f16f32"), Verdict.UNPROVEN),
        (_gemm(INT8, constants=[WEIGHT], tactic="sm80_xmma_gemm_f16f16_f16f32"), Verdict.UNPROVEN),
        (_gemm(INT8, constants=[WEIGHT], tactic="__myl_Gemm_0x1"), Verdict.PROVED),
        (_gemm(INT8), Verdict.UNPROVEN),
        (_gemm(INT8, constants=[PACKED]), Verdict.UNPROVEN),
        (_gemm(HALF, constants=[PACKED]), Verdict.REFUTED),
        (_gemm(INT8, WEIGHT, UNREAD), Verdict.UNPROVEN),
        (_gemm(INT8, constants=[UNREAD]), Verdict.UNPROVEN),
        (_gemm(Operand("x", (-1, -1), "Float"), INT8), Verdict.UNPROVEN),  # neither size is known
        (_gemm(ALPHA), Verdict.UNPROVEN),
        (_gemm(), Verdict.UNPROVEN),
    ],
    ids=[
        "int8 data and weights",
        "weights among the inputs",
        "weights alone in int8",
        "all float",
        "data alone in int8",
        "float data or float residual",
        "float bias, unknown kernel",
        "float bias, int8 kernel",
        "float bias, float kernel",
        "int8 data and weights, float kernel",
        "int8 data and weights, a kernel that does not say",
        "int8 data, weights not listed",
        "weights in int4",
        "weights in int4 beside floats",
        "an input in another form",
        "a weight in another form",
        "float data of unknown shape",
        "scalars only",
        "no operands",
    ],
)
def test_data_types_and_kernel_decide(layer: EngineLayer, verdict: Verdict) -> None:
    assert _judge(layer).verdict is verdict


@pytest.mark.parametrize(
    ("name", "operands", "verdict"),
    [
        ("__myl_FcMulAdd_myl0_2", (INT8, WEIGHT), Verdict.PROVED),
        ("__myl_CastMulCastMulCastFc_myl0_2", (INT8, WEIGHT), Verdict.REFUTED),
        ("__myl_CastMulFc_myl0_2", (HALF, WEIGHT), Verdict.REFUTED),
        ("__myl_MulMinMaxRounCastFc_myl0_2", (HALF, WEIGHT), Verdict.UNPROVEN),
        ("__myl_CastMulAddEtc_myl0_2", (INT8, WEIGHT), Verdict.UNPROVEN),
        ("__myl_FcTanh_myl0_2", (HALF, HALF), Verdict.REFUTED),
    ],
)
def test_the_steps_of_a_fused_kernel_decide(
    name: str, operands: tuple[Operand, ...], verdict: Verdict
) -> None:
    assert _judge(_gemm(*operands, name=name, kind="runtime_fusion")).verdict is verdict


def _judge_both(*layers: EngineLayer) -> Int8Coverage:
    return int8_coverage(
        layers,
        ProductNodes({"a/MatMul": "a", "scores": "attention", "context": "attention"}),
        linears=["a"],
        attentions=["attention"],
        profiles=2,
    )


FIRST, SECOND = _gemm(INT8, WEIGHT), _gemm(INT8, WEIGHT, name="a/MatMul [profile 1]_myl1_1")
# A fused attention is named after no node, and so has no profile in its name.
FUSED_ONE, FUSED_TWO = (
    _gemm(INT8, INT8, INT8, nodes=("scores", "context"), name=f"_gemm_mha_v2_{at}", kind="kgen")
    for at in ("myl0_7", "myl1_14")
)


def test_each_profile_must_show_its_kernels() -> None:
    assert _judge_both(FIRST, SECOND, FUSED_ONE, FUSED_TWO).verdict is Verdict.PROVED
    half = _judge_both(FIRST, FUSED_ONE)
    [linear], [attention] = half.linears, half.attentions
    assert linear.verdict is attention.verdict is Verdict.UNPROVEN
    assert not linear.in_every_profile
    assert not attention.in_every_profile
    assert linear.reason == "in 1 of 2 profiles: gemm a/MatMul_myl0_1: Int8×Int8 to Float"
    assert attention.reason.startswith("fused in 1 of 2 profiles: ")


def test_two_kernels_of_one_profile_do_not_stand_for_two() -> None:
    twice = dataclasses.replace(FIRST, name="a/MatMul_myl0_2")
    again = dataclasses.replace(FUSED_ONE, name="_gemm_mha_v2_myl0_9")
    found = _judge_both(FIRST, twice, FUSED_ONE, again)
    assert [each.in_every_profile for each in (*found.linears, *found.attentions)] == [False] * 2
    assert found.linears[0].reason.startswith("in 1 of 2 profiles: ")


def test_layers_outside_of_myelin_bear_the_profiles_number_in_their_names() -> None:
    layers = (dataclasses.replace(FIRST, name=f"a/MatMul{at}") for at in ("", " [profile 1]"))
    assert _judge_both(*layers).linears[0].verdict is Verdict.PROVED


def test_a_float_kernel_in_one_profile_refutes() -> None:
    float_one = _gemm(HALF, HALF, name="a/MatMul [profile 1]_myl1_1")
    assert _judge_both(FIRST, float_one).linears[0].verdict is Verdict.REFUTED
    assert _judge_both(float_one).linears[0].verdict is Verdict.REFUTED


def test_an_attention_in_pieces_in_one_profile_refutes() -> None:
    apart = [
        _gemm(INT8, INT8, nodes=(node,), name=f"{node} [profile 1]_myl1_{at}")
        for at, node in enumerate(("scores", "context"))
    ]
    [attention] = _judge_both(FUSED_ONE, *apart).attentions
    assert (attention.verdict, attention.in_every_profile) == (Verdict.REFUTED, True)
    assert attention.reason == (
        "not fused: gemm scores [profile 1]_myl1_0: Int8×Int8 to Float; "
        "gemm context [profile 1]_myl1_1: Int8×Int8 to Float"
    )


def test_a_kernel_of_a_later_profile_is_named_after_its_nodes() -> None:
    layer = _gemm(
        INT8,
        nodes=("a/MatMul", "b/MatMul", "c/MatMul"),
        name="a/MatMul [profile 1]+b/MatMul [profile 1]_myl1_8",
    )
    assert layer.named_nodes == ("a/MatMul", "b/MatMul")


def test_an_int8_output_is_counted() -> None:
    assert _judge(_gemm(INT8, WEIGHT, output="Int8")).writes_int8
    assert not _judge(_gemm(INT8, WEIGHT, output="Half")).writes_int8


def test_an_output_that_could_not_be_read_is_no_int8_output() -> None:
    own = _gemm(INT8, WEIGHT, output="Int8")
    for outputs in ((), (UNREAD,), (*own.outputs, UNREAD)):
        assert not _judge(dataclasses.replace(own, outputs=outputs)).writes_int8


@pytest.mark.parametrize(
    ("inputs", "verdict"),
    [
        ((INT8, INT8, INT8), Verdict.PROVED),
        ((INT8, INT8, INT8, HALF), Verdict.PROVED),
        ((HALF, HALF, INT8), Verdict.UNPROVEN),
        ((HALF, HALF, HALF), Verdict.REFUTED),
    ],
    ids=["all int8", "int8 and a float mask", "value alone in int8", "all float"],
)
def test_data_types_of_a_fused_attention_decide(
    inputs: tuple[Operand, ...], verdict: Verdict
) -> None:
    fused = _gemm(*inputs, nodes=("scores", "context"), name="_gemm_mha_v2_myl0_7", kind="kgen")
    assert _judge_attention(fused).verdict is verdict


def test_a_fused_kernel_with_one_of_two_products_proves_nothing() -> None:
    fused = _gemm(INT8, INT8, INT8, nodes=("scores",), name="_gemm_mha_v2_myl0_7", kind="kgen")
    assert _judge_attention(fused).verdict is Verdict.UNPROVEN


def test_counts_verdicts_and_reasons_become_json() -> None:
    facts = json.loads(json.dumps(_real(FUSED).as_json()))
    assert facts["verdict"] == "proved"
    assert facts["linears"] == {"total": 6, "int8": 6, "int8_output": 0}
    assert facts["attentions"] == {"total": 1, "int8": 1}
    assert [each["module"] for each in facts["modules"]] == [*sorted(ENCODER), "attention"]
    assert set(facts["modules"][0]) == {"module", "verdict", "reason"}
