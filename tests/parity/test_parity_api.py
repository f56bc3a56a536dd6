"""The public names of the package."""

from nxmi_export import parity


def test_public_names() -> None:
    assert parity.__all__ == [
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


def test_every_public_name_exists() -> None:
    assert [name for name in parity.__all__ if not hasattr(parity, name)] == []
