"""The processes of one run: accelerate's view of them, for one process or many."""

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    broadcast,
    gather_object,
)
from torch import nn

from nxmi_export.errors import UsageError

__all__ = ["join_processes", "share_weights", "told_by_all"]

# The others wait for the main process while it evaluates.
PATIENCE = timedelta(hours=2)
_SHARDED = {DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM}


def join_processes(**options: Any) -> Accelerator:
    """The accelerator of this process under `torchrun` or `accelerate launch`, or alone.

    `options` are more arguments of `Accelerator`, such as its trackers. Raises UsageError where a
    launch shards the weights, and where accelerate does not see the other processes of a launch.
    """
    accelerator = Accelerator(
        # Without it, accelerate takes processes that share no GPU for as many single ones.
        cpu=not torch.accelerator.is_available(),
        # Autocast is the training loop's own, so that measurements between steps are not under it.
        mixed_precision="no",
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            # Scales follow from weights, which are equal everywhere.
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
        ],
        **options,
    )
    if accelerator.distributed_type in _SHARDED:
        raise UsageError(
            "training",
            expected="whole weights in every process",
            found=f"a launch with {accelerator.distributed_type.value}",
            remedy="launch with torchrun, or with accelerate's multi-GPU or multi-CPU mode",
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        # Each would train alone and overwrite the files of the others.
        raise UsageError(
            "training",
            expected=f"the {launched} processes of the launch",
            found=f"{accelerator.num_processes} known to accelerate",
            remedy="join them with join_processes before any other use of accelerate",
        )
    return accelerator


def share_weights(model: nn.Module, accelerator: Accelerator) -> None:
    """Move `model` to this process's device, with the weights that the main process has."""
    model.to(accelerator.device)
    if accelerator.num_processes > 1:
        broadcast(dict(model.state_dict()))  # in place


def told_by_all(accelerator: Accelerator, value: object) -> list[Any]:
    """`value` of every process, by rank; plain data only."""
    if accelerator.num_processes == 1:
        return [value]
    values: list[Any] = gather_object([value])
    return values
