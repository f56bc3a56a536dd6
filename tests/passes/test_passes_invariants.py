"""Each invariant: a graph that keeps it, one that breaks it, and what it then says."""

from dataclasses import dataclass

import pytest

from passes import SPARSITY_KEY, Invariant, InvariantViolated, PassError
from passes import layer_invariants as layers
from passes import quantizer_invariants as quantizers
from passes.name_nodes import node_names_are_unique
from tests.passes.sample_graphs import model_of


@dataclass(frozen=True)
class Case:
    """A graph with one gap: what keeps the invariant, what breaks it, and the sentence."""

    text: str
    good: str
    bad: str
    message: str


PAIR = """g (float[S,2] x) => (float[S,2] y)
<float s = {0.5}, float t = {0.25}, float[2] many = {1, 2}, int8 z = {0}, int8[2] zz = {0, 0},
 uint8 u = {0}, uint8 c = {128}, int8 three = {3}> {
  [a__Q] q = QuantizeLinear(x, GAP)
  [a__DQ] y = DequantizeLinear(q, GAP)
}"""
LAYER = """g (float[S,2] x) => (float[S,2] y)
<float[2,2] w = {1, 2, 3, 4}, int8[2,2] codes = {1, 2, 3, 4}, float[2] b = {5, 6},
 float[2] s = {1, 2}, int8[2] z = {0, 0}> {
  GAP
}"""
READ = "[a__DQ] d = DequantizeLinear<axis: int = 1>(codes, s, z)\n[a__MatMul] y = MatMul(x, d)"
CANONICAL = (
    "{}: expected a linear layer whose stored weight is read directly and whose bias comes "
    "second, found {}; run CanonicalLinear on the graph"
)

CASES: dict[Invariant, list[Case]] = {
    quantizers.zero_points_are_zero: [
        Case(
            PAIR,
            "s, z",
            bad,
            "a (QuantizeLinear node_Q_0): expected int8 codes with zero-point 0, "
            f"found {found}; quantize symmetrically",
        )
        for bad, found in (
            ("s, three", "int8 codes with zero-point 3"),
            ("s, u", "uint8 codes with zero-point 0"),
            ("s", "uint8 codes with zero-point 0"),  # what an absent zero-point means
        )
    ],
    quantizers.zero_points_are_centred: [
        Case(
            PAIR,
            good,
            "s, u",
            "a (QuantizeLinear node_Q_0): expected int8 codes with zero-point 0 or uint8 codes "
            "with zero-point 128, found uint8 codes with zero-point 0; quantize symmetrically",
        )
        for good in ("s, z", "s, c")
    ],
    quantizers.activations_are_unsigned: [
        Case(
            PAIR,
            "s, c",
            "s, z",
            "a (QuantizeLinear node_Q_0): expected uint8 codes with zero-point 128, "
            "found int8 codes with zero-point 0; run UnsignedActivations on the graph",
        )
    ],
    quantizers.weight_zero_points_are_their_own: [
        Case(
            LAYER,
            READ,
            READ.replace(", z)", ")"),
            "a (DequantizeLinear node_DQ_0): expected a zero-point that nothing else reads, "
            "found none; run OwnZeroPoints on the graph",
        )
    ],
    quantizers.scales_are_positive_and_finite: [
        Case(
            PAIR.replace("{0.5}", "{GAP}").replace("(x, GAP)", "(x, s)").replace("q, GAP", "q, s"),
            "0.5",
            "-0.5",
            "a (QuantizeLinear node_Q_0): expected positive finite scales, found -0.5 at index 0 "
            "(1 of 1 invalid); recalibrate; a dead channel takes any positive scale",
        ),
        Case(
            PAIR.replace("{\n", "{\n  [a__Abs] computed = Abs(s)\n", 1),
            "s, z",
            "computed, z",
            "a (QuantizeLinear node_Q_1): expected a constant scale, "
            "found one that the graph computes; calibrate the scale before the export",
        ),
    ],
    quantizers.activation_scales_are_per_tensor: [
        Case(
            PAIR,
            "s, z",
            "many, zz",
            "a (QuantizeLinear node_Q_0): expected one scale for the whole value, "
            "found 2 scales; quantize activations per tensor",
        )
    ],
    quantizers.every_quantize_has_its_dequantize: [
        Case(
            PAIR.replace("(q, GAP)", "(q, s, z)"),
            "s, z",
            bad,
            "a (QuantizeLinear node_Q_0): expected codes read by DequantizeLinear with the same "
            "scale, zero-point and axis, found them read by a (DequantizeLinear node_DQ_1); "
            "keep both nodes of a pair together",
        )
        for bad in ("t, z", "s, three")
    ]
    + [
        Case(
            PAIR.replace("(x, GAP)", "(x, s, z)").replace("q, GAP", "GAP, s, z"),
            "q",
            "fed",
            "a (QuantizeLinear node_Q_0): expected codes read by DequantizeLinear with the same "
            "scale, zero-point and axis, found them read by nothing; "
            "keep both nodes of a pair together",
        ),
        Case(
            "g (float[S,2] x, int8[S,2] fed) => (float[S,2] y)\n"
            "<float s = {0.5}, int8[2] codes = {1, 2}> {[a__DQ] y = DequantizeLinear(GAP, s)}",
            "codes",
            "fed",
            "a (DequantizeLinear node_DQ_0): expected codes from QuantizeLinear or a constant, "
            "found 'fed'; keep both nodes of a pair together",
        ),
    ],
    quantizers.quantizers_are_shared: [
        Case(
            PAIR.replace("=> (", "=> (float[S,2] y2, ")
            .replace("GAP", "s, z")
            .replace("}", "}  ")
            .replace(
                "y = DequantizeLinear(q, s, z)\n",
                "y = DequantizeLinear(q, s, z)\n"
                "  [b__Q] q2 = QuantizeLinear(x, GAP, z)\n"
                "  [b__DQ] d2 = DequantizeLinear(q2, GAP, z)\n  [b__Abs] y2 = Abs(d2)\n",
            ),
            "t",
            "s",
            "b (QuantizeLinear node_Q_2): expected to share node_Q_0, which does the same to the "
            "same value, found two nodes; run ShareQuantizers on the graph",
        )
    ],
    layers.weights_are_stored_integers: [
        Case(
            LAYER,
            READ,
            "[a__Q] q = QuantizeLinear<axis: int = 0>(w, s, z)\n"
            "[a__DQ] d = DequantizeLinear<axis: int = 0>(q, s, z)\n[a__MatMul] y = MatMul(x, d)",
            "a (QuantizeLinear node_Q_0): expected stored integers, found a QuantizeLinear of "
            "the constant 'w'; run FoldWeightQuantization on the graph",
        ),
        Case(
            LAYER,
            READ,
            "[a__Abs] v = Abs(w)\n[a__Q] q = QuantizeLinear<axis: int = 0>(v, s, z)\n"
            "[a__DQ] d = DequantizeLinear<axis: int = 0>(q, s, z)\n[a__MatMul] y = MatMul(x, d)",
            "a (QuantizeLinear node_Q_1): expected stored integers, found a QuantizeLinear of "
            "the constant 'v'; run FoldWeightQuantization on the graph",
        ),
    ],
    layers.linear_layers_are_canonical: [
        Case(
            LAYER,
            good,
            bad,
            CANONICAL.format(node, found),
        )
        for good, bad, node, found in (
            (
                "[a__MatMul] y = MatMul(x, w)",
                "[a__Transpose] t = Transpose<perm = [1, 0]>(w)\n[a__MatMul] y = MatMul(x, t)",
                "a (MatMul node_MatMul_1)",
                "the weight behind a (Transpose node_Transpose_0)",
            ),
            (
                READ,
                READ.replace("x, d", "x, t").replace("\n", "\n[a__T] t = Transpose(d)\n"),
                "a (MatMul node_MatMul_2)",
                "the weight behind a (DequantizeLinear node_DQ_0), a (Transpose node_T_1)",
            ),
            (
                "[a__MatMul] m = MatMul(x, w)\n[a__Add] y = Add(m, b)",
                "[a__MatMul] m = MatMul(x, w)\n[a__Add] y = Add(b, m)",
                "a (MatMul node_MatMul_0)",
                "the bias as first operand of a (Add node_Add_1)",
            ),
            (
                "[a__Gemm] y = Gemm<transB: int = 1>(x, w, b)",
                "[a__Gemm] y = Gemm<beta: float = 2.0>(x, w, b)",
                "a (Gemm node_Gemm_0)",
                "beta 2.0",
            ),
            (
                READ,
                "[a__Sum] v = Add(w, w)\n[a__MatMul] y = MatMul(x, v)",
                "a (MatMul node_MatMul_1)",
                "a weight computed by a (Add node_Sum_0)",
            ),
        )
    ],
    layers.weight_scales_lie_on_the_output_axis: [
        Case(
            LAYER,
            READ,
            READ.replace("axis: int = 1", "axis: int = 0"),
            "a (MatMul node_MatMul_1): expected 2 weight scales on axis 1, that of the output "
            "channels, found 2 on axis 0; quantize the weight per output channel",
        )
    ],
}


def named() -> list[object]:
    return [
        pytest.param(statement, case, id=f"{statement.name}-{index}")
        for statement, cases in CASES.items()
        for index, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("statement", "case"), named())
def test_it_holds_where_it_should(statement: Invariant, case: Case) -> None:
    statement.check(model_of(case.text.replace("GAP", case.good)))


@pytest.mark.parametrize(("statement", "case"), named())
def test_it_names_what_breaks_it(statement: Invariant, case: Case) -> None:
    model = model_of(case.text.replace("GAP", case.bad))
    with pytest.raises(PassError) as error:
        statement.check(model)
    assert str(error.value) == case.message


def test_every_invariant_has_a_case() -> None:
    """Those about stamps have tests of their own, here and beside CertifySparsity."""
    statements = {
        statement
        for module in (layers, quantizers)
        for statement in vars(module).values()
        if isinstance(statement, Invariant)
    }
    assert statements - CASES.keys() == {layers.stamped_sparsity_holds}
    assert all(CASES.values())


def test_a_stamped_product_without_a_constant_weight_is_a_violation() -> None:
    model = model_of("""g (float[S,2] x, float[2,2] w) => (float[S,2] y) {
      [a__MatMul] y = MatMul(x, w)
    }""")
    next(iter(model.graph)).metadata_props[SPARSITY_KEY] = "2:4"
    with pytest.raises(InvariantViolated) as error:
        layers.stamped_sparsity_holds.check(model)
    assert str(error.value) == (
        "a (MatMul node_MatMul_0): expected a linear layer, since the node is stamped 2:4, "
        "found no constant weight matrix; keep the weight of a stamped layer readable"
    )


def test_two_nodes_of_one_name_are_a_violation() -> None:
    model = model_of("g (float[S] x) => (float[S] y) {[a__Abs] m = Abs(x) [b__Neg] y = Neg(m)}")
    node_names_are_unique.check(model)
    for node in model.graph:
        node.name = "same"
    with pytest.raises(InvariantViolated) as error:
        node_names_are_unique.check(model)
    assert str(error.value) == (
        "b (Neg same): expected a name of its own, found that of a (Abs same); "
        "run NameNodes on the graph"
    )
