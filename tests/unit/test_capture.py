import functools
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.capture import OPSET, CapturedGraph, capture
from nxmi_export.compression import compressed_linears
from nxmi_export.model_facts import model_facts
from nxmi_export.recipe import Placement
from passes import MODULE_KEY
from tests.tiny_models import POSITION_LIMIT, compressed_model, logits_of, tiny_model

SHAPES = [(1, 1), (1, 7), (3, 1), (2, 17), (5, POSITION_LIMIT)]
# As the tests of insert_quantizers list them by name, over two blocks.
QUANTIZED_VALUES = {
    Placement.WEIGHTS: 0,
    Placement.LINEAR: 2 * 4,
    Placement.ATTENTION: 2 * 8,
    Placement.SPARSE: 20,
}
WEIGHTS = 2 * 6

MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "dense bert": tiny_model,
    "weights": lambda: compressed_model(Placement.WEIGHTS),
    "linear": lambda: compressed_model(Placement.LINEAR),
    "attention": lambda: compressed_model(Placement.ATTENTION),
    "sparse": lambda: compressed_model(Placement.SPARSE),
    "sparse roberta": lambda: compressed_model(model_type="roberta"),
    "sparse distilbert": lambda: compressed_model(model_type="distilbert"),
}


class Captured:
    """A model, its graph, and what capturing changed or printed."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.facts = model_facts(model.config.to_dict())
        self.model = model
        self.before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with warnings.catch_warnings(record=True) as self.warnings:
            warnings.simplefilter("always")
            self.graph: CapturedGraph = capture(
                model,
                input_names=self.facts.input_names,
                position_limit=self.facts.position_limit,
            )

    @property
    def nodes(self) -> list[ir.Node]:
        return list(self.graph.model.graph)

    def count(self, op_type: str) -> int:
        return Counter(node.op_type for node in self.nodes)[op_type]


@functools.cache
def captured_as(name: str) -> Captured:
    """Capturing takes seconds, so each model is captured once and never changed."""
    return Captured(MAKERS[name]())


@pytest.fixture(params=MAKERS)
def captured(request: pytest.FixtureRequest) -> Captured:
    return captured_as(request.param)


@pytest.fixture
def sparse() -> Captured:
    return captured_as("sparse")


def _feeds(names: tuple[str, ...], shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(shape[1])
    feeds = {name: torch.zeros(shape, dtype=torch.int64) for name in names}
    feeds["input_ids"] = torch.randint(2, 96, shape, generator=generator)
    lengths = torch.arange(shape[0]) % shape[1] + 1  # every row padded differently
    feeds["attention_mask"] = (torch.arange(shape[1]) < lengths[:, None]).long()
    return feeds


def test_onnxruntime_agrees_with_pytorch_at_every_shape(captured: Captured, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    ir.save(captured.graph.model, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    for shape in SHAPES:
        feeds = _feeds(captured.facts.input_names, shape)
        (logits,) = session.run(None, {name: value.numpy() for name, value in feeds.items()})
        expected = logits_of(captured.model, feeds).numpy()
        # Sums in another order move single values across a rounding tie: one code, at most.
        tolerance = 5e-6 if captured.count("QuantizeLinear") == 0 else 5e-3
        np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance)


def test_the_interface_has_dynamic_batch_and_sequence(captured: Captured) -> None:
    graph = captured.graph.model.graph
    assert tuple(value.name for value in graph.inputs) == captured.facts.input_names
    assert captured.graph.input_names == captured.facts.input_names
    assert captured.graph.position_limit == POSITION_LIMIT
    for value in graph.inputs:
        assert value.dtype == ir.DataType.INT64
        assert value.shape is not None
        assert [str(size) for size in value.shape] == ["batch", "sequence"]
    (logits,) = graph.outputs
    assert logits.name == "logits"
    assert logits.dtype == ir.DataType.FLOAT
    assert logits.shape is not None
    assert [str(size) for size in logits.shape] == ["batch", "2"]


def test_the_opset_is_one_that_every_runtime_reads(captured: Captured) -> None:
    assert captured.graph.model.opset_imports == {"": OPSET}
    assert OPSET <= 20
    assert {node.domain for node in captured.nodes} == {""}


def test_every_node_names_its_module(captured: Captured) -> None:
    modules = dict(captured.model.named_modules())
    named = [node.metadata_props[MODULE_KEY] for node in captured.nodes]
    assert set(named) <= modules.keys()
    # Beyond the sizes of the inputs, RoBERTa casts and DistilBERT pools outside of any module.
    outside = [node.op_type for node in captured.nodes if not node.metadata_props[MODULE_KEY]]
    assert outside[:4] == ["Shape", "Squeeze"] * 2
    assert set(outside[4:]) <= {"Cast", "Gather", "Relu"}


def test_a_dense_model_has_no_quantizers() -> None:
    dense = captured_as("dense bert")
    assert dense.count("QuantizeLinear") == dense.count("DequantizeLinear") == 0


@pytest.mark.parametrize("placement", list(Placement))
def test_each_placement_gives_its_quantizers(placement: Placement) -> None:
    graph = captured_as(placement.value)
    assert graph.count("QuantizeLinear") == WEIGHTS + QUANTIZED_VALUES[placement]
    assert graph.count("DequantizeLinear") == graph.count("QuantizeLinear")
    assert graph.count("Clip") == WEIGHTS  # weights stay within ±127; activations saturate freely


def test_quantizers_stand_in_the_graph_where_they_stand_in_the_model(sparse: Captured) -> None:
    inserted = [
        name for name, module in sparse.model.named_modules() if name.endswith("_quantizer")
    ]
    found = [
        node.metadata_props[MODULE_KEY] for node in sparse.nodes if node.op_type == "QuantizeLinear"
    ]
    assert sorted(found) == sorted(inserted)
    assert len(found) == WEIGHTS + QUANTIZED_VALUES[Placement.SPARSE]


def test_every_quantizer_is_a_pair_with_zero_points_of_zero(sparse: Captured) -> None:
    for node in sparse.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero_point = node.inputs[2]
        assert zero_point is not None
        value = ir.convenience.get_const_tensor(zero_point)
        assert value is not None
        assert value.dtype == ir.DataType.INT8
        assert not value.numpy().any()


def test_weight_scales_lie_on_the_output_axis(sparse: Captured) -> None:
    weights = {
        name: linear.out_features for name, linear in compressed_linears(sparse.model).items()
    }
    seen = set()
    for node in sparse.nodes:
        module = node.metadata_props[MODULE_KEY]
        if node.op_type == "QuantizeLinear" and module.endswith("weight_quantizer"):
            linear = module.removesuffix(".weight_quantizer")
            scale = node.inputs[1]
            assert scale is not None
            assert scale.const_value is not None
            assert node.attributes["axis"].as_int() == 0
            assert scale.const_value.shape.dims == (weights[linear],)
            seen.add(linear)
    assert seen == weights.keys()


def test_quantized_weights_and_embeddings_are_not_copied(sparse: Captured) -> None:
    values = [value.const_value for value in sparse.graph.model.graph.initializers.values()]
    raws = [value.raw for value in values if isinstance(value, ir.Tensor)]
    shared = {raw.data_ptr() for raw in raws if isinstance(raw, torch.Tensor)}
    # Vectors are left out: equal ones (fresh biases are all zero) become one initializer.
    copied = [
        name
        for name, parameter in sparse.model.named_parameters()
        if parameter.dim() == 2 and parameter.data_ptr() not in shared
    ]
    assert copied == []


def test_the_model_is_left_as_it_was(captured: Captured) -> None:
    after = captured.model.state_dict()
    assert after.keys() == captured.before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in captured.before.items())
    assert not any(module.training for module in captured.model.modules())
    assert all(parameter.requires_grad for parameter in captured.model.parameters())


def test_no_warning_leaks(captured: Captured) -> None:
    assert [str(warning.message) for warning in captured.warnings] == []


def test_nothing_is_printed(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("distilbert", n_layers=1)
    facts = model_facts(model.config.to_dict())
    capfd.readouterr()
    capture(model, input_names=facts.input_names, position_limit=facts.position_limit)
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []
