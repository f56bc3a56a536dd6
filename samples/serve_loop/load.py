"""Sentences of a dev set in, requests as clients send them out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nxmi_export.runtime import Prediction, TaskModel

__all__ = ["Load", "Request", "Text"]

POOL = 64  # requests whose answers are known
SEED = 0

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Request:
    """Texts, and what the model answers when nobody else asks, where that is known."""

    texts: list[Text]
    answer: list[Prediction] | None = None


@dataclass(frozen=True)
class Load:
    """Requests of 1 to `largest` texts each."""

    texts: Sequence[Text]
    largest: int
    pool: tuple[Request, ...]

    @classmethod
    def of(cls, model: TaskModel, texts: Sequence[Text], largest: int) -> "Load":
        """With a pool that is answered here, one request after the other."""
        random = np.random.default_rng(SEED)
        load = cls(texts, largest, ())
        drawn = [load.anew(random).texts for _ in range(POOL)]
        return replace(load, pool=tuple(Request(each, model.predict(each)) for each in drawn))

    def anew(self, random: np.random.Generator) -> Request:
        """One that hardly ever came before."""
        count = int(random.integers(1, self.largest + 1))
        return Request([self.texts[index] for index in random.choice(len(self.texts), count)])

    def heaviest(self) -> Request:
        """As many texts as a request has, and the longest."""
        texts = sorted(self.texts, key=lambda text: len(str(text)), reverse=True)
        return Request(texts[: self.largest])

    def warm_up(self, random: np.random.Generator) -> Iterator[Request]:
        """The heaviest before every other, so that many of them meet while little is free."""
        heaviest = self.heaviest()
        for request in self.requests(random):
            yield heaviest
            yield request

    def requests(self, random: np.random.Generator) -> Iterator[Request]:
        """Known and new by turns, endlessly."""
        while True:
            yield self.pool[random.integers(len(self.pool))]
            yield self.anew(random)
