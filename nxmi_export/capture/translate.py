"""`nxmi::fake_quantize` in the ONNX vocabulary: QuantizeLinear → DequantizeLinear."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20

from nxmi_export.fake_quantize import ACTIVATION_INT8

__all__ = ["TRANSLATIONS"]

op: Any = opset20  # its types describe onnxscript functions, not the values traced through it


def _fake_quantize(x: Any, scale: Any, low: int, high: int, axis: int) -> Any:
    """int8 codes with zero-point 0; a range narrower than int8 is clipped on the integers."""
    shape = () if axis < 0 else (scale.shape[0],)
    zero_point = op.Constant(value=ir.tensor(np.zeros(shape, np.int8)))
    # The axis of a per-tensor quantizer has no meaning; ONNX's default stays unwritten.
    where = {} if axis < 0 else {"axis": axis}
    codes = op.QuantizeLinear(x, scale, zero_point, **where)
    if (low, high) != (ACTIVATION_INT8.low, ACTIVATION_INT8.high):
        codes = op.Clip(
            codes,
            op.Constant(value=ir.tensor(np.int8(low))),
            op.Constant(value=ir.tensor(np.int8(high))),
        )
    return op.DequantizeLinear(codes, scale, zero_point, **where)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.nxmi.fake_quantize.default: _fake_quantize
}
