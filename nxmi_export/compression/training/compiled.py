"""The training step through torch.compile: `compiled`, and whether it works on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from nxmi_export.errors import CapabilityMissing

__all__ = ["check_compiler", "compiled", "running_compiled"]

# Variants of one function, beyond which it runs as it is: those of SR-STE before and after its
# projection, say, or where the encoder is not compiled in one, those of all its linears. PyTorch's
# own limit is 8.
_VARIANTS = 256


def compiled(module: nn.Module) -> nn.Module:
    """`module` compiled for batches of any shape, when it first runs.

    Most of what quantization adds to a step is element by element: compiled, it is done in the few
    passes over memory that its neighbours need anyway.
    """
    return cast("nn.Module", torch.compile(module, dynamic=True))


@contextmanager
def running_compiled() -> Iterator[None]:
    """For a forward or backward pass of what is `compiled`, which may compile it.

    Raises CapabilityMissing where torch.compile fails on the model.
    """
    try:
        # DDP is around the module here, and its hooks need no cuts in the graph.
        with torch._dynamo.config.patch(optimize_ddp=False, recompile_limit=_VARIANTS):
            yield
    except TorchDynamoException as error:
        raise CapabilityMissing(
            "--compile",
            expected="a training step that torch.compile can compile",
            found=_told(error),
            remedy="begin anew without --compile, with --overwrite, and report what was found",
        ) from error


def check_compiler(device: torch.device) -> None:
    """Compile a trifle for `device`; raises CapabilityMissing where that fails.

    PyTorch brings no compiler of its own.
    """
    x = torch.ones(2, device=device)
    try:
        torch.compile(_doubled, fullgraph=True)(x)
    except RuntimeError as error:  # what torch.compile raises is one, also for a Python too new
        raise CapabilityMissing(
            "--compile",
            expected="what torch.compile needs: for a CPU a C++ compiler, for a GPU Triton",
            found=_told(error),
            remedy="install it (for a CPU: g++ and Python's headers), or train without --compile",
        ) from error


def _doubled(x: Tensor) -> Tensor:
    return x * 2


def _told(error: Exception) -> str:
    """The reason in a line, with the first error of a compiler's output."""
    cause = getattr(error, "inner_exception", error)
    first, *output = f"{type(cause).__name__}: {cause}".splitlines()
    errors = [line.strip() for line in output if "error:" in line.lower()]
    return ": ".join([first.rstrip(":"), *errors[:1]])
