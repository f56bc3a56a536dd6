"""This processor, or a file, in: whether onnxruntime's products of integers lose sums out.

See `onnxruntime_options` for why. Every answer about this processor multiplies the largest codes by
onnxruntime's own operator for them, `MatMulIntegerToFloat`, which quantized pairs become as well.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from nxmi_export.backends.onnxruntime_library import find_onnxruntime, refusals
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS
from passes.spell_out_products import CONTRIB, PRODUCT

__all__ = ["integer_products_are_exact", "may_saturate", "saturates_here"]

_CODE, _WEIGHT, _POINT, _WIDTH = 255, 127, 128, 64  # two products of the largest exceed 16 bits


def may_saturate(path: Path) -> bool:
    """Whether the file stores int8 matrices; only those are multiplied by kernels that saturate.

    A file that cannot be read stores none: it is for the session to refuse.
    """
    try:
        model = ir.load(path)
    except (OSError, DecodeError):
        return False
    return any(
        value.const_value is not None
        and value.const_value.dtype == ir.DataType.INT8
        and len(value.const_value.shape) > 1
        for graph in model.graphs()
        for value in graph.initializers.values()
    )


@cache
def saturates_here() -> bool:
    """Whether default kernels lose sums on this processor.

    Raises CapabilityMissing without onnxruntime.
    """
    return not _keeps_sums({})


def integer_products_are_exact() -> bool:
    """Whether onnxruntime's own operator keeps its sums with `EXACT_PRODUCTS`, and is there at all.

    Raises CapabilityMissing without onnxruntime.
    """
    return _keeps_sums(EXACT_PRODUCTS)


def _keeps_sums(entries: Mapping[str, str]) -> bool:
    ort = find_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    model = ir.to_proto(_product()).SerializeToString()
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (sums,) = session.run(None, {"codes": np.full((1, _WIDTH), _CODE, np.uint8)})
    except refusals(ort):
        return False
    return bool((sums == (_CODE - _POINT) * _WEIGHT * _WIDTH).all())


def _product() -> ir.Model:
    """Codes of shape (1, 64) in, the sums of 64 channels out."""
    codes = ir.val("codes", ir.DataType.UINT8, (1, _WIDTH))
    sums = ir.val("sums", ir.DataType.FLOAT, (1, _WIDTH))
    arrays: dict[str, npt.NDArray[Any]] = {
        "weight": np.full((_WIDTH, _WIDTH), _WEIGHT, np.int8),
        "codes_scale": np.ones((), np.float32),
        "weight_scale": np.ones(_WIDTH, np.float32),
        "codes_point": np.full((), _POINT, np.uint8),
        "weight_point": np.zeros(_WIDTH, np.int8),
    }
    stored = [ir.Value(name=name, const_value=ir.tensor(each)) for name, each in arrays.items()]
    node = ir.node(PRODUCT, [codes, *stored], domain=CONTRIB, outputs=[sums])
    versions = {"": 20, CONTRIB: 1}
    graph = ir.Graph(
        [codes], [sums], nodes=[node], initializers=stored, opset_imports=versions, name="product"
    )
    return ir.Model(graph, ir_version=10)
