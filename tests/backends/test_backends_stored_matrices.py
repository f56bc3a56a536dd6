"""Which files meet kernels that saturate."""

from pathlib import Path

import onnx
import onnx.helper
import pytest

from nxmi_export.backends.stored_matrices import stores_int8_matrices
from tests.backends.product_graphs import floats_by_integers, largest_product


def _in_a_node(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with its weights in nodes, as some exporters write them."""
    for tensor in model.graph.initializer:
        model.graph.node.insert(
            0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
        )
    del model.graph.initializer[:]
    return model


@pytest.mark.parametrize(
    "model",
    [
        largest_product(signed=False),
        floats_by_integers(),
        _in_a_node(largest_product(signed=False)),
    ],
    ids=["codes by codes", "floats by codes", "codes in a node"],
)
def test_stored_int8_matrices_may_saturate(tmp_path: Path, model: onnx.ModelProto) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(model, path)
    assert stores_int8_matrices(path)


def test_uint8_weights_and_floats_do_not(tmp_path: Path) -> None:
    path = tmp_path / "product.onnx"
    model = largest_product(signed=False)
    for tensor in model.graph.initializer:
        if tensor.name in {"weight_codes", "weight_point"}:
            tensor.data_type = onnx.TensorProto.UINT8
    onnx.save(model, path)
    assert not stores_int8_matrices(path)
    onnx.save(_in_a_node(model), path)
    assert not stores_int8_matrices(path)


def test_a_file_that_cannot_be_read_is_left_to_the_session(tmp_path: Path) -> None:
    (tmp_path / "product.onnx").write_bytes(b"no model")
    assert not stores_int8_matrices(tmp_path / "product.onnx")
