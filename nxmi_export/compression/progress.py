"""What a compression run reports while it runs, as plain values for displays, logs and trackers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

__all__ = ["Continued", "EpochDone", "Progress", "Residuals", "StageBegun", "StepDone"]


@dataclass(frozen=True)
class Residuals:
    """How far ADMM is from agreement, over all layers with a pattern (Boyd et al., 2011, §3.3)."""

    primal: float  # ‖W − Z‖ / ‖W‖
    dual: float  # ρ‖Z − Z_before‖ / ‖W‖
    churn: float  # share of mask entries that changed since the update before
    rho: float


@dataclass(frozen=True)
class StageBegun:
    """Something that takes seconds begins: calibration, reconstruction, evaluation."""

    stage: str


@dataclass(frozen=True)
class Continued(StageBegun):
    """The run goes on from a snapshot that was made with other settings, those of `before`."""

    after_step: int
    before: Mapping[str, str]  # as {"learning rate": "0.0001"}

    @classmethod
    def of(cls, after_step: int, before: Mapping[str, str]) -> Self:
        """The stage tells it in words."""
        settings = ", ".join(f"{name} {value}" for name, value in before.items())
        return cls(
            f"continuing after step {after_step}, until then with {settings}", after_step, before
        )


@dataclass(frozen=True)
class StepDone:
    """One optimizer step; `losses` are the unweighted terms, means over the global batch."""

    number: int  # from 1
    total: int
    epoch: int  # from 1
    loss: float  # the weighted sum that was minimized
    losses: Mapping[str, float]
    learning_rate: float


@dataclass(frozen=True)
class EpochDone:
    """The end of an epoch. `metrics` are empty where nothing evaluates.

    `projected` are the metrics of a copy with every weight on its pattern; before the final
    projection they tell what projecting now would cost.
    """

    epoch: int  # from 1
    epochs: int
    step: int
    metrics: Mapping[str, float]
    projected: Mapping[str, float]
    residuals: Residuals | None  # None without ADMM, and after its final projection


Progress = StageBegun | StepDone | EpochDone
