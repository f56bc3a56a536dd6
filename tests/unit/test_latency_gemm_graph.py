"""The graphs that are timed compute what a quantized linear computes."""

from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import pytest

from nxmi_export.latency import KINDS, Kind, LinearShape
from nxmi_export.latency.gemm_graph import SIGNED, UNSIGNED, Activations, gemm_graph, gemm_input
from nxmi_export.latency.table import INT8_OUT

SHAPE = LinearShape(16, 12)
TARGETS = {"unsigned": UNSIGNED, "signed": SIGNED}


def graph(kind: Kind, activations: Activations) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return gemm_graph(SHAPE, kind, activations, input_shape=("rows", 16), rng=rng)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def weight(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    (found,) = (each for each in model.graph.initializer if tuple(each.dims) == SHAPE)
    return onnx.numpy_helper.to_array(found)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_is_valid_and_runs(kind: Kind, target: str) -> None:
    activations = TARGETS[target]
    model = graph(kind, activations)
    onnx.checker.check_model(model, full_check=True)
    x = gemm_input((5, 16), kind, activations, np.random.default_rng(1))
    (y,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    assert y.shape == (5, 12)
    assert np.unique(y).size > 20
    assert y.dtype == (activations.codes if kind in INT8_OUT else np.float32)


def test_a_cpu_quantizes_its_input_itself() -> None:
    assert operators(graph("int8", UNSIGNED)) == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "Add",
        "Identity",
    ]


@pytest.mark.parametrize("kind", INT8_OUT)
def test_a_gpu_is_fed_codes_and_writes_some(kind: Kind) -> None:
    model = graph(kind, SIGNED)
    assert operators(model)[:3] == ["DequantizeLinear", "DequantizeLinear", "MatMul"]
    assert operators(model)[-2:] == ["QuantizeLinear", "Identity"]
    x = gemm_input((5, 16), kind, SIGNED, np.random.default_rng(1))
    assert x.dtype == np.int8


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_sparse_kind_is_two_of_four_along_k(target: str) -> None:
    for kind in KINDS:
        kept = (weight(graph(kind, TARGETS[target])) != 0).reshape(4, 4, 12).sum(axis=1)
        assert (kept.max() <= 2) == (kind == "int8 2:4")


def test_a_width_that_four_does_not_divide_keeps_its_rest() -> None:
    rng = np.random.default_rng(0)
    model = gemm_graph(LinearShape(6, 40), "int8 2:4", SIGNED, input_shape=("rows", 6), rng=rng)
    (codes,) = (each for each in model.graph.initializer if tuple(each.dims) == (6, 40))
    kept = onnx.numpy_helper.to_array(codes) != 0
    assert kept[:4].sum(axis=0).max() <= 2
    assert kept[4:].sum() > 70  # of 80
