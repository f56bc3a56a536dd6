"""Logits and the names of labels in, one `Prediction` for each text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Head", "Prediction"]

_MULTI_LABEL = "multi_label_classification"  # as transformers calls it in config.json


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one text, or of one pair of texts.

    A regression has no labels: `label` is None, `scores` is empty, `score` the predicted number.
    """

    label: str | None  # the likeliest
    score: float  # its probability, 0…1
    scores: Mapping[str, float]  # by label, in the order of the logits


@dataclass(frozen=True)
class Head:
    """How logits are read: a softmax over labels, a sigmoid for each, or a number as it is."""

    labels: tuple[str, ...]  # in the order of the logits; one for a regression
    independent: bool = False  # whether several labels may hold at once

    @classmethod
    def of(cls, labels: tuple[str, ...], problem_type: object) -> "Head":
        """`problem_type` is that of config.json, which may have none."""
        return cls(labels, independent=problem_type == _MULTI_LABEL)

    @property
    def is_regression(self) -> bool:
        """Whether the model predicts one number."""
        return len(self.labels) == 1 and not self.independent

    def predictions(self, logits: NDArray[np.float32]) -> list[Prediction]:
        """One for each row of `logits` (texts, labels)."""
        if self.is_regression:
            return [Prediction(None, float(row[0]), {}) for row in logits]
        shares = _sigmoid(logits) if self.independent else _softmax(logits)
        likeliest = logits.argmax(axis=1)
        return [
            self._prediction(row, int(best))
            for row, best in zip(shares.tolist(), likeliest, strict=True)
        ]

    def _prediction(self, shares: Sequence[float], best: int) -> Prediction:
        scores = dict(zip(self.labels, shares, strict=True))
        return Prediction(self.labels[best], shares[best], scores)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    exponentials = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    # Both halves without overflow: tanh has no large exponential.
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))
