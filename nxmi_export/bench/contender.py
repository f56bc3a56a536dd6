"""What takes part in a comparison: something that can be opened and run, or the reason why not."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from nxmi_export.backends import Feeds, Runner
from nxmi_export.errors import CapabilityMissing, NxmiError, ShapeError

__all__ = ["Alone", "Contender", "NotRun", "RunsOnGpu"]


@runtime_checkable
class RunsOnGpu(Protocol):
    """A runner that can also tell what the GPU alone takes."""

    def gpu_timer(self, feeds: Feeds) -> Callable[[], float]:
        """Uploads one batch; what it returns runs it and says how many seconds that took."""
        ...


@dataclass(frozen=True)
class NotRun:
    """A place in the results that stays empty, with its reason."""

    reason: str


@dataclass(frozen=True)
class Alone:
    """How it gets to run in a fresh process, where its memory is measured.

    What a contender makes first would be measured with it. An ONNX file is therefore written by
    `written` into a folder, and opened by name; what cannot be had so is `refused`.
    """

    libraries: tuple[str, ...] = ()  # modules that count as the process's own memory
    written: Callable[[Path], Path] | None = None
    refused: NotRun | None = None


@dataclass(frozen=True)
class Contender:
    """One way to run the model.

    `open` gives its runner, or the reason why it cannot take part here. What it raises of
    `refusals` is such a reason too; anything else ends the comparison.
    """

    key: str  # short and stable, as in "--baseline onnxruntime"
    what: str  # in words
    open: Callable[[], AbstractContextManager[Runner] | NotRun]
    facts: Mapping[str, str] = field(default_factory=dict)  # file, hash, …, for the record
    on_cpu: bool = True  # whether its products run there
    exact: str | None = None  # the key of the one that runs the same file with exact products
    refusals: tuple[type[NxmiError], ...] = (CapabilityMissing,)
    shape_refusals: tuple[type[NxmiError], ...] = (ShapeError,)
    alone: Alone = Alone()
