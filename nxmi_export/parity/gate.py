"""What a parity result must keep to, and what came of holding it to that."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nxmi_export.parity.statistics import Terms

__all__ = ["Check", "Gate", "Verdict"]


_LIMITS = (
    *("max_changed", "max_drop", "max_kernel_changed", "max_float16_changed"),
    "max_shape_changed",
)
_REQUIRED = ("require_shapes", "require_replay", "require_probes")


@dataclass(frozen=True)
class Gate:
    """What a result must keep to.

    `terms` say which drop of the primary score would matter. A drop that is proved to be larger
    fails; one that is not ruled out fails only under `strict`, because most small dev sets cannot
    rule out half a point even where no prediction changes. `max_drop` holds the score itself to a
    limit. Changes that rounding ties explain count neither there nor against any share: one of them
    is 1.4 points of a dev set of 71 examples, and no fault of an export. How many there are is for
    `max_flips`, what they cost for the `terms`. Whether ties explain a change, and the logits of
    examples whose prediction has not changed, forced replay says, in other batches and padding too.
    What cannot be replayed, the answers of OpenVINO and an engine, may change a share, or one
    prediction where the share is less; what was replayed and refuted may change none. The file for
    the CPU run as it is written must give the logits of `model.onnx` bit for bit, for which there
    is no tolerance to set. `max_float16_changed` has room for what float16 does to a quantizer: it
    keeps 11 bits of a value whose codes have 8, so a value moves by a sixteenth of a step at most
    for each rounding, and some per cent of the codes tip to their neighbour. That is far less than
    the half step of quantization itself, but more than float32's ties, which are the same thing at
    a thousandth of the size.
    """

    max_changed: int = 0  # unexplained, from compressed PyTorch to ONNX as written
    max_flips: int | None = None  # of any cause, from compressed PyTorch to ONNX optimized
    max_drop: float = 0.005  # of the primary score, from compressed PyTorch to ONNX optimized
    max_kernel_changed: float = 0.01  # share, not replayed, from ONNX as written to optimized
    max_float16_changed: float = 0.02  # share of predictions, from ONNX as written to float16
    max_shape_changed: float = 0.01  # share of predictions, unexplained, in each shape
    require_shapes: bool = True  # False: a result without compared shapes may pass
    require_replay: bool = True  # False: one without replayed examples may pass
    require_probes: bool = True  # False: one without inputs beyond the dev set may pass
    terms: Terms = field(default_factory=Terms)
    strict: bool = False  # whether a drop beyond the margin must be ruled out

    @property
    def allowances(self) -> tuple[str, ...]:
        """The settings by which more may pass than by default, whose report vouches for less."""
        usual = type(self)()
        more = {
            **{name: getattr(self, name) > getattr(usual, name) for name in _LIMITS},
            **{name: not getattr(self, name) for name in _REQUIRED},
            "margin": self.terms.margin > usual.terms.margin,
            "confidence": self.terms.confidence < usual.terms.confidence,
        }
        return tuple(name for name, allows in more.items() if allows)


@dataclass(frozen=True)
class Check:
    """One condition of the gate."""

    name: str
    failures: Sequence[str] = ()  # a sentence each
    undecided: str | None = None  # what it could not tell, where the gate lets that pass


@dataclass(frozen=True)
class Verdict:
    """Every condition that was looked at."""

    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """Every failed condition, one sentence each."""
        return tuple(failure for check in self.checks for failure in check.failures)

    @property
    def ok(self) -> bool:
        """Whether all conditions hold; none at all is no."""
        return bool(self.checks) and not self.failures
