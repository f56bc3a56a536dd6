"""Ctrl-C during a C++ build: kept when it arrives, raised where it can be heard."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nxmi_export.backends.tensorrt_engine.progress import BuildProgress, OnProgress

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["interruptible"]


@contextmanager
def interruptible(on_progress: OnProgress | None) -> Iterator[OnProgress]:
    """Yields an `on_progress` that raises a pending interruption; so does the end of the block.

    Python raises KeyboardInterrupt where it next runs, which during a build is the first
    instruction of a callback, before any handling inside it: the bindings print and drop what
    leaves a callback, and the build would go on. Outside the main thread no signal arrives, and a
    process that ignores the signal goes on ignoring it.
    """
    handler = signal.getsignal(signal.SIGINT)
    pending: list[tuple[int, FrameType | None]] = []

    def report(step: BuildProgress) -> None:
        if pending and callable(handler):
            handler(*pending.pop())
        if on_progress is not None:
            on_progress(step)

    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield report
        return
    signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield report
    finally:
        signal.signal(signal.SIGINT, handler)
    if pending:
        handler(*pending.pop())
