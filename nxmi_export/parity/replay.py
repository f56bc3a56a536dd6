"""A PyTorch model and a visitor of its quantizers in, logits out: looking into a forward pass."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from nxmi_export.backends import Feeds
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.parity.logits import Float32Array

__all__ = ["Values", "Visit", "logits_with_visits"]

Visit: TypeAlias = Callable[[str, ActivationQuantizer, Tensor], Tensor | None]
"""Module name, quantizer and the float value it reads, at each call in order of execution.

What is returned flows on in place of the quantizer's own output; None leaves that alone.
"""


class Values:
    """Counts the values that each quantizer reads in one forward pass.

    The readers of one value call their quantizer with the same tensor; a block that runs repeatedly
    calls it with a new one each time.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, weakref.ref[Tensor]]] = {}

    def index_of(self, module: str, x: Tensor) -> int:
        """The number, from 0, of the value that the quantizer of `module` reads now."""
        index, latest = self._seen.get(module, (-1, None))
        if latest is None or latest() is not x:
            index += 1
            self._seen[module] = (index, weakref.ref(x))
        return index


def logits_with_visits(model: nn.Module, feeds: Feeds, visit: Visit) -> Float32Array:
    """The logits (batch, outputs) of one batch, `visit` having seen every quantizer."""
    device = next(model.parameters()).device
    batch = {
        name: torch.from_numpy(np.ascontiguousarray(ids)).to(device) for name, ids in feeds.items()
    }
    with _visited(model, visit), torch.inference_mode():
        logits: Tensor = model.eval()(**batch).logits
    return logits.float().cpu().numpy()


@contextmanager
def _visited(model: nn.Module, visit: Visit) -> Iterator[None]:
    handles = [
        module.register_forward_hook(partial(_hook, name, visit))
        for name, module in model.named_modules()
        if isinstance(module, ActivationQuantizer)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(
    name: str, visit: Visit, module: nn.Module, arguments: tuple[Any, ...], output: Any
) -> Tensor | None:
    assert isinstance(module, ActivationQuantizer)
    return visit(name, module, arguments[0])
