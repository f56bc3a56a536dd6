"""The state of every random generator that training may draw from, as plain data."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["draws_apart", "random_state", "seed_everything", "set_random_state"]


def seed_everything(seed: int, rank: int) -> None:
    """Seed Python, numpy and torch; processes draw different numbers, the first as if alone."""
    own = seed if rank == 0 else int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own % 2**32)  # noqa: NPY002  the global one, which other libraries draw from
    torch.manual_seed(own)


def random_state(device: torch.device) -> dict[str, Any]:
    """The generators' states in types that torch's safe loader reads."""
    numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    name, keys, *rest = numpy
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Continue the sequences where `random_state` was taken."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def draws_apart(device: torch.device) -> Iterator[None]:
    """Whatever the block draws, training continues as if it had drawn nothing."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
