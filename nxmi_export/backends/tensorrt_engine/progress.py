"""Python callbacks inside a C++ build: progress out, interruptions kept until it has returned."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from nxmi_export.backends.tensorrt_engine.library import Library

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["BuildProgress", "Deferred", "OnProgress", "progress_monitor"]


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """One step of one phase; phases nest, `parent` is None for the outermost."""

    phase: str
    parent: str | None
    done: int
    total: int  # steps


OnProgress: TypeAlias = Callable[[BuildProgress], None]


class Deferred:
    """Keeps the first exception raised inside its block for `reraise`.

    The bindings print an exception that leaves a callback and go on building, Ctrl-C included;
    this one reaches the caller once the builder has returned.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None

    @property
    def pending(self) -> bool:
        """Whether something waits to be raised."""
        return self._error is not None

    def reraise(self) -> None:
        """Raise what was kept, if anything was."""
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._error = self._error or error
        return True


def progress_monitor(
    library: Library, on_progress: OnProgress | None, deferred: Deferred
) -> "trt.IProgressMonitor":
    """A TensorRT progress monitor that reports every step and cancels once `deferred` holds."""
    if TYPE_CHECKING:
        from tensorrt import IProgressMonitor
    else:
        IProgressMonitor = library.module.IProgressMonitor

    class Monitor(IProgressMonitor):  # type: ignore[misc]  # Any, where no stubs are found
        def __init__(self) -> None:
            super().__init__()
            self._open: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with deferred:
                self._open[phase_name] = (parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with deferred:
                parent, total = self._open[phase_name]
                if on_progress is not None and not deferred.pending:
                    on_progress(BuildProgress(phase_name, parent, step + 1, total))
            return not deferred.pending  # False cancels the build

        def phase_finish(self, phase_name: str) -> None:
            with deferred:
                del self._open[phase_name]

    return Monitor()
