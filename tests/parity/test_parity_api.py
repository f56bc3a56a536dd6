"""The public names of the package."""

from nxmi_export import parity


def test_public_names() -> None:
    assert parity.__all__ == [
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


def test_every_public_name_exists() -> None:
    assert [name for name in parity.__all__ if not hasattr(parity, name)] == []
