"""Probabilities that differ say what made them differ."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nxmi_export.parity.drift.attention import attention_finding
from nxmi_export.parity.drift.cause import Cause

HEADS, TOKENS, REAL = 2, 7, 5
NOISE = 1e-6
MASK = np.arange(TOKENS) < REAL
SCORES = np.random.default_rng(0).normal(0, 2, (HEADS, TOKENS, TOKENS))

Scores = NDArray[np.float64]


def _softmax(scores: Scores, axis: int = -1) -> NDArray[np.float32]:
    grown = np.exp(scores - scores.max(axis, keepdims=True))
    return np.asarray(grown / grown.sum(axis, keepdims=True), np.float32)


def _masked(scores: Scores) -> Scores:
    return np.where(MASK, scores, -np.inf)


REFERENCE = _softmax(_masked(SCORES))
BEFORE = np.tril(np.ones((TOKENS, TOKENS), bool))

CASES = {
    "no mask": (_softmax(SCORES), Cause.PADDING, "of its attention to padding"),
    "a weak mask": (_softmax(np.where(MASK, SCORES, SCORES - 8)), Cause.PADDING, "to padding"),
    "an inverted mask": (
        _softmax(np.where(MASK, -np.inf, SCORES)),
        Cause.PADDING,
        "a real token gives up to 100 % of its attention to padding",
    ),
    "another axis": (
        np.where(MASK, _softmax(SCORES, axis=-2), 0).astype(np.float32),
        Cause.SOFTMAX,
        "not 1",
    ),
    "another axis, padding hidden among the scores": (
        _softmax(np.where(MASK, SCORES, -1e9), axis=-2),
        Cause.SOFTMAX,
        "not 1",
    ),
    "another scale": (
        _softmax(_masked(1.01 * SCORES)),
        Cause.SOFTMAX,
        "its scores are 1.01 times as large: the softmax scale",
    ),
    "a causal mask": (
        _softmax(np.where(BEFORE, _masked(SCORES), -np.inf)),
        Cause.MASK,
        "of the real keys that PyTorch attends to get nothing, as if masked",
    ),
    "another softmax": (
        _softmax(_masked(np.round(SCORES, 2))),
        Cause.SOFTMAX,
        "the softmax differs, from equal scores",
    ),
    "query and key exchanged": (
        _softmax(_masked(SCORES.transpose(0, 2, 1))),
        Cause.SCORES,
        "the products of query and key are other numbers",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_tell_their_cause(case: str) -> None:
    candidate, cause, told = CASES[case]
    found = attention_finding(REFERENCE, candidate, MASK, NOISE)
    assert found.cause is cause
    assert told in found.reason


def test_uniform_attention_has_no_scale() -> None:
    even = _softmax(_masked(np.zeros_like(SCORES)))
    assert attention_finding(even, REFERENCE, MASK, NOISE).cause is Cause.SCORES
