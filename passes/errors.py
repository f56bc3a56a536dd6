"""Every error of the graph passes; each message is one sentence made of four parts.

    PassError
    ├── RefusedGraph            a graph that cannot be rewritten without breaking a promise
    │   ├── InvalidScale        zero, negative, NaN or infinite, or not one per channel
    │   ├── InvalidWeight       NaN or infinite
    │   ├── InvalidGroups       a sparsity pattern that the axis or the arithmetic rules out
    │   └── SparsityRefuted     stored weights with too many non-zeros in a group
    ├── InvariantViolated       something that was promised of a graph does not hold
    └── PassFailed              the pipeline stopped; the model it was given is void

The parts and the format are those of the exporter's own errors, which this package, a leaf of the
import graph, cannot import.
"""

import onnx_ir as ir

__all__ = [
    "InvalidGroups",
    "InvalidScale",
    "InvalidWeight",
    "InvariantViolated",
    "PassError",
    "PassFailed",
    "RefusedGraph",
    "SparsityRefuted",
]


# onnx_ir wraps whatever `requires` and `ensures` raise, except these two bases: inheriting from
# both lets the sentence, and not "Pre-condition for pass ... failed", reach the caller.
class PassError(ir.passes.PreconditionError, ir.passes.PostconditionError):
    """Base of every deliberate error here; `str(error)` is one sentence for the user."""

    def __init__(self, subject: object, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{subject}: expected {expected}, found {found}; {remedy}")
        self.subject = str(subject)
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def as_json(self) -> dict[str, str]:
        """The four parts and the error's name, for machine-readable output."""
        return {
            "error": type(self).__name__,
            "subject": self.subject,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
        }


class RefusedGraph(PassError):
    """A graph that cannot be rewritten without breaking a promise."""


class InvalidScale(RefusedGraph):
    """A quantization scale that is zero, negative, NaN, infinite or not one per channel."""


class InvalidWeight(RefusedGraph):
    """Values that have no integer code: NaN, or an infinite weight."""


class InvalidGroups(RefusedGraph):
    """A sparsity pattern that the axis length or the arithmetic rules out."""


class SparsityRefuted(RefusedGraph):
    """Stored weights with more non-zeros in a group than the pattern allows."""


class InvariantViolated(PassError):
    """Something that was promised of a graph does not hold."""


class PassFailed(PassError):
    """A pass raised or broke a promise; the model it was given is void. `__cause__` says why."""
