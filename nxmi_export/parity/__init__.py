"""Whether, where and how much two neighbouring rungs of the ladder differ.

    dense PyTorch → compressed PyTorch → ONNX as written → shifted to uint8 → optimized

Each rung is a `Runner` over the same encoded dataset. `run_rung` and `compare` say how much,
`weight_parity` whether the file stores what was trained, `explain` where a changed prediction
comes from, and `verdict` holds all of it to a `Gate`.
"""

from nxmi_export.parity.codes import CodeAgreement, code_agreement
from nxmi_export.parity.ladder import (
    Comparison,
    PredictionChange,
    RungResult,
    Stage,
    compare,
    run_rung,
)
from nxmi_export.parity.result import ParityResult, Step
from nxmi_export.parity.rounding_ties import Explanation, Observed, explain, explain_unobserved
from nxmi_export.parity.shapes import ShapeParity, shape_parity
from nxmi_export.parity.verdict import Gate, Verdict, verdict
from nxmi_export.parity.weights import WeightParity, weight_parity

__all__ = [
    "CodeAgreement",
    "Comparison",
    "Explanation",
    "Gate",
    "Observed",
    "ParityResult",
    "PredictionChange",
    "RungResult",
    "ShapeParity",
    "Stage",
    "Step",
    "Verdict",
    "WeightParity",
    "code_agreement",
    "compare",
    "explain",
    "explain_unobserved",
    "run_rung",
    "shape_parity",
    "verdict",
    "weight_parity",
]
