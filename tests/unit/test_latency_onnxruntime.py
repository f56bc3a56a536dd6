"""Linears and whole models, timed by onnxruntime on the machine that runs the tests."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from nxmi_export.capture import CapturedGraph, capture
from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.errors import CapabilityMissing, ShapeError, UnsupportedModel, UsageError
from nxmi_export.latency import KINDS, Gemm, LatencyTable, LinearShape, Workload, roofline
from nxmi_export.latency import measure_onnxruntime as measuring
from nxmi_export.latency.encoder_shapes import encoder_in_words, encoder_shapes
from nxmi_export.latency.measure_onnxruntime import measure_onnxruntime
from nxmi_export.latency.of_model import latency_of_model
from nxmi_export.latency.rest_onnxruntime import rest_onnxruntime
from nxmi_export.latency.table import INT8_OUT
from nxmi_export.model_facts import model_facts
from tests.tiny_models import ARCHITECTURES, POSITION_LIMIT, tiny_config, tiny_model

SHAPES = (LinearShape(128, 256), LinearShape(256, 128))
ROWS = 256


def checkpoint(model_type: str = "bert") -> CompressedCheckpoint:
    """The configuration alone, which is all that latency asks for."""
    config = tiny_config(model_type)
    return CompressedCheckpoint(ARCHITECTURES[model_type], config.to_dict(), {}, {}, {})


@pytest.fixture(scope="module", autouse=True)
def empty_calls_that_cost_nothing() -> Iterator[None]:
    """On a busy machine an empty call may take longer than a linear, which is then refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_empty_timer", lambda threads: lambda: 0.0)
        yield


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return measure_onnxruntime(SHAPES, ROWS, threads=1, rounds=5)


def test_every_linear_is_timed_in_every_kind(table: LatencyTable) -> None:
    assert set(table.entries) == {Gemm(ROWS, *shape, kind) for shape in SHAPES for kind in KINDS}
    # A multiplication and an addition a cycle would be far slower, ten thousand far faster.
    rates = [2 * ROWS * 128 * 256 / seconds for seconds in table.entries.values()]
    assert all(1e8 < rate < 1e14 for rate in rates)


def test_a_measured_table_says_what_it_depends_on(table: LatencyTable) -> None:
    assert table.source == "measured"
    assert table.device.startswith("onnxruntime on ")
    assert table.conditions["onnxruntime"] == onnxruntime.__version__
    assert (table.conditions["threads"], table.conditions["rounds"]) == (1, 5)
    spread = table.conditions["spread"]
    assert isinstance(spread, float)
    assert spread >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_that_is_timed_multiplies_integers_where_it_should(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    load = onnx.load

    def spy(path: Any) -> onnx.ModelProto:
        model = load(path)
        read.append([node.op_type for node in model.graph.node])
        return model

    monkeypatch.setattr(measuring.onnx, "load", spy)
    measure_onnxruntime(SHAPES[:1], ROWS, threads=1, rounds=2)
    operators = read[KINDS.index(kind)]
    if kind == "float":
        assert "MatMul" in operators
        assert "QuantizeLinear" not in operators
    else:
        assert "MatMul" not in operators
        assert operators[0] == "QuantizeLinear"
        assert operators.count("QuantizeLinear") == 1 + (kind in INT8_OUT)


def test_a_library_that_multiplies_floats_instead_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = measuring._options

    def without_fusions(threads: int | None) -> Any:
        unfused = options(threads)
        unfused.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return unfused

    monkeypatch.setattr(measuring, "_options", without_fusions)
    with pytest.raises(CapabilityMissing) as caught:
        measure_onnxruntime(SHAPES[:1], ROWS, threads=1, rounds=2)
    assert str(caught.value) == (
        f"onnxruntime {onnxruntime.__version__}: a linear as 'int8': expected one of the operators "
        "MatMulInteger, MatMulIntegerToFloat, QGemm, QLinearMatMul in the optimized graph, found "
        "QuantizeLinear, DequantizeLinear, DequantizeLinear, MatMul, Add, Identity; "
        "use a release that fuses QuantizeLinear and DequantizeLinear into them"
    )


@pytest.mark.parametrize(
    ("bits", "found"), [(50, "Unable to allocate "), (60, "more than can be addressed")]
)
def test_rows_that_no_memory_holds_are_refused(bits: int, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        measure_onnxruntime(SHAPES[:1], 1 << bits, threads=1, rounds=2)
    assert str(caught.value).startswith(
        f"linears at {1 << bits} rows (batch x sequence): expected inputs and outputs that memory "
        f"holds, found {found}"
    )
    assert str(caught.value).endswith("; lower the batch or the sequence")


def test_a_linear_that_is_lost_in_the_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_empty_timer", lambda threads: lambda: 1.0)
    with pytest.raises(UsageError) as caught:
        measure_onnxruntime(SHAPES[:1], ROWS, threads=1, rounds=2)
    assert str(caught.value).startswith(
        "linear of 256 rows, 128 inputs and 256 outputs: expected one that takes longer than an "
        "empty call, found "
    )
    assert str(caught.value).endswith(
        " s as 'float', an empty call 1.00e+00 s; raise the batch or the sequence"
    )


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_roofline_of_a_model_holds_each_of_its_shapes(model_type: str) -> None:
    found = latency_of_model(checkpoint(model_type), "l4", Workload(2, 16))
    shapes = encoder_shapes(tiny_model(model_type))
    assert len(shapes) > 1
    assert found.entries == roofline("l4", shapes, 32).entries
    assert (found.conditions["batch"], found.conditions["sequence"]) == (2, 16)
    assert found.rest == {}


@pytest.mark.parametrize("model_type", ["bert", "albert"])
def test_an_encoder_is_as_deep_as_it_runs(model_type: str) -> None:
    model = tiny_model(model_type, num_hidden_layers=3)
    assert encoder_in_words(model) == f"{model_type}, 3 blocks"


def test_shapes_of_bert() -> None:
    found = encoder_shapes(tiny_model())
    assert found == (LinearShape(32, 32), LinearShape(32, 64), LinearShape(64, 32))


@pytest.fixture(scope="module")
def captured() -> CapturedGraph:
    model = tiny_model()
    names = model_facts(model.config.to_dict()).input_names
    return capture(model, input_names=names, position_limit=POSITION_LIMIT)


def rest_of(captured: CapturedGraph, *shapes: LinearShape) -> dict[str, float]:
    feeds = {name: np.ones((4, 32), np.int64) for name in captured.input_names}
    return rest_onnxruntime(captured.model, feeds, shapes, threads=1, runs=4)


def test_the_rest_of_a_model_has_its_attention_and_norms(captured: CapturedGraph) -> None:
    rest = rest_of(captured, *encoder_shapes(tiny_model()))
    assert {"Softmax", "Gather", "LayerNormalization"} <= rest.keys()
    assert all(0 < seconds < 1 for seconds in rest.values())


def test_products_that_cannot_be_told_from_the_rest_are_refused(captured: CapturedGraph) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        rest_of(captured, LinearShape(32, 32), LinearShape(32, 48))
    assert str(caught.value) == (
        f"onnxruntime {onnxruntime.__version__}: its profile: expected products with weights of "
        "32x32, 32x48, found none with 32x48; give --shapes instead of the model; "
        "its table then has no rest"
    )


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        latency_of_model(checkpoint(), "l4", Workload(1, 65))
    assert str(caught.value) == (
        "sequence 65: expected at most 64 tokens, the model's position table, found 65; "
        "lower the sequence to 64 or less"
    )


def test_an_encoder_whose_linears_are_not_known_is_refused() -> None:
    config = {"model_type": "gpt2", "max_position_embeddings": 64, "n_embd": 32, "n_head": 4}
    strange = CompressedCheckpoint("GPT2ForSequenceClassification", config, {}, {}, {})
    with pytest.raises(UnsupportedModel, match="found a model of type 'gpt2'"):
        latency_of_model(strange, "l4", Workload(1, 8))


def test_a_model_is_timed_in_two_parts() -> None:
    heard: list[tuple[str, int, int]] = []
    wide = tiny_config(hidden_size=128, intermediate_size=256).to_dict()
    wide |= {"return_dict": False}
    source = CompressedCheckpoint(ARCHITECTURES["bert"], wide, {}, {}, {})
    found = latency_of_model(
        source,
        "onnxruntime",
        Workload(16, 32),
        threads=1,
        on_progress=lambda *event: heard.append(event),
    )
    assert found.shapes == ((512, 128, 128), (512, 128, 256), (512, 256, 128))
    assert found.rest_seconds > 0
    assert heard[0] == ("linears", 0, measuring.ROUNDS)
    assert heard[-2:] == [("all but the linears", 0, 1), ("all but the linears", 1, 1)]
