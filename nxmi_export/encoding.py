"""Texts in, token ids out: tokenizing a dataset once and cutting it into padded batches."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.errors import CheckpointError, ShapeError
from nxmi_export.glue import Dataset

__all__ = ["Batch", "EncodedDataset", "encode", "load_tokenizer"]

# Any one of these holds a vocabulary; without it transformers makes an empty tokenizer.
_VOCABULARIES = {
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spm.model",
    "spiece.model",
}

Feeds = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Batch:
    """Padded model inputs, each int64 (batch, sequence), and which examples they are."""

    indices: NDArray[np.int64]  # (batch,) into the dataset
    feeds: Feeds


@dataclass(frozen=True)
class EncodedDataset:
    """A tokenized dataset; per example and input name the unpadded ids."""

    dataset: Dataset
    rows: tuple[Mapping[str, NDArray[np.int64]], ...]
    padding: Mapping[str, int]  # the fill value of each input

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per example; read-only, as all callers get the same array."""
        lengths = np.array([len(row["input_ids"]) for row in self.rows], np.int64)
        lengths.flags.writeable = False
        return lengths

    def select(self, indices: NDArray[np.int64]) -> "EncodedDataset":
        """The examples at these positions, in this order."""
        rows = tuple(self.rows[index] for index in indices)
        return replace(self, dataset=self.dataset.select(indices), rows=rows)

    def by_length(self) -> NDArray[np.int64]:
        """Example indices from shortest to longest, so that batches pad little."""
        return np.argsort(self.lengths, kind="stable")

    def batches(
        self, size: int, *, order: NDArray[np.int64] | None = None, pad_to: int | None = None
    ) -> Iterator[Batch]:
        """Batches of `size` in the given order (default: by length).

        Each is padded on the right to its longest example, or to `pad_to` tokens.
        """
        order = self.by_length() if order is None else order
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            yield Batch(indices, self.padded(indices, pad_to))

    def padded(self, indices: Sequence[int] | NDArray[np.int64], pad_to: int | None) -> Feeds:
        """The inputs of the examples `indices`, padded to one length."""
        rows = [self.rows[index] for index in indices]
        longest = max(len(row["input_ids"]) for row in rows)
        if pad_to is not None and pad_to < longest:
            raise ShapeError(
                "padding",
                expected=f"at least the {longest} tokens of the longest example",
                found=f"{pad_to}",
                remedy="pad to a larger length",
            )
        length = pad_to or longest
        return {
            name: np.stack([_pad(row[name], length, fill) for row in rows])
            for name, fill in self.padding.items()
        }


def load_tokenizer(files: Mapping[str, bytes], *, source: object) -> Any:
    """The transformers tokenizer made of these files; raises CheckpointError where none can be."""
    from transformers import AutoTokenizer

    if not files.keys() & _VOCABULARIES:
        raise _no_tokenizer(files, source)
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        try:
            # Without the flag, files that name code of their own make it ask on the terminal.
            return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        except Exception as error:  # its Rust half raises bare Exception for what it cannot parse
            raise _no_tokenizer(files, source) from error


def encode(
    dataset: Dataset, tokenizer: Any, *, input_names: tuple[str, ...], max_length: int
) -> EncodedDataset:
    """Tokenize every example, truncated to `max_length` tokens and not padded.

    Raises ShapeError for a `max_length` that cannot be kept.
    """
    encoding = tokenizer(
        *[list(column) for column in dataset.texts],
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=True,
        return_token_type_ids="token_type_ids" in input_names,
    )
    longest = max(map(len, encoding["input_ids"]), default=0)
    if longest > max_length:
        # where even the special tokens do not fit, tokenizers leave the text as it is
        raise ShapeError(
            "tokenizing",
            expected="a maximum length that has room for text and special tokens",
            found=f"{max_length}",
            remedy="allow more tokens",
        )
    rows = tuple(
        {name: np.asarray(encoding[name][index], np.int64) for name in input_names}
        for index in range(len(dataset))
    )
    padding = dict.fromkeys(input_names, 0)
    padding["input_ids"] = int(tokenizer.pad_token_id or 0)
    return EncodedDataset(dataset, rows, padding)


def _no_tokenizer(files: Mapping[str, bytes], source: object) -> CheckpointError:
    return CheckpointError(
        source,
        expected="a whole tokenizer beside the weights",
        found=", ".join(sorted(files)) or "no tokenizer files",
        remedy="save it with tokenizer.save_pretrained next to the model",
    )


def _pad(ids: NDArray[np.int64], length: int, fill: int) -> NDArray[np.int64]:
    return np.pad(ids, (0, length - len(ids)), constant_values=fill)
