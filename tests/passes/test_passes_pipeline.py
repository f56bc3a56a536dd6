"""The pipeline: what it records, and that a pass that lies or fails leaves no result."""

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from passes import (
    CanonicalLinear,
    CertifySparsity,
    Change,
    Entry,
    FoldWeightQuantization,
    GraphPass,
    Invariant,
    InvariantViolated,
    PassFailed,
    RefusedGraph,
    ShareQuantizers,
    Skip,
    UnsignedActivations,
    lower,
)
from tests.passes.sample_graphs import (
    LINEARS,
    Writer,
    encoder,
    feeds_of,
    model_of,
    run,
    serialized,
)

TENSORRT = (FoldWeightQuantization(), CanonicalLinear(), ShareQuantizers())
PROMISE = "a graph it can rewrite and every promise kept"


class Silent(GraphPass):
    """Edits without a word."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        next(iter(graph)).metadata_props["edited"] = "yes"
        yield from ()


class SilentAboutLargeTensors(GraphPass):
    """Replaces a weight that is not part of the serialized structure."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        value = graph.initializers["w"]
        value.const_value = ir.Tensor(np.ones((32, 32), np.float32), name="w")
        yield from ()


class Boastful(GraphPass):
    """Reports what it did not do."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        yield Change.at(next(iter(graph)), "nothing")


class DropsAnOutput(GraphPass):
    """Changes the interface."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        graph.outputs[0].name = "renamed"
        yield Change.at(next(iter(graph)), "output renamed")


class Breaks(GraphPass):
    """Leaves a graph that shape inference rejects."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        value = next(iter(graph)).outputs[0]
        value.shape, value.type = ir.Shape([7, 7, 7]), ir.TensorType(ir.DataType.FLOAT)
        yield Change.at(next(iter(graph)), "shape set")


class Crashes(GraphPass):
    """Raises in the middle of its work."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        next(iter(graph)).op_type = "Neg"
        yield Change.at(next(iter(graph)), "half done")
        raise ZeroDivisionError("oops")


def abs_is_there(model: ir.Model) -> None:
    if not any(node.op_type == "Abs" for node in model.graph):
        raise InvariantViolated("g", expected="an Abs", found="none", remedy="keep it")


ABS_IS_THERE = Invariant("abs_is_there", abs_is_there)


class PromisesAbs(GraphPass):
    """Establishes what the graph already has."""

    establishes = (ABS_IS_THERE,)

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        yield Skip.at(next(iter(graph)), "nothing to do")


class ReplacesAbs(GraphPass):
    """Breaks what an earlier pass established."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        for node in graph:
            if node.op_type == "Abs":
                node.op_type = "Neg"
                yield Change.at(node, "negated")


class RetiresAbs(ReplacesAbs):
    """Breaks it too, and says so."""

    retires = (ABS_IS_THERE,)


class NeedsAbs(PromisesAbs):
    """Assumes what another pass may have broken."""

    assumes = (ABS_IS_THERE,)


def small() -> ir.Model:
    return model_of("g (float[S,2] x) => (float[S,2] y) {[a__Abs] m = Abs(x) [b__Neg] y = Neg(m)}")


def large() -> ir.Model:
    text = "g (float[S,32] x) => (float[S,32] y) {[a__MatMul] y = MatMul(x, w)}"
    return model_of(text, {"w": np.zeros((32, 32), np.float32)})


def failure(model: ir.Model, *passes: GraphPass, check_each: bool = False) -> PassFailed:
    with pytest.raises(PassFailed) as error:
        lower(model, passes, check_each=check_each, work_dir=None)
    return error.value


@pytest.mark.parametrize("check_each", [True, False])
def test_a_lowered_encoder_computes_what_was_captured(check_each: bool) -> None:
    model = encoder("sparse", Writer(sparse=True), shared=False)
    feeds = feeds_of(model)
    captured = run(model, feeds)
    certify = CertifySparsity(dict.fromkeys(LINEARS, (2, 4)))
    passes = (*TENSORRT, certify, UnsignedActivations())
    ledger = lower(model, passes, check_each=check_each, work_dir=None)
    np.testing.assert_array_equal(run(model, feeds), captured)
    counts = {each.name: (len(each.changes), len(each.skips)) for each in ledger.records}
    assert counts == {
        "FoldWeightQuantization": (6, 0),
        "CanonicalLinear": (6, 0),
        "ShareQuantizers": (4, 0),  # two of three pairs
        "CertifySparsity": (6, 1),  # the classifier is dense
        "UnsignedActivations": (10, 0),
    }
    assert (ledger.changes, ledger.skips) == (32, 1)


def test_the_ledger_is_json_in_the_order_of_the_passes() -> None:
    ledger = lower(small(), (PromisesAbs(), RetiresAbs()), check_each=True, work_dir=None)
    assert json.loads(json.dumps(ledger.as_json())) == [
        {
            "pass": "PromisesAbs",
            "changes": 0,
            "skips": 1,
            "entries": [
                {"kind": "skip", "node": "node_Abs_0", "module": "a", "why": "nothing to do"}
            ],
        },
        {
            "pass": "RetiresAbs",
            "changes": 1,
            "skips": 0,
            "entries": [{"kind": "change", "node": "node_Abs_0", "module": "a", "what": "negated"}],
        },
    ]


@pytest.mark.parametrize(
    ("liar", "model", "found"),
    [
        (Silent(), small, "a change that was not reported"),
        (SilentAboutLargeTensors(), large, "a change that was not reported"),
        (Boastful(), small, "a Change that was not made"),
    ],
)
def test_a_pass_that_lies_is_caught(liar: GraphPass, model: object, found: str) -> None:
    assert callable(model)
    assert str(failure(model(), liar)) == (
        f"{liar.name}: expected {PROMISE}, found [ledger: expected a Change reported exactly if "
        f"the model changed, found {found}; yield one entry for every edit, and none for no "
        "edit]; the model is void, capture it again"
    )


def test_a_pass_that_changes_the_interface_is_caught() -> None:
    assert str(failure(small(), DropsAnOutput())) == (
        f"DropsAnOutput: expected {PROMISE}, found [interface: expected (x FLOAT [S,2]) -> "
        "(y FLOAT [S,2]), found (x FLOAT [S,2]) -> (renamed FLOAT [S,2]); a pass may only rewrite "
        "what lies between inputs and outputs]; the model is void, capture it again"
    )


def test_a_pass_that_leaves_an_invalid_graph_is_caught() -> None:
    error = failure(small(), Breaks())
    assert isinstance(error.__cause__, RefusedGraph)
    assert error.found.startswith(
        "[structure: expected a graph that ONNX's checker and strict shape inference accept, found "
    )


def test_a_pass_that_crashes_is_named_with_what_it_raised() -> None:
    error = failure(small(), Crashes())
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert str(error) == (
        f"Crashes: expected {PROMISE}, found [ZeroDivisionError('oops')]; "
        "the model is void, capture it again"
    )


def test_a_broken_promise_is_found_at_the_end() -> None:
    assert str(failure(small(), PromisesAbs(), ReplacesAbs(), Boastless())) == (
        "lower: expected everything that a pass established to hold after the last one, "
        "found [g: expected an Abs, found none; keep it]; "
        "lower with check_each=True to learn which pass broke it"
    )


def test_with_check_each_the_pass_that_broke_it_is_named() -> None:
    error = failure(small(), PromisesAbs(), ReplacesAbs(), Boastless(), check_each=True)
    assert error.subject == "ReplacesAbs"
    assert error.found == "[g: expected an Abs, found none; keep it]"


def test_a_retired_promise_binds_no_later_pass() -> None:
    lower(small(), (PromisesAbs(), RetiresAbs()), check_each=True, work_dir=None)


def test_a_pass_does_not_start_without_what_it_assumes() -> None:
    error = failure(small(), ReplacesAbs(), NeedsAbs())
    assert error.subject == "NeedsAbs"
    assert error.found == "[g: expected an Abs, found none; keep it]"


class Boastless(GraphPass):
    """Does nothing and says nothing."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        yield from ()


def test_the_graph_before_the_failing_pass_is_kept(tmp_path: Path) -> None:
    model = encoder("linear")
    FoldWeightQuantization()(model)
    before = serialized(model)
    with pytest.raises(PassFailed) as error:
        lower(model, (Boastless(), Crashes()), check_each=True, work_dir=tmp_path / "work")
    path = tmp_path / "work" / "02_before_Crashes.onnx"
    assert str(error.value).endswith(f"; the graph to look at is {path}")
    kept = ir.from_proto(onnx.load(path))
    assert serialized(kept) == before


def test_the_graph_after_the_last_pass_is_kept_when_a_promise_is_broken(tmp_path: Path) -> None:
    with pytest.raises(PassFailed):
        lower(small(), (PromisesAbs(), ReplacesAbs()), check_each=False, work_dir=tmp_path)
    kept = ir.load(tmp_path / "after_the_last_pass.onnx")
    assert [node.op_type for node in kept.graph] == ["Neg", "Neg"]


def test_a_successful_lowering_keeps_no_files(tmp_path: Path) -> None:
    lower(encoder("linear"), TENSORRT, check_each=False, work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_model_is_void_and_cannot_be_lowered_again() -> None:
    model = encoder("linear")
    failure(model, Crashes())
    assert list(model.graph) == []
    assert list(model.graph.initializers) == []
    with pytest.raises(RefusedGraph) as error:
        lower(model, TENSORRT, check_each=False, work_dir=None)
    assert str(error.value) == (
        "lower: expected a captured model, found one whose lowering failed in Crashes; "
        "capture the model again"
    )


def test_an_invalid_capture_is_refused_before_any_pass() -> None:
    model = small()
    next(iter(model.graph)).op_type = "NoSuchOperator"
    with pytest.raises(RefusedGraph, match=r"^structure: .*NoSuchOperator.*; inspect the node"):
        lower(model, (), check_each=False, work_dir=None)


def test_local_functions_are_refused() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20, "local": 1]>
    g (float[S] x) => (float[S] y) { y = local.Twice(x) }
    <domain: "local", opset_import: ["": 20]> Twice (a) => (b) { b = Add(a, a) }""")
    )
    with pytest.raises(RefusedGraph) as error:
        lower(model, (), check_each=False, work_dir=None)
    assert str(error.value) == (
        "structure: expected a graph without local functions, found Twice; "
        "inline the functions before lowering"
    )


def test_a_float_weight_is_gone_once_it_is_stored_as_integers(tmp_path: Path) -> None:
    """At once, not when the garbage collector gets to the copy kept for `work_dir`."""
    model = model_of(
        """g (float[S,32] x) => (float[S,32] y) <float s = {0.5}, int8 z = {0}> {
      [a__Q] q = QuantizeLinear(w, s, z)
      [a__DQ] d = DequantizeLinear(q, s, z)
      [a__MatMul] y = MatMul(x, d)
    }""",
        {"w": np.zeros((32, 32), np.float32)},
    )
    weight = np.ones((32, 32), np.float32)
    model.graph.initializers["w"].const_value = ir.Tensor(weight, name="w")
    alive = weakref.ref(weight)
    del weight
    gc.disable()
    try:
        lower(model, (FoldWeightQuantization(),), check_each=True, work_dir=tmp_path)
        assert alive() is None
    finally:
        gc.enable()


def test_lowering_leaves_the_tensors_it_does_not_touch_where_they_are() -> None:
    """Nothing serializes the weights for a check: the very same tensor objects come out."""
    model = large()
    tensor = model.graph.initializers["w"].const_value
    lower(model, (Boastless(),), check_each=True, work_dir=None)
    assert model.graph.initializers["w"].const_value is tensor
