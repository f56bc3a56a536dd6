"""Real texts in batches, as something to time beside shapes: what padding costs, and who pays."""

from collections.abc import Sequence
from dataclasses import dataclass

from nxmi_export.backends import Feeds
from nxmi_export.errors import ShapeError

__all__ = ["Texts"]


@dataclass(frozen=True)
class Texts:
    """The texts of one dataset, tokenized once and cut into batches in one way."""

    source: str  # the task, its split, and how many of it
    batching: str  # in words
    examples: int
    tokens: int  # of all of them, without padding
    batches: tuple[Feeds, ...]  # with every input that any model could read

    @property
    def padded_tokens(self) -> int:
        """What is run, padding included."""
        return sum(batch["input_ids"].size for batch in self.batches)

    def feeds(self, input_names: Sequence[str]) -> list[Feeds]:
        """The batches for a model of these inputs; raises ShapeError for one of another name."""
        for name in input_names:
            if any(name not in batch for batch in self.batches):
                raise ShapeError(
                    f"inputs for {self.source}",
                    expected="those that the artefact's model reads",
                    found=name,
                    remedy="compare models that read the same batches",
                )
        return [{name: batch[name] for name in input_names} for batch in self.batches]

    def __str__(self) -> str:
        return f"{self.source}, {self.batching}"
