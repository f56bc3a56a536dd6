"""The model that `--dense` names in, that of its rung out; refused where it reads other tokens."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint, read_checkpoint
from nxmi_export.compression.restore import restore
from nxmi_export.encoding import CachedEncoder, EncodedDataset, check_ids, load_tokenizer
from nxmi_export.errors import UsageError
from nxmi_export.model_facts import ModelFacts, model_facts

__all__ = ["DenseSource"]


@dataclass(frozen=True)
class DenseSource:
    """A dense checkpoint beside a compressed one, which both are to run the same tokens."""

    path: str
    checkpoint: CompressedCheckpoint
    facts: ModelFacts

    @classmethod
    def read(cls, path: str) -> Self:
        """As `read_checkpoint` reads it."""
        checkpoint = read_checkpoint(path)
        return cls(path, checkpoint, model_facts(checkpoint.config))

    def model(self) -> PreTrainedModel:
        """In eval mode."""
        return restore(self.checkpoint)

    def check(self, split: EncodedDataset, encoder: CachedEncoder) -> None:
        """Refuse a model whose own tokenizer would give other ids than `encoder` gave, or too many.

        A score on the ids of another vocabulary says nothing of what compression costs. Raises
        UsageError, and CheckpointError for an id that a table has no row for.
        """
        check_ids(split, self.checkpoint.config, source=self.path)
        longest = int(split.lengths.max(initial=0))
        if longest > self.facts.position_limit:
            raise UsageError(
                self.path,
                expected=f"a dense model for the {longest} tokens of {split.dataset.task.name}",
                found=f"one for {self.facts.position_limit}",
                remedy="lower --max-length, or leave --dense out",
            )
        files = self.checkpoint.tokenizer
        if not files or files == encoder.files:
            return
        tokenizer = load_tokenizer(files, source=self.path, model_type=self.facts.model_type)
        own = replace(encoder, tokenizer=tokenizer, files=files).encode(split.dataset)
        place = _first_other(own, split)
        if place is not None:
            dataset = split.dataset
            raise UsageError(
                self.path,
                expected="the dense model that was compressed, whose tokenizer gives the same ids",
                found=f"others for example {dataset.ids[place]} of {dataset.task.name}",
                remedy="name the model that was compressed, or leave --dense out",
            )


def _first_other(own: EncodedDataset, split: EncodedDataset) -> int | None:
    for place, (mine, theirs) in enumerate(zip(own.rows, split.rows, strict=True)):
        if not all(np.array_equal(mine[name], ids) for name, ids in theirs.items()):
            return place
    return None
