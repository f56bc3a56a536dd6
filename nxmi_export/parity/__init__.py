"""Whether, where and how much two neighbouring rungs of the ladder differ.

    dense PyTorch → compressed PyTorch → captured → ONNX as written → shifted to uint8 → optimized
    → OpenVINO, TensorRT engine

Each rung is a `Runner` over the same encoded dataset. `run_rung` and `compare` say how much,
`weight_parity` whether the file stores what was trained, `explain` where a changed prediction or
logit comes from, `replay_shapes` the same of other batches and padding, `probe_inputs` reaches what
the dev set does not, `score_statistics` what the scores prove, and `judge_run` holds all of it to a
`Gate`.
"""

from nxmi_export.parity.codes import CodeAgreement, code_agreement
from nxmi_export.parity.explanation import Explanation
from nxmi_export.parity.gate import Check, Gate, Verdict
from nxmi_export.parity.ladder import (
    Comparison,
    PredictionChange,
    RungResult,
    Stage,
    compare,
    run_rung,
    rung_of,
)
from nxmi_export.parity.probes import Reach, Sizes, SpecialTokens, probe_inputs, reach_of
from nxmi_export.parity.replay_sample import replay_sample
from nxmi_export.parity.result import ParityResult, Probes, Step, Unproven
from nxmi_export.parity.rounding_ties import Observed, explain, explain_unobserved
from nxmi_export.parity.run import ParityRun, SplitParity, judge_run
from nxmi_export.parity.score_statistics import NotCompared, score_statistics
from nxmi_export.parity.shape_replay import replay_shapes
from nxmi_export.parity.shapes import ShapeParity, shape_parity
from nxmi_export.parity.shared_logits import shared_logits
from nxmi_export.parity.verdict import verdict
from nxmi_export.parity.weights import WeightParity, weight_parity

__all__ = [
    "Check",
    "CodeAgreement",
    "Comparison",
    "Explanation",
    "Gate",
    "NotCompared",
    "Observed",
    "ParityResult",
    "ParityRun",
    "PredictionChange",
    "Probes",
    "Reach",
    "RungResult",
    "ShapeParity",
    "Sizes",
    "SpecialTokens",
    "SplitParity",
    "Stage",
    "Step",
    "Unproven",
    "Verdict",
    "WeightParity",
    "code_agreement",
    "compare",
    "explain",
    "explain_unobserved",
    "judge_run",
    "probe_inputs",
    "reach_of",
    "replay_sample",
    "replay_shapes",
    "run_rung",
    "rung_of",
    "score_statistics",
    "shape_parity",
    "shared_logits",
    "verdict",
    "weight_parity",
]
