"""A finished search as a value: the ranked configurations and how they were found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nxmi_export.glue import Task
from nxmi_export.search.agreement import Agreement
from nxmi_export.search.progress import Origin

__all__ = [
    "SCHEMA",
    "FrontierPoint",
    "Measured",
    "Ranked",
    "SearchResult",
    "StopStatistics",
    "Uniform",
]

SCHEMA = "nxmi-export/search/1"


@dataclass(frozen=True)
class Measured:
    """One configuration that was scored on the whole slice."""

    origin: Origin
    name: str
    schemes: Mapping[str, str]  # by group: a component, or a module name
    nominal: float  # size as a share of float32
    with_metadata: float
    seconds: float | None  # by the latency table; None without one
    divergence: float  # mean over the slice, nats or squared output difference
    metric: float | None  # the task's primary one; None where it is no number
    predicted: float  # what the sensitivities add up to
    predicted_with_interactions: float  # the same and what changes do to each other
    # from single changes of uniform configurations, or per layer of the best when it was proposed;
    # None: no refinement proposed it
    predicted_conditionally: float | None = None


@dataclass(frozen=True)
class Ranked:
    """One of the best, with its recipe's file."""

    rank: int  # from 1, among all that were scored on the whole slice
    recipe: str  # the file, relative to the folder
    measured: Measured


@dataclass(frozen=True)
class FrontierPoint:
    """What the solver takes at one size or latency, and what it costs on the whole slice."""

    swept: str  # "size" or "seconds": what was limited to draw this point
    nominal: float
    with_metadata: float
    seconds: float | None
    predicted: float  # what the solver's sensitivities add up to
    divergence: float
    metric: float | None
    schemes: Mapping[str, str]


@dataclass(frozen=True)
class Uniform:
    """One scheme everywhere, within the budget or not, on the whole slice."""

    scheme: str
    nominal: float
    with_metadata: float
    seconds: float | None
    divergence: float
    metric: float | None
    schemes: Mapping[str, str]


@dataclass(frozen=True)
class StopStatistics:
    """What giving up early saved, and the probability that it cost one of the best."""

    error: float
    candidates: int
    stopped: int
    examples: int  # that were scored
    examples_possible: int  # had no candidate been given up


@dataclass(frozen=True)
class SearchResult:
    """What `search.json` holds."""

    output: Path
    task: Task
    task_argument: str  # what asks for it, from `output`
    budget: Mapping[str, Any]  # {"size": {"target", "metadata"}, "latency": {...}}, either None
    budget_in_words: str
    candidates: Mapping[Origin, int]  # how many each search had to choose from, within the budget
    dense: Mapping[str, float | None]  # "metric" on the slice, "seconds" by the latency table
    ranked: tuple[Ranked, ...]
    winners: Mapping[Origin, Ranked]  # the best of each search
    measured: tuple[Measured, ...]  # every complete score, best first
    frontier: tuple[FrontierPoint, ...]
    uniform: tuple[Uniform, ...]  # of each scheme that fits everywhere
    # by search, group and scheme: what each costs alone, as {"divergence", "loss"}
    sensitivities: Mapping[Origin, Mapping[str, Mapping[str, Mapping[str, float]]]]
    stops: Mapping[Origin, StopStatistics]
    # by search, set of complete scores ("all", "refinements") and prediction
    agreement: Mapping[Origin, Mapping[str, Mapping[str, Agreement]]]
    # by search that asked a solver: the share by which another candidate may lose less than its
    # best, by the sum of sensitivities above the least of each group; 0: it is the optimum
    gaps: Mapping[Origin, float]
    remarks: tuple[str, ...]
    latency: Mapping[str, Any] | None  # the table's source, device and conditions
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    source: Mapping[str, Any]  # the dense model: its path, as given and from `output`, and hash
    versions: Mapping[str, str]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain data with a versioned schema."""
        return {
            "schema": SCHEMA,
            "task": self.task.name,
            "task_argument": self.task_argument,
            "is_regression": self.task.is_regression,
            "primary_metric": self.task.primary_metric,
            "budget": {**self.budget, "in_words": self.budget_in_words},
            "candidates": dict(self.candidates),
            "dense": dict(self.dense),
            "ranked": [_ranked(each) for each in self.ranked],
            "winners": {origin: _ranked(each) for origin, each in self.winners.items()},
            "measured": [asdict(each) for each in self.measured],
            "frontier": [asdict(each) for each in self.frontier],
            "uniform": [asdict(each) for each in self.uniform],
            "sensitivities": self.sensitivities,
            "stops": {origin: asdict(each) for origin, each in self.stops.items()},
            "agreement": {
                origin: {
                    which: {prediction: asdict(each) for prediction, each in found.items()}
                    for which, found in sets.items()
                }
                for origin, sets in self.agreement.items()
            },
            "gaps": dict(self.gaps),
            "remarks": list(self.remarks),
            "latency": self.latency,
            "options": self.options,
            "data": self.data,
            "source": self.source,
            "versions": self.versions,
            "seconds": round(self.seconds, 3),
        }


def _ranked(entry: Ranked) -> dict[str, Any]:
    return {"rank": entry.rank, "recipe": entry.recipe, **asdict(entry.measured)}
