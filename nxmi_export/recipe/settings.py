"""The settings of a recipe beside its schemes: quantizers, sparsity, distillation, training."""

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from nxmi_export.recipe.scheme import conflict

__all__ = [
    "ActivationSettings",
    "Calibration",
    "DistillationSettings",
    "Granularity",
    "SparsitySettings",
    "TrainingSettings",
    "WeightSettings",
]

MAX_ROWS = 999_999  # as many digits as `rows:N` takes
_ROWS = re.compile(r"rows:([1-9][0-9]{0,5})")
_PERCENTILE = re.compile(r"percentile:([0-9]{1,2}(?:\.[0-9]+)?|100)")
_GRANULARITY = "write tensor, channel or rows:N"
_CALIBRATION = "write max, mse or percentile:99.95"

Pull = Annotated[float, Field(gt=0, lt=1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Settings(BaseModel):
    # strict: `true` is no number, `"3"` is no number either, and 1 is no boolean
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Granularity(_Settings):
    """How many output rows of a weight share one scale; None: all of them (`tensor`)."""

    rows: int | None = Field(default=1, ge=1, le=MAX_ROWS)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `tensor`, `channel` or `rows:N`; raises ValueError otherwise."""
        if text in {"tensor", "channel"}:
            return cls(rows=1 if text == "channel" else None)
        match = _ROWS.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a granularity; {_GRANULARITY}")
        return cls(rows=int(match[1]))

    def __str__(self) -> str:
        if self.rows is None:
            return "tensor"
        return "channel" if self.rows == 1 else f"rows:{self.rows}"


class Calibration(_Settings):
    """How a scale is fitted to the values seen.

    `max` covers the largest magnitude, `percentile:P` P % of the non-zero magnitudes, and `mse`
    takes the scale with the least mean squared rounding and saturation error.
    """

    method: Literal["max", "mse", "percentile"] = "max"
    percent: float = Field(default=100.0, gt=0, le=100)  # of `percentile` only

    @model_validator(mode="after")
    def _counts_percent_of_percentiles_only(self) -> Self:
        if self.method != "percentile" and self.percent != 100:
            raise conflict(
                f"method: {self.method} with percent: {self.percent:g}",
                "leave percent out, which belongs to method: percentile",
            )
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `max`, `mse` or `percentile:P`; raises ValueError otherwise."""
        if text in {"max", "mse"}:
            return cls.model_validate({"method": text})
        match = _PERCENTILE.fullmatch(text)
        if match is None or not float(match[1]):
            raise ValueError(f"{text!r} is not a calibration; {_CALIBRATION}")
        return cls(method="percentile", percent=float(match[1]))

    def __str__(self) -> str:
        if self.method != "percentile":
            return self.method
        # all digits of the float and no exponent, so that `parse` reads the same float back
        return f"percentile:{Decimal(repr(self.percent)).normalize():f}"


def _granularity(value: Any) -> Any:
    if isinstance(value, str):
        return Granularity.parse(value)
    if isinstance(value, dict | Granularity):
        return value  # pydantic looks inside
    raise ValueError(f"a granularity is a text; {_GRANULARITY}")


def _calibration(value: Any) -> Any:
    if isinstance(value, str):
        return Calibration.parse(value)
    if isinstance(value, dict | Calibration):
        return value  # pydantic looks inside
    raise ValueError(f"a calibration is a text; {_CALIBRATION}")


_Text = PlainSerializer(str, return_type=str)
GranularityField = Annotated[Granularity, BeforeValidator(_granularity), _Text]
CalibrationField = Annotated[Calibration, BeforeValidator(_calibration), _Text]


class WeightSettings(_Settings):
    """The quantizers of weights; ranges are symmetric, ±127 and ±7."""

    int8_granularity: GranularityField = Granularity(rows=1)
    int4_granularity: GranularityField = Granularity(rows=1)
    calibration: CalibrationField = Calibration(method="max")
    learned: bool = True  # LSQ: steps are trained; otherwise refitted to the weight at every step


class ActivationSettings(_Settings):
    """The quantizers of activations, all INT8.

    `static`: one scale per value, calibrated before and fixed in deployment. `dynamic`: the
    max-abs scale of every token at run time, which neither TensorRT nor onnxruntime deploys.
    """

    mode: Literal["static", "dynamic"] = "static"
    calibration: CalibrationField = Calibration(method="percentile", percent=99.95)
    calibration_batches: int = Field(default=16, ge=1)
    learned: bool = True  # LSQ; static only

    @model_validator(mode="after")
    def _learns_only_static_scales(self) -> Self:
        if self.mode == "dynamic" and self.learned:
            raise conflict(
                "mode: dynamic with learned: true",
                "write learned: false, as a scale that follows every token cannot be learned",
            )
        return self


class SparsitySettings(_Settings):
    """How the layers that have a pattern reach it.

    `admm`       penalty ρ/2·‖W − Z + U‖² in training, exact projection before the recovery
    `magnitude`  one mask at the start, kept throughout (ASP)
    `sr-ste`     masks follow the dense weight, whose pruned part decays (Zhou et al., 2021)
    """

    method: Literal["admm", "magnitude", "sr-ste"] = "admm"
    # the first Z of ADMM; mask and weights of `magnitude`; nothing to SR-STE, which follows weights
    initial: Literal["magnitude", "reconstruction"] = "reconstruction"
    # ADMM's penalty: joins the gradients before Adam (as published), or is a step of its own
    penalty: Literal["gradient", "proximal"] = "proximal"
    rho: Positive = 4e-3  # of `gradient`
    rho_final: Positive | None = None  # rises (or falls) geometrically to this; None: constant
    pull: Pull = 0.5  # of `proximal`: the share of W − Z + U closed from one update to the next
    pull_final: Pull = 0.9  # the same at the end
    updates_per_epoch: int = Field(default=1, ge=1)  # of Z and U
    decay: Weight = 2e-4  # λ of SR-STE
    recovery: Share = 0.3  # the last share of the steps, under the final mask

    @model_validator(mode="after")
    def _changes_nothing_that_is_without_effect(self) -> Self:
        kind = f"method: {self.method}"
        kind += f", penalty: {self.penalty}" if self.method == "admm" else ""
        for names, *owners in _BELONGING:
            for name in names if not kind.startswith(tuple(owners)) else ():
                value, default = getattr(self, name), type(self).model_fields[name].default
                if value != default:
                    told = value if isinstance(value, str) else f"{value:g}"
                    raise conflict(
                        f"{name}: {told} with {kind}",
                        f"leave {name} out, which belongs to {' or '.join(owners)}",
                    )
        return self


# names of settings, and what reads them
_BELONGING: tuple[tuple[tuple[str, ...], *tuple[str, ...]], ...] = (
    (("rho", "rho_final"), "method: admm, penalty: gradient"),
    (("pull", "pull_final"), "method: admm, penalty: proximal"),
    (("penalty", "updates_per_epoch"), "method: admm"),
    (("decay",), "method: sr-ste"),
    (("recovery",), "method: admm", "method: sr-ste"),
)


class DistillationSettings(_Settings):
    """Weights of the losses; without the last three of them, training needs no teacher.

    logits     KL(teacher ‖ student) at `temperature`, times temperature²; the mean squared error
               of a regression's output
    hidden     mean squared error of every block's output, over its variance in the teacher
    attention  KL(teacher ‖ student) of every head's attention probabilities
    """

    labels: Weight = 1.0
    logits: Weight = 1.0
    temperature: Positive = 1.0
    hidden: Weight = 1.0
    attention: Weight = 0.0

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with the dense model."""
        return bool(self.logits or self.hidden or self.attention)

    @model_validator(mode="after")
    def _trains_towards_something(self) -> Self:
        if not (self.labels or self.needs_teacher):
            raise conflict(
                "0 for each of labels, logits, hidden and attention",
                "give at least one of them a weight above 0",
            )
        return self


class TrainingSettings(_Settings):
    """The schedule. Zero epochs: project and calibrate only.

    The learning rate rises over `warmup` of the steps, holds, and falls to zero over the last
    `cooldown` of them; 1: from the warm-up on.
    """

    epochs: int = Field(default=10, ge=0)
    batch_size: int = Field(default=32, ge=1)  # examples per optimizer step, over all processes
    learning_rate: Positive = 1e-4
    scale_learning_rate: Positive = 1e-3  # of LSQ, whose parameters are logarithms of the steps
    warmup: Share = 0.1
    cooldown: Share = 0.3
    weight_decay: Weight = 0.0
    clip_norm: Positive = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.0  # None: the model's own
    trained: Literal["all", "encoder", "compressed"] = "encoder"  # encoder: all but embeddings
    quantize_after: Share = 0.0  # of the steps; before it the quantizers let values through
