"""A transformers classifier in, a `Runner` that executes it eagerly in PyTorch out."""

from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import nn

from nxmi_export.backends.runner import Feeds, Outputs, check_feeds

__all__ = ["TorchRunner"]


class TorchRunner:
    """Runs `model` where its parameters are, without gradients; its logits come back as float32.

    The constructor puts the model into evaluation mode: dropout would make every later
    comparison meaningless.
    """

    def __init__(
        self, model: nn.Module, input_names: tuple[str, ...], *, name: str = "pytorch"
    ) -> None:
        self._model: nn.Module | None = model.eval()
        self._device = next(model.parameters()).device
        self.input_names = input_names
        self.name = name

    def run(self, feeds: Feeds) -> Outputs:
        """Logits, float32 (batch, labels), of one batch."""
        check_feeds(self, feeds)
        if self._model is None:
            # Like a read from a closed file: the caller's mistake, not a user's.
            raise ValueError(f"{self.name}: run() after the runner was closed")
        batch = {
            name: torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
            for name, array in feeds.items()
        }
        with torch.inference_mode():
            logits: torch.Tensor = self._model(**batch).logits
        return {"logits": logits.float().cpu().numpy()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._model = None
