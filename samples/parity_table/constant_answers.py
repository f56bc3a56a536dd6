"""A dev set and a score in, whether always answering one class has that score out."""

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from nxmi_export.glue import primary, score, task_named

__all__ = ["CLASSES", "is_a_constant_answers_score"]

# How many examples of each class the dev sets have, as `Task.labels` numbers them.
CLASSES: Mapping[tuple[str, str], tuple[int, ...]] = MappingProxyType(
    {
        ("cola", "validation"): (322, 721),
        ("sst2", "validation"): (428, 444),
        ("mrpc", "validation"): (129, 279),
        ("qqp", "validation"): (25545, 14885),
        ("mnli", "validation_matched"): (3479, 3123, 3213),
        ("mnli", "validation_mismatched"): (3463, 3129, 3240),
        ("qnli", "validation"): (2702, 2761),
        ("rte", "validation"): (146, 131),
        ("wnli", "validation"): (40, 31),
    }
)


def is_a_constant_answers_score(task: str, split: str, value: float) -> bool:
    """Whether `value`, a primary score of the whole dev set, is one of `_constant_scores`.

    A regression has no classes, and whatever always answers one number has no correlation.
    """
    return any(math.isclose(value, each, abs_tol=1e-9) for each in _constant_scores(task, split))


@functools.cache
def _constant_scores(task: str, split: str) -> tuple[float, ...]:
    """The primary scores of answering every example with one class, by class."""
    facts, counts = task_named(task), CLASSES.get((task, split), ())
    labels = np.repeat(np.arange(len(counts)), counts)
    answers = (np.full_like(labels, each) for each in range(len(counts)))
    return tuple(primary(facts, score(facts, each, labels)) for each in answers)
