"""One logger per process, because TensorRT keeps the first one it is given; one build at a time."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.progress import Deferred

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Recording", "recording"]

# The letters that trtexec prints, so that one parser reads its logs and ours.
_LETTERS = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}

_ONE_BUILD = threading.Lock()


@dataclass(slots=True)
class Recording:
    """What the library said during one build, at every severity."""

    deferred: Deferred
    messages: list[tuple[str, str]] = field(default_factory=list)  # (letter, message)

    @property
    def text(self) -> str:
        """The whole log; each message starts a line with its severity, as in `[V] Layers:`."""
        return "".join(f"[{letter}] {message}\n" for letter, message in self.messages)

    @property
    def errors(self) -> list[str]:
        """The messages of severity error, each on one line."""
        return [" ".join(text.split()) for letter, text in self.messages if letter in "FE"]

    def complaints(self, since: int) -> list[str]:
        """The warnings and errors after the first `since` messages, each on one line."""
        later = self.messages[since:]
        return [" ".join(text.split()) for letter, text in later if letter in "FEW"]


@contextmanager
def recording(library: Library, deferred: Deferred) -> Iterator[tuple["trt.ILogger", Recording]]:
    """The process's logger, recording into a fresh `Recording` while the block runs."""
    with _ONE_BUILD:
        logger = _logger(library)
        logger.sink = sink = Recording(deferred)
        try:
            yield logger, sink
        finally:
            logger.sink = None


@functools.cache
def _logger(library: Library) -> Any:
    if TYPE_CHECKING:
        from tensorrt import ILogger
    else:
        ILogger = library.module.ILogger

    class Logger(ILogger):  # type: ignore[misc]  # Any, where no stubs are found
        def __init__(self) -> None:
            super().__init__()
            self.sink: Recording | None = None

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            if self.sink is not None:
                with self.sink.deferred:
                    self.sink.messages.append((_LETTERS[severity.name], msg))

    return Logger()
