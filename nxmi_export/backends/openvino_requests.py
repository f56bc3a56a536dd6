"""A graph that OpenVINO compiled in, one of its infer requests for each call that runs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

__all__ = ["Requests"]


class Requests:
    """At most `most` infer requests of `compiled`, each made when all others are in use.

    A request has one set of tensors, so that a call has it for itself; one that finds all of them
    in use waits.
    """

    def __init__(self, compiled: Any, most: int) -> None:
        self._compiled = compiled  # `openvino.CompiledModel`
        # The latest is taken first: who calls alone uses one request, and holds memory for one.
        self._idle: list[Any] = [compiled.create_infer_request()]
        self._free = BoundedSemaphore(most)

    @contextmanager
    def borrowed(self) -> Iterator[Any]:
        """One of them, `openvino.InferRequest`, given back however its call ends."""
        with self._free:
            try:
                request = self._idle.pop()  # of a list atomic, as `append` is
            except IndexError:
                request = self._compiled.create_infer_request()
            try:
                yield request
            finally:
                self._idle.append(request)
