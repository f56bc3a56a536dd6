"""The processes of one run: accelerate's view of them, for one process or many."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    broadcast,
    gather_object,
)
from torch import Tensor, nn

from nxmi_export.compression.training.options import Precision
from nxmi_export.errors import InternalError, NxmiError, UsageError

__all__ = [
    "check_precision",
    "failing_together",
    "join_processes",
    "share",
    "share_weights",
    "told_by_all",
]

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
    _check_launch(accelerator)
    return accelerator


def check_precision(precision: Precision) -> None:
    """Raise UsageError where a launcher was told of another mixed precision than the run's own.

    A launcher that was told of none says "no", which contradicts nothing.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked not in ("no", precision):
        own = f", or pass --precision {asked}" if asked in get_args(Precision) else ""
        raise UsageError(
            "distributed launch",
            expected=f"{precision}, the precision of this run",
            found=f"{asked} in the settings of accelerate launch",
            remedy=f"launch with --mixed_precision no{own}",
        )


def _check_launch(accelerator: Accelerator) -> None:
    if accelerator.distributed_type in _SHARDED:
        raise UsageError(
            "distributed launch",
            expected="whole weights in every process",
            found=f"a launch with {accelerator.distributed_type.value}",
            remedy="launch with torchrun, or with accelerate's multi-GPU or multi-CPU mode",
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        # Each would train alone and overwrite the files of the others.
        raise UsageError(
            "distributed launch",
            expected=f"the {launched} processes of the launch",
            found=f"{accelerator.num_processes} known to accelerate",
            remedy="join them with join_processes before any other use of accelerate",
        )
    # Asked for several, accelerate launch names a place to meet, and then starts them only under
    # --multi_gpu, which numbers them as torchrun does, or through MPI, which counts above.
    asked_for_several = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    if asked_for_several and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            "distributed launch",
            expected="the several processes that accelerate launch was asked for",
            found="this one alone",
            remedy="launch with torchrun or with accelerate launch --multi_gpu, which both take "
            "CPUs where there is no GPU; for one process, run it without a launcher",
        )


def share_weights(model: nn.Module, accelerator: Accelerator) -> None:
    """Move `model` to this process's device, with the weights that the main process has.

    With its buffers, too, those of quantizers that no state dict has included.
    """
    model.to(accelerator.device)
    share([*model.parameters(), *model.buffers()], accelerator)


def share(state: object, accelerator: Accelerator) -> None:
    """Overwrite the tensors in `state`, mappings and lists of any depth, with the main process's.

    For what every process computes from equal numbers: other hardware rounds differently, and
    processes that have once parted never meet again.
    """
    if accelerator.num_processes > 1:
        broadcast(list(_tensors(state)))  # in place


def _tensors(state: object) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state.detach()
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(value)


def told_by_all(accelerator: Accelerator, value: object) -> list[Any]:
    """`value` of every process, by rank; plain data only.

    Raises InternalError where one of them is gone.
    """
    if accelerator.num_processes == 1:
        return [value]
    try:
        values: list[Any] = gather_object([value])
    except RuntimeError as error:  # of the connection, which ends with the process at its other end
        raise InternalError(
            "distributed launch",
            expected=f"{accelerator.num_processes} processes until the end",
            found=f"that one is gone ({str(error).splitlines()[0]})",
            remedy="look for what ended it, such as a lack of memory, and launch again",
        ) from error
    return values


@contextmanager
def failing_together(accelerator: Accelerator) -> Iterator[None]:
    """Let what the block raises in one process be raised at its end in all.

    Else the others would wait for it. Of several errors the first process's counts; the process
    whose error nobody planned raises it as it is, with its trace. The block itself must not wait
    for other processes.
    """
    own: NxmiError | None = None
    try:
        yield
    except NxmiError as error:
        own = error
    except Exception as error:
        told_by_all(accelerator, _told(error, accelerator))
        raise
    if own is not None and accelerator.num_processes == 1:
        raise own
    told = told_by_all(accelerator, None if own is None else _told(own, accelerator))
    for kind, subject, parts in filter(None, told):
        raise kind(subject, **parts) from own


def _told(error: Exception, accelerator: Accelerator) -> tuple[type[NxmiError], str, Any]:
    """An error as data: exceptions whose arguments have names cannot travel themselves."""
    if isinstance(error, NxmiError):
        parts = {name: getattr(error, name) for name in ("expected", "found", "remedy")}
        return type(error), error.subject, parts
    parts = {
        "expected": "its share of the work",
        "found": f"{type(error).__name__}: {error}",
        "remedy": "please report it with the trace that it printed",
    }
    return InternalError, f"process {accelerator.process_index}", parts
