"""`CompressedCheckpoint`: everything needed to rebuild one task model, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nxmi_export.recipe import Recipe

__all__ = ["TOKENIZER_FILES", "CompressedCheckpoint", "read_tokenizer_files"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spm.model",
    "spiece.model",
)


@dataclass(frozen=True)
class CompressedCheckpoint:
    """A task model as data: architecture, weights, recipe and tokenizer.

    `recipe` is None for a model that was never compressed. `state` holds the float weights (after
    projection) and the scales of every quantizer; `tokenizer` holds file contents by file name.
    """

    architecture: str  # a transformers class name, e.g. "BertForSequenceClassification"
    config: Mapping[str, Any]  # transformers' configuration, as `config.to_dict()` gives it
    state: Mapping[str, Tensor]
    tokenizer: Mapping[str, bytes]
    recipe: Recipe | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)  # task, seed, metrics, versions


def read_tokenizer_files(directory: Path) -> dict[str, bytes]:
    """The tokenizer files that `directory` holds, by name; empty where it holds none."""
    paths = (directory / name for name in TOKENIZER_FILES)
    return {path.name: path.read_bytes() for path in paths if path.is_file()}
