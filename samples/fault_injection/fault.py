"""What a fault is: a change to a good artefact, and what a correct naming of it must say."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from samples.fault_injection.naming import Naming
from samples.fault_injection.projects import Base
from samples.fault_injection.site import Site

__all__ = ["Base", "Check", "Fault", "Plant", "Premise", "Proof"]

Plant: TypeAlias = Callable[[Site], Naming]
"""Changes the artefact; returns what the first cause that the product states must be."""


class Check(StrEnum):
    """What is to find the fault."""

    PARITY = "parity"  # the run over a dev set, and its gate
    REPORT = "report"  # whether a stored parity report is of this artefact
    CERTIFICATE = "certificate"  # whether the stored certificate is


@dataclass(frozen=True)
class Premise:
    """What a proof takes for granted, as it was measured."""

    what: str
    measured: float
    holds: bool


@dataclass(frozen=True)
class Proof:
    """Why no output can change."""

    text: str
    premises: Callable[[Site], tuple[Premise, ...]]  # measured in the artefact before the change


@dataclass(frozen=True)
class Fault:
    """One fault; its verdict comes from running the product, never from what is known here."""

    name: str
    family: str
    plant: Plant
    base: Base = Base.SPARSE
    check: Check = Check.PARITY
    proof: Proof | None = None  # of those that are equivalent; the outputs are compared besides
    sealed: bool = True  # whether the manifest's hashes are made to fit what was changed
