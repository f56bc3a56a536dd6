"""The seam between a model and whatever executes it: token batches in, named arrays out."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nxmi_export.errors import UsageError

__all__ = ["Feeds", "Outputs", "Runner", "check_feeds"]

Feeds: TypeAlias = Mapping[str, NDArray[np.int64]]
"""Input name → (batch, sequence) token ids, mask or segment ids."""

Outputs: TypeAlias = dict[str, NDArray[Any]]
"""Output name → array; always "logits", float32 (batch, labels)."""


class Runner(Protocol):
    """Something that executes one model; `with` holds its memory and gives it back."""

    @property
    def name(self) -> str:
        """How reports call this runner."""
        ...

    @property
    def input_names(self) -> tuple[str, ...]:
        """Exactly the inputs that `run` wants."""
        ...

    def run(self, feeds: Feeds) -> Outputs:
        """The outputs of one batch, by name."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_feeds(runner: Runner, feeds: Feeds) -> None:
    """Refuse a batch that lacks an input of the model or brings one that it does not have.

    An input that a backend silently ignores (segment ids, say) would make two backends disagree
    for a reason that no comparison of their outputs can find.
    """
    if set(feeds) != set(runner.input_names):
        raise UsageError(
            f"{runner.name}: the batch",
            expected=f"the inputs {', '.join(runner.input_names)}",
            found=", ".join(feeds) or "none",
            remedy="feed exactly the names in `input_names`",
        )
