"""Where two rungs drift apart, by PyTorch module, and why.

measure_drift(a, b, data)      errors of every point between any two observed rungs
localize(model, file, data)    PyTorch against ONNX as written: the first layer beyond rounding
check_fusions(model, a, b, …)  ONNX as written against optimized: ties, or a fusion
stored_integers, activation_codes   integer parity, with the first index that differs
"""

from nxmi_export.parity.drift.cause import (
    Attribution,
    Cause,
    Evidence,
    FusionEvidence,
    PaddingEvidence,
    TieEvidence,
)
from nxmi_export.parity.drift.error_sum import ErrorSum, LargestError
from nxmi_export.parity.drift.excess import Excess
from nxmi_export.parity.drift.fusion import FusionCheck, check_fusions
from nxmi_export.parity.drift.integers import (
    FirstCode,
    QuantizerCodes,
    StoredIntegers,
    activation_codes,
    stored_integers,
)
from nxmi_export.parity.drift.localize import Localization, localize
from nxmi_export.parity.drift.measure import Drift, ObservedRung, PointDrift, measure_drift
from nxmi_export.parity.drift.onnx_points import OnnxPoints
from nxmi_export.parity.drift.point import Kind, Point
from nxmi_export.parity.drift.rung import RungDrift
from nxmi_export.parity.drift.torch_points import TorchPoints

__all__ = [
    "Attribution",
    "Cause",
    "Drift",
    "ErrorSum",
    "Evidence",
    "Excess",
    "FirstCode",
    "FusionCheck",
    "FusionEvidence",
    "Kind",
    "LargestError",
    "Localization",
    "ObservedRung",
    "OnnxPoints",
    "PaddingEvidence",
    "Point",
    "PointDrift",
    "QuantizerCodes",
    "RungDrift",
    "StoredIntegers",
    "TieEvidence",
    "TorchPoints",
    "activation_codes",
    "check_fusions",
    "localize",
    "measure_drift",
    "stored_integers",
]
