"""How a training run is carried out, apart from what its recipe says: `RunOptions`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

__all__ = ["Precision", "RunOptions"]

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class RunOptions:
    """Options of one run; on one machine's CPU, equal options give bit-equal weights.

    Those of a `compiled` run may differ by roundings, and its dropout masks are others than those
    of a run that is not. On a GPU none of this has been run, and equal bits are not promised.

    `seed` decides the order of the data and the dropout masks. In `bf16` and `fp16` the products
    run under autocast while weights, optimizer and penalties stay in float32.
    """

    seed: int = 0
    precision: Precision = "fp32"
    # Forward and backward pass by torch.compile, which needs a C++ compiler (or Triton, for a GPU)
    # and takes minutes. It may choose other code for the shapes that a resumed run begins with.
    compiled: bool = False
    accumulation: int = 1  # micro-batches per optimizer step, in each process
    snapshots: Path | None = None  # the folder of the resume file; None: nothing is kept
    snapshot_seconds: float = 300.0  # between two snapshots; each epoch ends with one besides
    resume: bool = False  # from the snapshot, or from the beginning where there is none
    # The snapshot may be of other learning rates, another clip norm or weight decay.
    adjusted: bool = False

    @property
    def autocast_type(self) -> torch.dtype | None:
        """The type products run in under autocast; None without autocast."""
        return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
