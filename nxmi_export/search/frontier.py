"""Sensitivities in, the least predicted divergence at every size and every latency out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nxmi_export.search.budget import Budget
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.limits import LatencyBudget, SizeBudget
from nxmi_export.search.program import QUICK, Program
from nxmi_export.search.sensitivity import Sensitivities
from nxmi_export.search.solve import solve
from nxmi_export.search.space import Candidate

__all__ = ["POINTS", "Optimum", "frontier"]

POINTS = 12  # of each curve


@dataclass(frozen=True)
class Optimum:
    """What the solver takes where `swept` is limited and nothing else is."""

    swept: Literal["size", "seconds"]
    candidate: Candidate
    predicted: float  # the sum of its sensitivities


def frontier(
    sensitivities: Sensitivities,
    *,
    metadata: bool,
    latency: LatencyModel | None,
    on_found: Callable[[int, int], None] = lambda number, total: None,
) -> tuple[Optimum, ...]:
    """The optima under evenly spaced limits of the size, then of the latency, each once.

    They are optima as far as `QUICK` goes, begin at the least that any candidate takes and end
    where a higher limit changes nothing. The size counts metadata or not, and without a latency
    model there is no second curve. `on_found` hears of each limit, and of how many there are.
    """
    space = sensitivities.space
    limits: list[SizeBudget | LatencyBudget] = list(_sizes(sensitivities, metadata))
    if latency is not None:
        limits += _latencies(sensitivities, latency)
    found: dict[tuple[str, Candidate], Optimum] = {}
    best: dict[str, Candidate] = {}
    for number, limit in enumerate(limits, 1):
        is_size = isinstance(limit, SizeBudget)
        budget = Budget(size=limit) if isinstance(limit, SizeBudget) else Budget(latency=limit)
        swept: Literal["size", "seconds"] = "size" if is_size else "seconds"
        candidate = solve(space, sensitivities.losses, budget, effort=QUICK)[0].candidate
        # What a lower limit admits a higher one does, so no gap may have the curve rise.
        candidate = min((best.get(swept, candidate), candidate), key=sensitivities.additive)
        best[swept] = candidate
        optimum = Optimum(swept, candidate, sensitivities.additive(candidate))
        found.setdefault((swept, candidate), optimum)
        on_found(number, len(limits))
    return tuple(found.values())


def _sizes(sensitivities: Sensitivities, metadata: bool) -> Iterator[SizeBudget]:
    whole = SizeBudget(1.0, metadata)  # its target does not enter what a candidate takes of it
    for target in _evenly(sensitivities, whole):
        yield SizeBudget(target, metadata)


def _latencies(sensitivities: Sensitivities, model: LatencyModel) -> Iterator[LatencyBudget]:
    for seconds in _evenly(sensitivities, LatencyBudget(model.dense_seconds, model)):
        yield LatencyBudget(seconds, model)


def _evenly(sensitivities: Sensitivities, limit: SizeBudget | LatencyBudget) -> list[float]:
    """From what the least candidate takes of `limit` to what the one of least divergence does."""
    space = sensitivities.space
    program = Program(space)
    least = program.minimize(limit.cost(program))
    assert least is not None  # nothing limits it
    free = Candidate(
        tuple(
            min(group.by_text, key=lambda text, name=group.name: sensitivities.of(name, text))  # type: ignore[misc]
            for group in space.groups
        )
    )
    low, high = (limit.of(space, each) for each in (least.candidate, free))
    return [low] if high <= low else [float(each) for each in np.linspace(low, high, POINTS)]
