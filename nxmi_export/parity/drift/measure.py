"""Two observed rungs and a dataset in, how far they are apart at every point out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends import Feeds
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UsageError
from nxmi_export.parity.drift.error_sum import ErrorSum, LargestError
from nxmi_export.parity.drift.plain import plain
from nxmi_export.parity.drift.point import Kind, Observations, Point, real_values

__all__ = ["Drift", "ObservedRung", "PointDrift", "measure_drift"]

SCHEMA = "nxmi-export/drift/1"


class ObservedRung(Protocol):
    """A rung that shows its values: `TorchPoints`, `OnnxPoints`, or a test's own."""

    @property
    def name(self) -> str:
        """How reports call this rung."""
        ...

    def observe(self, feeds: Feeds) -> Observations:
        """The values of one batch by point."""
        ...


@dataclass(frozen=True)
class PointDrift:
    """The error of one point over all examples, padding left out; candidate − reference."""

    point: Point
    values: int
    non_finite: int  # of the values: those of which one side alone is finite
    largest: LargestError | None
    mean: float  # of the error: far from 0 against `rms`, the error has a direction
    rms: float
    relative_rms: float  # rms over the reference's own
    cosine: float

    @property
    def max_abs(self) -> float:
        """The largest |error|."""
        return self.largest.error if self.largest else 0.0


@dataclass(frozen=True)
class Drift:
    """Every point that both rungs show, in order of execution."""

    reference: str
    candidate: str
    examples: int
    points: tuple[PointDrift, ...]
    unobserved: tuple[Point, ...]  # that the reference alone shows

    def of(self, *kinds: Kind) -> tuple[PointDrift, ...]:
        """The points of these kinds."""
        return tuple(each for each in self.points if each.point.kind in kinds)

    def as_json(self) -> dict[str, Any]:
        """Plain data under a schema; a number that is NaN or infinite becomes null."""
        points = [
            {"name": str(each.point), **asdict(each), "max_abs": each.max_abs}
            for each in self.points
        ]
        facts = {**asdict(self), "points": points}
        result: dict[str, Any] = plain({"schema": SCHEMA, **facts})
        return result


def measure_drift(
    reference: ObservedRung,
    candidate: ObservedRung,
    data: EncodedDataset,
    *,
    batch_size: int,
    order: NDArray[np.int64] | None = None,
    kinds: Sequence[Kind] = tuple(Kind),
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Drift:
    """Run both rungs freely over the examples `order` (default: all, by length).

    One batch's observations are held at a time, so memory depends on `batch_size` and not on the
    dataset. `on_batch` gets the examples done and their total. Raises UsageError without examples,
    ShapeError where one point has two shapes.
    """
    order = data.by_length() if order is None else order
    if not len(order):
        raise UsageError(
            f"the drift from {reference.name} to {candidate.name}",
            expected="examples",
            found="none",
            remedy="give at least one",
        )
    sums: dict[Point, ErrorSum] = {}
    unobserved: dict[Point, None] = {}
    done = 0
    for batch in data.batches(batch_size, order=order):
        before, after = reference.observe(batch.feeds), candidate.observe(batch.feeds)
        for point in before:
            if point.kind not in kinds:
                continue
            if point not in after:
                unobserved[point] = None
                continue
            _check_shapes(point, before, after)
            real = real_values(point, before[point].shape, batch.feeds["attention_mask"])
            total = sums.setdefault(point, ErrorSum())
            total.add(before[point], after[point], real, batch.indices)
        done += len(batch.indices)
        on_batch(done, len(order))
    points = tuple(_summary(point, each) for point, each in sums.items())
    return Drift(reference.name, candidate.name, done, points, tuple(unobserved))


def _check_shapes(point: Point, before: Observations, after: Observations) -> None:
    if before[point].shape != after[point].shape:
        # The fault is the candidate's, and what the broadcast of two shapes differs by is nothing.
        raise UsageError(
            str(point),
            expected=f"the shape {before[point].shape} on both sides",
            found=f"{after[point].shape}",
            remedy="compare two rungs of one model",
        )


def _summary(point: Point, total: ErrorSum) -> PointDrift:
    return PointDrift(
        point=point,
        values=total.values,
        non_finite=total.non_finite,
        largest=total.largest,
        mean=total.mean,
        rms=total.rms,
        relative_rms=total.relative_rms,
        cosine=total.cosine,
    )
