"""Encoder blocks that are done answer from memory, so that a pass runs only what has changed."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from torch import nn

__all__ = ["BlockReplay"]


class BlockReplay:
    """Runs of a chain of blocks over the same batches, again and again, ever further down.

    Without it the cost of layer-wise work grows with the square of the depth. It holds the outputs
    of one block for all batches, whatever they are made of: the blocks before give those as their
    own, and only the next block in the chain reads them.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self._blocks = blocks
        self._outputs: dict[int, Any] = {}  # of block `_stored`, by batch
        self._stored = -1
        self._wanted = -1
        self._batch = 0

    def begin_pass(self, block: int) -> None:
        """From now on the blocks before number `block` have their final weights."""
        self._stored = self._wanted
        self._wanted = block - 1

    def begin_batch(self, batch: int) -> None:
        """The next forward pass is that of batch number `batch`."""
        self._batch = batch

    def __enter__(self) -> Self:
        for index, block in enumerate(self._blocks):
            # on the instance, so that it shadows the class and vanishes when deleted
            block.forward = self._answering(index, block.forward)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for block in self._blocks:
            del block.forward
        self._outputs.clear()

    def _answering(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*args: Any, **kwargs: Any) -> Any:
            if index <= self._stored:
                return self._outputs[self._batch]
            output = forward(*args, **kwargs)
            if index == self._wanted:
                self._outputs[self._batch] = output
            return output

        return answer
