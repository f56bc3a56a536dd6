"""What a model can read in, a few made-up inputs that reach all of it out.

A dev set shows what its texts reach: positions up to its longest, often one token type, some
words. Faults elsewhere change none of its logits. Probes are as long as the position table allows;
every position meets every token type, and their words are spread over the whole vocabulary. What
they mean is nobody's business: a probe is judged by whether PyTorch replays it.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nxmi_export.encoding import EncodedDataset, TokenRows
from nxmi_export.glue import Dataset, Task

__all__ = ["SPLIT", "Reach", "Sizes", "SpecialTokens", "probe_inputs", "reach_of"]

SPLIT = "probes"  # in place of a split's name
_SEED = 0  # the same probes in every process and every run


@dataclass(frozen=True)
class Sizes:
    """What a model can read."""

    positions: int  # tokens
    vocabulary: int  # ids
    token_types: int  # 0: it has no such input


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of a tokenizer; the first and the last of an input are taken from the vocabulary if None.

    Those that stand for padding are no part of an input: RoBERTa counts no position for them.
    """

    opening: int | None
    closing: int | None
    padding: Collection[int]


@dataclass(frozen=True)
class Reach:
    """How much of a model some inputs use."""

    examples: int
    tokens: int  # of the longest
    words: int  # different ids
    token_types: tuple[int, ...]  # those that occur; empty where the model has no such input

    def __str__(self) -> str:
        types = ", ".join(map(str, self.token_types))
        plural = "s" if len(self.token_types) > 1 else ""
        told = f" and token type{plural} {types}" if types else ""
        comma = "," if told else " and"
        return f"{self.tokens} tokens{comma} {self.words} different ids{told}"


def probe_inputs(
    task: Task, names: Sequence[str], sizes: Sizes, special: SpecialTokens, *, longest: int
) -> EncodedDataset:
    """Five inputs, two of them of all positions, or of `longest` tokens where that is less.

    The others are a half and a quarter of that, and an empty text. `names` are the model's inputs;
    labels are 0, and mean nothing. Raises ValueError for a vocabulary of padding alone.
    """
    tokens = max(2, min(longest, sizes.positions))
    lengths = (tokens, tokens, max(2, tokens // 2), max(2, tokens // 4), 2)
    words = np.setdiff1d(np.arange(sizes.vocabulary), np.array([*special.padding], np.int64))
    if not len(words):
        raise ValueError(f"no words among {sizes.vocabulary} ids that are all padding")
    rows = [
        {
            "input_ids": ids,
            "attention_mask": np.ones(len(ids), np.int64),
            "token_type_ids": _types(number, len(ids), max(1, sizes.token_types)),
        }
        for number, ids in enumerate(_ids(lengths, words, special))
    ]
    padding = dict.fromkeys(names, 0)
    padding["input_ids"] = min(special.padding, default=0)
    return EncodedDataset(_dataset(task, rows), TokenRows.of(rows, names), padding)


def reach_of(data: EncodedDataset) -> Reach:
    """What the inputs of a dataset use, as they are fed, truncation included."""
    ids = data.rows.ids
    types = np.unique(ids.get("token_type_ids", np.zeros(0, np.int32)))
    return Reach(
        examples=len(data),
        tokens=int(data.lengths.max(initial=0)),
        words=len(np.unique(ids["input_ids"])),
        token_types=tuple(types.tolist()),
    )


def _ids(
    lengths: Sequence[int], words: NDArray[np.int64], special: SpecialTokens
) -> list[NDArray[np.int64]]:
    """Of all probes together: the first and the last word and as many others, in a fixed order."""
    within = [length - 2 for length in lengths]
    places = np.linspace(0, len(words) - 1, sum(within)).round().astype(np.int64)
    drawn = np.random.default_rng(_SEED).permutation(words[places])
    opening = words[0] if special.opening is None else special.opening
    closing = words[-1] if special.closing is None else special.closing
    parts = np.split(drawn, np.cumsum(within)[:-1])
    return [np.array([opening, *part, closing], np.int64) for part in parts]


def _types(number: int, length: int, types: int) -> NDArray[np.int64]:
    """One segment after the other in the first probe, backwards in the second, else one alone."""
    if number > 1:
        return np.zeros(length, np.int64)
    segments = np.arange(length) * types // length
    return segments if number == 0 else types - 1 - segments


def _dataset(task: Task, rows: Sequence[dict[str, NDArray[np.int64]]]) -> Dataset:
    digest = hashlib.sha256()
    for row in rows:
        for ids in row.values():
            digest.update(ids.tobytes())
    labels = np.zeros(len(rows)) if task.is_regression else np.zeros(len(rows), np.int64)
    told = tuple(f"made up, {len(row['input_ids'])} tokens" for row in rows)
    return Dataset(
        task,
        SPLIT,
        tuple(told for _ in task.text_columns),
        labels,
        np.arange(len(rows)),
        "made up",
        digest.hexdigest(),
    )
