"""The linter: every rule of TensorRT's parser, builder and fusion that a graph can break.

`lint(model)` reads any ONNX graph and returns its findings; `mend(model, fixes)` applies the passes
that repair them. `RULES` is the whole list, `EXACT_FIXES` and `ROUNDING_FIXES` the passes.
"""

from passes.lint.finding import Finding, Rule, Severity
from passes.lint.fixes import EXACT_FIXES, ROUNDING_FIXES
from passes.lint.lint import RULES, lint
from passes.lint.mend import Mended, mend

__all__ = [
    "EXACT_FIXES",
    "ROUNDING_FIXES",
    "RULES",
    "Finding",
    "Mended",
    "Rule",
    "Severity",
    "lint",
    "mend",
]
