import numpy as np
import pytest

from passes import FoldWeightQuantization, attention_matmuls, linear_layers
from tests.passes.sample_graphs import LINEARS, Writer, encoder, layer_in_a_branch, model_of


def test_every_layer_of_an_encoder_is_found_under_its_module() -> None:
    layers = list(linear_layers(encoder("sparse").graph))
    assert [layer.module for layer in layers] == [*LINEARS, "classifier"]


def test_attention_matmuls_are_those_of_two_activations() -> None:
    model = encoder("attention")
    found = list(attention_matmuls(model.graph))
    assert [node.outputs[0].name for node in found] == ["scores", "context"]


def test_a_captured_weight_is_read_through_quantizers_and_transpose() -> None:
    layer = next(iter(linear_layers(encoder("linear").graph)))
    weight = layer.weight
    assert [node.op_type for node in weight.path] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "Transpose",
    ]
    assert (weight.reduction_axis, weight.output_axis, weight.scale_axis) == (1, 0, 0)
    assert not weight.is_integer
    assert layer.bias is not None
    assert layer.bias.name == "self__q_bias"
    assert layer.input_quantizer is not None


def test_a_folded_weight_is_integers_with_the_same_axes() -> None:
    model = encoder("linear")
    FoldWeightQuantization()(model)
    weight = next(iter(linear_layers(model.graph))).weight
    assert weight.is_integer
    assert weight.stored.dtype == np.int8
    assert (weight.reduction_axis, weight.output_axis, weight.scale_axis) == (1, 0, 0)
    assert weight.scale is not None
    assert weight.scale.shape == (8,)


@pytest.mark.parametrize("attributes", ["", "<perm = [1, 0]>"])
def test_the_matrix_is_k_by_n_however_it_is_stored(attributes: str) -> None:
    stored = np.arange(6, dtype=np.float32).reshape(2, 3)
    model = model_of(
        f"""layer (float[S,3] x) => (float[S,2] y) {{
      [query__Transpose] wt = Transpose{attributes}(weight)
      [query__MatMul] y = MatMul(x, wt)
    }}""",
        {"weight": stored},
    )
    (layer,) = linear_layers(model.graph)
    np.testing.assert_array_equal(layer.weight.matrix, stored.T)
    assert layer.weight.shape == (3, 2)


def test_the_bias_of_a_product_that_is_cast_to_float16_is_found() -> None:
    """As where INT8 products are in float32, and what follows in float16."""
    model = model_of(
        """layer (float[S,3] x) => (float16[S,2] y) {
      [query__MatMul] product = MatMul(x, weight)
      [query__Cast] cast = Cast<to = 10>(product)
      [query__Add] y = Add(cast, bias)
    }""",
        {"weight": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float16)},
    )
    (layer,) = linear_layers(model.graph)
    assert layer.bias is not None
    assert layer.add is not None
    assert (layer.bias.name, layer.add.outputs[0].name) == ("bias", "y")


@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_gemm_sums_over_the_axis_that_trans_b_says(trans_b: int) -> None:
    stored = np.ones((2, 3) if trans_b else (3, 2), np.float32)
    model = model_of(
        f"""layer (float[S,3] x) => (float[S,2] y) <float[2] bias = {{1, 2}}> {{
      [pooler__Gemm] y = Gemm<transB: int = {trans_b}>(x, weight, bias)
    }}""",
        {"weight": stored},
    )
    (layer,) = linear_layers(model.graph)
    assert layer.weight.reduction_axis == trans_b
    assert layer.weight.shape == (3, 2)
    assert layer.bias is not None
    assert layer.bias.name == "bias"


def test_a_scale_before_the_transpose_is_reported_on_the_stored_axis() -> None:
    model = model_of("""layer (float[S,3] x) => (float[S,2] y)
    <int8[2,3] w = {1,2,3,4,5,6}, float[2] scale = {1, 2}, int8[2] zero = {0, 0}> {
      [query__Transpose] wt = Transpose<perm = [1, 0]>(w)
      [query__DQ] d = DequantizeLinear<axis: int = -1>(wt, scale, zero)
      [query__MatMul] y = MatMul(x, d)
    }""")
    (layer,) = linear_layers(model.graph)
    assert (layer.weight.output_axis, layer.weight.scale_axis) == (0, 0)


def test_a_float_layer_has_neither_scale_nor_quantized_input() -> None:
    layer = next(iter(linear_layers(encoder("none", Writer(weights="float")).graph)))
    assert layer.weight.scale is None
    assert layer.weight.scale_axis is None
    assert layer.input_quantizer is None


def test_a_residual_is_no_bias() -> None:
    model = model_of("""layer (float[S,2] x) => (float[S,2] y) <float[2,2] w = {1, 2, 3, 4}> {
      [query__MatMul] mm = MatMul(x, w)
      [query__Add] y = Add(mm, x)
    }""")
    (layer,) = linear_layers(model.graph)
    assert layer.bias is None
    assert layer.add is None


def test_a_weight_that_a_caller_may_override_is_no_constant() -> None:
    model = model_of("""layer (float[S,2] x, float[2,2] w) => (float[S,2] y)
    <float[2,2] w = {1, 2, 3, 4}> {
      [query__MatMul] y = MatMul(x, w)
    }""")
    assert list(linear_layers(model.graph)) == []


def test_a_branch_sees_the_weight_of_the_graph_around_it() -> None:
    outer, *branches = layer_in_a_branch().graphs()
    assert list(linear_layers(outer)) == []
    assert [layer.module for graph in branches for layer in linear_layers(graph)] == ["yes", "no"]
