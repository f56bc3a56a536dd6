"""This processor in: whether onnxruntime's products of integers lose sums out.

See `onnxruntime_options` for why. Every answer multiplies the largest codes by onnxruntime's own
operator for them, `MatMulIntegerToFloat`, which quantized pairs become as well. The graph that does
so lies beside this file, so that whoever serves a model needs no library that writes graphs.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nxmi_export.backends.onnxruntime_library import find_onnxruntime, refusals

__all__ = ["keeps_sums", "loses_sums", "saturates_here"]

PRODUCT = Path(__file__).with_name("largest_product.onnx")
"""Codes (rows, 64) in, sums (rows, 64) out: weights of 127, zero-points 128 and 0, scales 1."""

_CODE, _WEIGHT, _POINT, _WIDTH = 255, 127, 128, 64  # two products of the largest exceed 16 bits
_ROWS = (1, 24)  # a single row has kernels of its own


def saturates_here() -> bool:
    """Whether default kernels lose sums on this processor, or are not known to keep them.

    Raises CapabilityMissing without onnxruntime.
    """
    return not keeps_sums({})


def keeps_sums(entries: Mapping[str, str]) -> bool:
    """Whether the operator is there and exact in a session with these configuration entries.

    Raises CapabilityMissing without onnxruntime.
    """
    return _answer(entries) is True


def loses_sums(entries: Mapping[str, str]) -> bool:
    """Whether the operator is there and wrong in such a session; raises as `keeps_sums`."""
    return _answer(entries) is False


_known: dict[tuple[tuple[str, str], ...], bool] = {}  # by entries; of this process


def _answer(entries: Mapping[str, str]) -> bool | None:
    """None where this release refuses the operator, or could not run it now."""
    key = tuple(sorted(entries.items()))
    if key not in _known:
        found = _are_exact(entries)
        if found is None:
            return None
        _known[key] = found
    return _known[key]


def _are_exact(entries: Mapping[str, str]) -> bool | None:
    ort = find_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    model = PRODUCT.read_bytes()
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found = [session.run(None, {"codes": np.full((n, _WIDTH), _CODE, np.uint8)}) for n in _ROWS]
    except refusals(ort):
        return None
    exact = (_CODE - _POINT) * _WEIGHT * _WIDTH
    return all(bool((sums == exact).all()) for (sums,) in found)
