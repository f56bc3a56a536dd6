"""What --fix mends: the finding is gone and onnxruntime computes what it computed before."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from passes import PassFailed, RefusedGraph
from passes.lint import EXACT_FIXES, ROUNDING_FIXES, RULES, Severity, lint, mend
from passes.lint.fixes import PositiveScales
from passes.lint.fixes.parameters import replace_constant
from samples.bad_graphs import BAD_GRAPHS, BadGraph
from samples.bad_graphs.places import dequantize_of, layer_of
from tests.passes.sample_graphs import model_of, run, serialized

MENDED = {
    "code-type (INT16 weight)",
    "duplicate-quantizers",
    "float-storage",
    "int4-per-channel",
    "moved-codes (Clip)",
    "moved-codes (Gather)",
    "moved-codes (Transpose)",
    "quantized-vector",
    "scaled-table",
    "stored-bias",
    "transposed-weight",
    "uint8-around-128",
    "uint8-weight",
    "weight-scale (a pruned channel)",
    "weight-scale (negative)",
    "weight-zero-point",
}
# No pass rewrites a graph with local functions.
UNMENDED = {"integer-operator (in a local function)", "unread-function"}
# Stored the way they are read, which leaves them blocks.
TURNED = {"blocks-times-int8 (a Transpose)", "int8-blocks (a Transpose)"}
# Codes around 1 are 2:4 in the file and not in value: mending the one shows the other.
UNCOVERED = {"weight-zero-point": {"sparsity-stamp"}}


REQUANTIZED = {"activation-zero-point", "uint8-activation (zero-point 0)"}


def named(name: str) -> BadGraph:
    return next(bad for bad in BAD_GRAPHS if bad.name == name)


def logits(model: ir.Model) -> npt.NDArray[np.float32]:
    ids = np.arange(24).reshape(2, 12)
    mask = np.ones_like(ids)
    mask[1, 7:] = 0
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (result,) = run(model, feeds)
    return np.asarray(result)


@pytest.mark.parametrize("name", sorted(MENDED))
def test_an_exact_fix_mends_its_finding_and_keeps_every_value(good: ir.Model, name: str) -> None:
    named(name).mutate(good)
    before = serialized(good)
    expected = logits(good)
    mended = mend(good, EXACT_FIXES)
    assert {finding.rule for finding in lint(mended.model)} == UNCOVERED.get(name, set())
    np.testing.assert_array_equal(logits(mended.model), expected)
    onnx.checker.check_model(ir.to_proto(mended.model), full_check=True)
    assert mended.ledger.changes
    assert serialized(good) == before


@pytest.mark.parametrize("name", sorted({bad.name for bad in BAD_GRAPHS} - MENDED - UNMENDED))
def test_what_no_exact_fix_mends_is_left_as_it_was(good: ir.Model, name: str) -> None:
    bad = named(name)
    bad.mutate(good)
    before = serialized(good)
    mended = mend(good, EXACT_FIXES)
    assert {finding.rule for finding in lint(mended.model, **bad.options)} == {bad.rule}
    assert (serialized(mended.model) == before) is (name not in TURNED)


@pytest.mark.parametrize("name", sorted(UNMENDED))
def test_a_graph_with_local_functions_is_not_mended(good: ir.Model, name: str) -> None:
    named(name).mutate(good)
    with pytest.raises(RefusedGraph, match="expected a graph without local functions"):
        mend(good, EXACT_FIXES)


def test_a_remedy_names_the_option_of_the_fix_that_mends_it() -> None:
    exact = {named(name).rule for name in MENDED}
    rounding = {named(name).rule for name in REQUANTIZED}
    assert {rule.name for rule in RULES if "--fix" in rule.remedy} == exact
    assert {rule.name for rule in RULES if "--requantize" in rule.remedy} == rounding


def test_a_good_graph_stays_as_it_is(good: ir.Model) -> None:
    before = serialized(good)
    mended = mend(good, (*ROUNDING_FIXES, *EXACT_FIXES))
    assert (mended.ledger.changes, mended.not_run) == (0, ())
    assert serialized(mended.model) == before


@pytest.mark.parametrize("name", sorted(REQUANTIZED))
def test_requantizing_mends_what_no_exact_fix_can(good: ir.Model, name: str) -> None:
    expected = logits(good)
    named(name).mutate(good)
    mended = mend(good, (*ROUNDING_FIXES, *EXACT_FIXES))
    assert lint(mended.model) == ()
    assert not all(fix.preserves_values for fix in ROUNDING_FIXES)
    np.testing.assert_allclose(logits(mended.model), expected, rtol=0.1, atol=0.1)


def test_a_softmax_requantized_from_uint8_reaches_one(good: ir.Model) -> None:
    named("uint8-activation (zero-point 0)").mutate(good)
    named("softmax-scale").mutate(good)  # 1/255, as a uint8 softmax has it
    mended = mend(good, ROUNDING_FIXES)
    assert lint(mended.model) == ()


def test_a_fix_that_cannot_run_says_why_and_the_others_run(good: ir.Model) -> None:
    named("stored-bias").mutate(good)
    named("activation-zero-point").mutate(good)
    mended = mend(good, EXACT_FIXES)
    assert {finding.rule for finding in lint(mended.model)} == {"activation-zero-point"}
    ((fix, why),) = mended.not_run
    assert fix == "FoldWeightQuantization"
    assert why.endswith(
        "expected int8 codes with zero-point 0, found int8 codes with zero-point 3; "
        "quantize symmetrically"
    )


def test_a_layer_that_cannot_be_mended_does_not_keep_the_others_from_it(good: ir.Model) -> None:
    named("transposed-weight").mutate(good)
    pooler = layer_of(good, "pooler.dense").node
    pooler.attributes["alpha"] = ir.AttrFloat32("alpha", 0.5)
    expected = logits(good)
    mended = mend(good, EXACT_FIXES)
    assert lint(mended.model) == ()
    np.testing.assert_array_equal(logits(mended.model), expected)
    assert mended.not_run == ()
    (skip,) = [each for record in mended.ledger.records for each in record.skips]
    assert (skip.node, skip.why) == (pooler.name, "alpha 0.5")


def test_a_positive_scale_keeps_every_number_and_may_turn_a_negative_zero() -> None:
    model = model_of("""g (float[2] x) => (float[2,2] y)
    <int8[2,2] codes = {0, 3, -5, 0}, float[2] scale = {-2, 0.5}, int8[2] zero = {0, 0}> {
      [table__DQ] w = DequantizeLinear<axis: int = 1>(codes, scale, zero)
      [table__Mul] y = Mul(w, x)
    }""")
    feeds = {"x": np.ones(2, np.float32)}
    (before,), (after,) = run(model, feeds), run(mend(model, (PositiveScales,)).model, feeds)
    np.testing.assert_array_equal(after, before)
    assert np.signbit(before).tolist() == [[True, False], [False, False]]
    assert not np.signbit(after).any()


def test_a_code_without_a_negative_keeps_its_scale(good: ir.Model) -> None:
    layer = layer_of(good, "intermediate.dense")
    codes, scale = layer.weight.stored.copy(), np.array(layer.weight.scale)
    row = int(np.flatnonzero(codes[:, 4])[0])
    codes[row, 4], scale[4] = -128, -scale[4]
    replace_constant(dequantize_of(layer), 0, codes)
    replace_constant(dequantize_of(layer), 1, scale)
    mended = mend(good, EXACT_FIXES)
    (skip,) = [each for record in mended.ledger.records for each in record.skips]
    assert skip.why == "the code -128 has no negative in int8"
    assert {finding.rule for finding in lint(mended.model)} == {"weight-scale"}


def test_a_graph_that_is_not_valid_is_refused(good: ir.Model) -> None:
    good.graph.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    with pytest.raises(RefusedGraph, match="a graph that ONNX's checker and strict shape"):
        mend(good, EXACT_FIXES)


def test_a_bug_in_a_fix_is_not_mistaken_for_a_refusal(good: ir.Model) -> None:
    class Broken(EXACT_FIXES[0]):  # type: ignore[misc,valid-type]
        def rewrite(self, graph: ir.Graph) -> list[object]:
            raise ZeroDivisionError

    with pytest.raises(PassFailed, match="ZeroDivisionError"):
        mend(good, (Broken,))


def test_findings_of_a_refused_kind_come_from_refusing_rules(good: ir.Model) -> None:
    named("stored-bias").mutate(good)
    (finding,) = lint(good)
    assert finding.severity is Severity.REFUSE
    assert str(finding).startswith(
        "refuse stored-bias: bert.encoder.layer.0.intermediate.dense (added_DequantizeLinear_"
    )
    assert finding.as_json()["found"] == "an int32 constant behind a DequantizeLinear"
