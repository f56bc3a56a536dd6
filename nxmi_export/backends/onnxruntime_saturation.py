"""This processor, or a file, in: whether onnxruntime's default products of integers lose sums out.

See `onnxruntime_options` for why. What runs with `EXACT_PRODUCTS` loses none.
"""

from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from nxmi_export.backends.onnxruntime_library import find_onnxruntime

__all__ = ["may_saturate", "saturates_here"]

_CODE, _WEIGHT, _WIDTH = 255, 127, 64  # the largest; two of their products are beyond 16 bits


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
    """Whether default kernels lose sums on this processor, found by multiplying large codes.

    Raises CapabilityMissing without onnxruntime.
    """
    ort = find_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(_largest_sums(), options, providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"codes": np.full((1, _WIDTH), _CODE, np.uint8)})
    return bool((sums != _CODE * _WEIGHT * _WIDTH).any())


def _largest_sums() -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((_WIDTH, _WIDTH), _WEIGHT, np.int8), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "weight"], ["sums"])],
        "largest_sums",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, (1, _WIDTH))],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, (1, _WIDTH))],
        [weight],
    )
    opsets = [helper.make_opsetid("", 13)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())
