"""onnxruntime's own operator for integer products: asked whether its sums are exact here."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from nxmi_export.backends.onnxruntime_library import find_onnxruntime, refusals
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS
from passes.spell_out_products import CONTRIB, PRODUCT

__all__ = ["integer_products_are_exact"]

_CODE, _WEIGHT, _POINT, _LENGTH = 255, 127, 128, 64  # two products exceed 16 bits


def integer_products_are_exact() -> bool:
    """Multiply the largest codes with `EXACT_PRODUCTS`; False where they saturate or do not run.

    Without VNNI onnxruntime 1.32 keeps that promise for this operator as for quantized pairs.
    """
    ort = find_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in EXACT_PRODUCTS.items():
        options.add_session_config_entry(key, value)
    try:
        session = ort.InferenceSession(
            ir.to_proto(_product()).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (found,) = session.run(None, {"codes": np.full((1, _LENGTH), _CODE, np.uint8)})
    except refusals(ort):
        return False
    return bool((found == float((_CODE - _POINT) * _WEIGHT * _LENGTH)).all())


def _product() -> ir.Model:
    """Codes of shape (1, 64) in, the sums of one channel out."""
    codes = ir.val("codes", ir.DataType.UINT8, (1, _LENGTH))
    arrays: dict[str, npt.NDArray[Any]] = {
        "weight": np.full((_LENGTH, 1), _WEIGHT, np.int8),
        "codes_scale": np.ones((), np.float32),
        "weight_scale": np.ones(1, np.float32),
        "codes_point": np.full((), _POINT, np.uint8),
        "weight_point": np.zeros(1, np.int8),
    }
    stored = [ir.Value(name=name, const_value=ir.tensor(each)) for name, each in arrays.items()]
    node = ir.node(PRODUCT, [codes, *stored], domain=CONTRIB, num_outputs=1)
    sums = node.outputs[0]
    sums.name, sums.shape = "sums", ir.Shape((1, 1))
    sums.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [codes],
        [sums],
        nodes=[node],
        initializers=stored,
        opset_imports={"": 20, CONTRIB: 1},
        name="product",
    )
    return ir.Model(graph, ir_version=10)
