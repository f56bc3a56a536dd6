"""What a parity result must keep to, and what came of holding it to that."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nxmi_export.parity.statistics import Terms

__all__ = ["Check", "Gate", "Verdict"]


@dataclass(frozen=True)
class Gate:
    """What a result must keep to.

    `terms` say which drop of the primary score would matter. A drop that is proved to be larger
    fails; one that is not ruled out fails only under `strict`, because most small dev sets cannot
    rule out half a point even where no prediction changes. `max_drop` holds the score itself to a
    limit. It has room for rounding ties: on a dev set of a thousand examples they alone change a
    few predictions, each worth a tenth of a point. Where those come from is checked separately.
    `max_shape_changed` is not zero because batch size and padding change the order of sums, which
    tips rounding ties; a mask that leaks changes far more. `max_kernel_changed` is not zero for the
    same reason: optimized kernels add in other orders, and with float32 sums only ties tip. Before
    it, the file for the CPU run as it is written must give the logits of `model.onnx` bit for bit,
    for which there is no tolerance to set. `max_float16_changed` has room for what float16 does to
    a quantizer: it keeps 11 bits of a value whose codes have 8, so a value moves by a sixteenth of
    a step at most for each rounding, and some per cent of the codes tip to their neighbour. That is
    far less than the half step of quantization itself, but more than float32's ties, which are the
    same thing at a thousandth of the size.
    """

    max_changed: int = 0  # unexplained, from compressed PyTorch to ONNX as written
    max_flips: int | None = None  # of any cause, from compressed PyTorch to ONNX optimized
    max_drop: float = 0.005  # of the primary score, from compressed PyTorch to ONNX optimized
    max_kernel_changed: float = 0.01  # share of predictions, from ONNX as written to optimized
    max_float16_changed: float = 0.02  # share of predictions, from ONNX as written to float16
    max_shape_changed: float = 0.01  # share of predictions, in each shape
    require_shapes: bool = True  # False: a result without compared shapes may pass
    terms: Terms = field(default_factory=Terms)
    strict: bool = False  # whether a drop beyond the margin must be ruled out


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
