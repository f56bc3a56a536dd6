"""Texts in, predictions out: tokenizing, batches by length, the session, the head."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.names import Backend
from nxmi_export.encoding.batches import Feeds, bucketed, padded
from nxmi_export.errors import UsageError
from nxmi_export.runtime.choose_backend import Chosen
from nxmi_export.runtime.prediction import Head, Prediction
from nxmi_export.runtime.text_encoder import TextEncoder
from nxmi_export.runtime.texts import Text, checked_texts

__all__ = ["Batching", "Executes", "TaskModel"]


@dataclass(frozen=True)
class Batching:
    """How many inputs run together."""

    tokens: int  # of a batch at most, padding included
    size: int | None  # inputs of a batch at most


class Executes(Protocol):
    """A graph that was opened, on whatever library."""

    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Float32 (batch, labels)."""
        ...


class TaskModel:
    """A deployed model; made by `nxmi_export.load`.

    Threads may share one: a call keeps nothing of its own in it. Each call is cut into batches by
    length, padded on the right to the longest of the batch, and a text longer than `max_length` is
    truncated as it was in training. After `close`, or at the end of a `with`, it refuses calls.
    """

    def __init__(
        self,
        name: str,
        encoder: TextEncoder,
        session: Executes,
        head: Head,
        *,
        chosen: Chosen,
        columns: int | None,
        batching: Batching,
    ) -> None:
        self._name = name
        self._chosen = chosen
        self._encoder = encoder
        self._session: Executes | None = session
        self._head = head
        self._columns = columns
        self._batching = batching

    @property
    def backend(self) -> Backend:
        """The library that runs it."""
        return self._chosen.backend

    @property
    def backend_reason(self) -> str:
        """Why it is that one, in words."""
        return self._chosen.reason

    @property
    def labels(self) -> tuple[str, ...]:
        """Names in the order of the logits; one for a regression."""
        return self._head.labels

    @property
    def max_length(self) -> int:
        """Tokens that longer texts are truncated to."""
        return self._encoder.max_length

    def predict(self, texts: Iterable[Text]) -> list[Prediction]:
        """One prediction for each text or pair, in their order; none for none.

        Raises UsageError for anything but texts or pairs, and for a pair where the model was
        compressed on single texts, or the other way round.
        """
        return self._head.predictions(self.logits(texts))

    __call__ = predict

    def logits(self, texts: Iterable[Text]) -> NDArray[np.float32]:
        """Float32 (texts, labels), in the order of the texts; raises as `predict` does."""
        session = self._session  # kept, so that a call that has begun outlives `close`
        if session is None:
            raise UsageError(
                self._name,
                expected="an open model",
                found="one that was closed",
                remedy="load it again, or predict inside its `with` block",
            )
        rows = self._encoder.encode(checked_texts(texts, self._columns))
        logits = np.empty((len(rows), len(self.labels)), np.float32)
        for indices in bucketed(rows.lengths, self._batching.tokens, self._batching.size):
            logits[indices] = session.logits(padded(rows, indices, self._encoder.padding))
        return logits

    def close(self) -> None:
        """Let go of the session; a call that is running in another thread still ends."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
