"""What a search reports while it runs, as plain values for displays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nxmi_export.latency.table import Source

__all__ = [
    "CandidateScored",
    "Leader",
    "LinearPrepared",
    "Origin",
    "PointScored",
    "Progress",
    "Remark",
    "SensitivityDone",
    "SolutionFound",
    "StageBegun",
]

Origin = Literal["component", "layer"]  # which of the two searches


@dataclass(frozen=True)
class StageBegun:
    """Something that takes seconds begins; `stage` is a phrase such as "reading the model"."""

    stage: str


@dataclass(frozen=True)
class Remark:
    """What a reader of the result should know of how it was found; a sentence."""

    text: str


@dataclass(frozen=True)
class LinearPrepared:
    """One linear's weight has been rounded and pruned by every scheme it may get."""

    number: int  # from 1
    total: int  # that the main process prepares
    linear: str


@dataclass(frozen=True)
class SensitivityDone:
    """One scheme was tried on one group alone, all else dense or as in a configuration."""

    origin: Origin
    number: int  # from 1
    total: int
    reused: int  # of `number`, those that an interrupted run had measured; they took no time
    refinement: int = 0  # the round around the best so far, from 1; 0: none
    uniform: bool = False  # around uniform configurations; without this or a round, the dense model


@dataclass(frozen=True)
class SolutionFound:
    """The solver has its next-best configuration, or the next point of the frontier."""

    purpose: Literal["proposals", "frontier"]
    number: int  # from 1
    total: int


@dataclass(frozen=True)
class PointScored:
    """One configuration of the picture was scored on all examples."""

    number: int  # from 1
    total: int


@dataclass(frozen=True)
class Leader:
    """One of the best configurations so far, scored on the whole slice."""

    name: str
    schemes: Mapping[str, str]  # by group: a component, or a module name
    size: float  # share of the float32 size, counted as the budget counts it
    seconds: float | None  # where a latency table is at hand
    source: Source | None  # of the seconds: measured, or computed from a datasheet
    divergence: float  # nats, or the squared difference of a regression's outputs
    metric: float | None  # the task's primary one


@dataclass(frozen=True)
class CandidateScored:
    """One configuration was scored, or given up as it cannot be among the best any more."""

    origin: Origin
    number: int  # from 1
    total: int
    reused: int  # of `number`, those that an interrupted run had scored; they took no time
    stopped: int  # of `number`, those given up early
    examples: int  # scored in all, over these candidates
    slice: int  # examples of one complete score
    leaders: tuple[Leader, ...]  # best first
    refinement: int = 0  # the round that proposed it, from 1; 0: none


Progress = (
    StageBegun
    | Remark
    | LinearPrepared
    | SensitivityDone
    | SolutionFound
    | PointScored
    | CandidateScored
)
