"""Quantized linears as onnxruntime's own operator, and the way back to standard ones."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from passes import (
    CanonicalLinear,
    CertifySparsity,
    Change,
    FoldWeightQuantization,
    IntegerProducts,
    InvariantViolated,
    OwnZeroPoints,
    ShareQuantizers,
    Skip,
    UnsignedActivations,
    linear_layers,
    lower,
    module_of,
)
from passes.quantizer_invariants import every_quantize_has_its_dequantize
from passes.sparsity import SPARSITY_KEY
from passes.spell_out_products import PRODUCT, has_products, spell_out_products
from tests.passes.sample_graphs import (
    LINEARS,
    Writer,
    encoder,
    feeds_of,
    model_of,
    run,
    serialized,
    typed,
)

LINEAR = """
linear (float[B, S, 4] x) => (float[B, S, 2] y)
<float s = {0.5}, uint8 z = {128}, int8[4, 2] w = {1, -2, 3, 4, -5, 6, 7, 127},
 float[2] t = {0.25, 2}, int8[2] p = {0, 0}, float[2] b = {1, -1}> {
  [self__Q] codes = QuantizeLinear(x, s, z)
  [self__D] data = DequantizeLinear(codes, s, z)
  [self__W] matrix = DequantizeLinear<axis = 1>(w, t, p)
  [self__M] h = MatMul(data, matrix)
  [self__A] y = Add(h, b)
}
"""


def _prepared(make: Callable[[], ir.Model]) -> ir.Model:
    """As the passes before leave it."""
    model = typed(make())
    steps = (FoldWeightQuantization, CanonicalLinear, ShareQuantizers)
    for kind in (*steps, UnsignedActivations, OwnZeroPoints):
        kind()(model)
    return model


def _exact(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of onnxruntime with every optimization, its integer sums exact."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        serialized(model), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def test_a_linear_with_its_bias_becomes_one_operator() -> None:
    model = typed(model_of(LINEAR))
    (entry,) = IntegerProducts()(model).entries
    assert entry == Change("node_M_3", "self", "one product of integers with its bias")
    quantize, product = model.graph
    assert (quantize.op_type, product.op_type, product.domain) == (
        "QuantizeLinear",
        "MatMulIntegerToFloat",
        "com.microsoft",
    )
    names = [value.name if value else None for value in product.inputs]
    assert names == ["codes", "w", "s", "t", "z", "p", "b"]
    assert product.outputs[0].name == "y"
    assert model.opset_imports == {"": model.opset_imports[""], "com.microsoft": 1}


def test_spelled_out_it_is_what_it_was() -> None:
    model = typed(model_of(LINEAR))
    before = model.clone()
    IntegerProducts()(model)
    assert has_products(model)
    assert not has_products(spell_out_products(model))
    assert [node.op_type for node in model.graph] == [node.op_type for node in before.graph]
    assert [module_of(node) for node in model.graph] == ["self"] * 2 + [
        "self.weight_quantizer",
        "self",
        "self",
    ]
    assert model.opset_imports == before.opset_imports
    feeds = feeds_of(before)
    np.testing.assert_array_equal(run(model, feeds), run(before, feeds))
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_graph_without_such_products_stays_as_it_is() -> None:
    model = typed(model_of(LINEAR))
    before = serialized(model)
    assert serialized(spell_out_products(model)) == before


@pytest.mark.parametrize("placement", ["linear", "attention", "sparse"])
def test_an_encoder_keeps_every_bit_spelled_out_and_its_values_in_the_kernel(
    placement: str,
) -> None:
    model = _prepared(lambda: encoder(placement))
    before, feeds = model.clone(), feeds_of(model)
    layers = {layer.module: layer.weight.matrix for layer in linear_layers(model.graph)}
    IntegerProducts()(model)
    assert sum(node.op_type == PRODUCT for node in model.graph) == len(LINEARS)
    for found, expected in zip(_exact(model, feeds), _exact(before, feeds), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    spell_out_products(model)
    np.testing.assert_array_equal(run(model, feeds), run(before, feeds))
    again = {layer.module: layer.weight.matrix for layer in linear_layers(model.graph)}
    assert again.keys() == layers.keys()
    assert all((again[name] == layers[name]).all() for name in layers)


def test_linears_of_one_value_share_its_pair_again() -> None:
    model = _prepared(lambda: encoder("linear"))
    before = [node.op_type for node in model.graph]
    IntegerProducts()(model)
    spell_out_products(model)
    assert sorted(node.op_type for node in model.graph) == sorted(before)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("MatMul(data, matrix)", "MatMul(x, matrix)"), "its input is not quantized"),
        (("uint8 z = {128}", "int8 z = {0}"), "its input is not uint8"),
        (("(w, t, p)", "(w, t)"), "more than a DequantizeLinear with its zero-point lies behind"),
        (
            (
                "float[2] t = {0.25, 2}, int8[2] p",
                "float[4] t = {1, 2, 3, 4}, int8[4] q = {0, 0, 0, 0}, int8[2] p",
            ),
            "its scales are not those of output channels",
        ),
    ],
)
def test_what_is_written_otherwise_is_left_alone_with_the_reason(
    change: tuple[str, str], why: str
) -> None:
    text = LINEAR.replace(*change)
    if "int8[4] q" in text:
        text = text.replace("<axis = 1>(w, t, p)", "<axis = 0>(w, t, q)")
    model = typed(model_of(text))
    before = serialized(model)
    (entry,) = IntegerProducts()(model).entries
    assert isinstance(entry, Skip)
    assert entry.why.startswith(why)
    assert serialized(model) == before


def test_a_float_layer_and_a_gemm_are_left_alone() -> None:
    model = _prepared(lambda: encoder("none", Writer(weights="float")))
    reasons = {entry.why for entry in IntegerProducts()(model).entries if isinstance(entry, Skip)}
    assert reasons <= {"its weight is not stored as int8", "not a MatMul of a (K, N) matrix"}
    assert not has_products(model)


def test_a_weight_that_several_layers_read_is_left_to_pairs() -> None:
    """onnxruntime cannot make its sums exact where products share a weight."""
    twice = "[self__M] h = MatMul(data, matrix)\n  [self__N] g = MatMul(data, matrix)"
    text = LINEAR.replace("[self__M] h = MatMul(data, matrix)", twice).replace(
        "y = Add(h, b)", "a = Add(h, b)\n  [self__B] y = Mul(a, g)"
    )
    entries = IntegerProducts()(typed(model_of(text))).entries
    assert [entry.why for entry in entries if isinstance(entry, Skip)] == [
        "another node reads its weight"
    ] * 2


def test_promises_are_kept_of_the_graph_as_it_is_spelled_out() -> None:
    model = _prepared(lambda: encoder("sparse", Writer(sparse=True)))
    certify = CertifySparsity(dict.fromkeys(LINEARS, (2, 4)))
    pairs = UnsignedActivations()
    keeps = (*certify.establishes, *pairs.establishes)
    ledger = lower(model, (certify, pairs, IntegerProducts(keeps)), check_each=True, work_dir=None)
    assert len(ledger.records[-1].changes) == len(LINEARS)
    stamps = {node.metadata_props.get(SPARSITY_KEY) for node in model.graph if node.domain}
    assert stamps == {"2:4"}


def test_a_broken_promise_is_seen_through_the_operator() -> None:
    model = typed(model_of(LINEAR))
    promise = IntegerProducts((every_quantize_has_its_dequantize,))
    promise(model)
    product = next(node for node in model.graph if node.op_type == PRODUCT)
    other = ir.tensor(np.array(0.25, np.float32))
    value = ir.Value(name="other", const_value=other, type=ir.TensorType(ir.DataType.FLOAT))
    value.shape = ir.Shape(())
    model.graph.register_initializer(value)
    product.replace_input_with(2, value)
    with pytest.raises(InvariantViolated, match="same scale"):
        promise.ensures(model)
