"""What a fault is: a change to a good artefact, and what a correct naming of it must say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from samples.fault_injection.projects import Base
from samples.fault_injection.site import Site

__all__ = ["Base", "Check", "Fault", "Plant"]

Plant = Callable[[Site], tuple[str, ...]]
"""Changes the artefact; returns the phrases that one sentence of a correct naming all contains."""


class Check(StrEnum):
    """What is to find the fault."""

    PARITY = "parity"  # the run over a dev set, and its gate
    REPORT = "report"  # whether a stored parity report is of this artefact
    CERTIFICATE = "certificate"  # whether the stored certificate is


@dataclass(frozen=True)
class Fault:
    """One fault; its verdict comes from running the product, never from what is known here."""

    name: str
    family: str
    plant: Plant
    base: Base = Base.SPARSE
    check: Check = Check.PARITY
    options: Mapping[str, Any] = field(default_factory=dict)  # of the parity request
    # Why no output can change, for those that are equivalent; the outputs are compared besides.
    proof: str = ""
    sealed: bool = True  # whether the manifest's hashes are made to fit what was changed
