"""A model with schemes and calibration data in, reconstructed weights out; nothing is trained."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.reconstruction.observe import (
    calibration_feeds,
    in_full_precision,
    objectives,
)
from nxmi_export.compression.reconstruction.one_linear import (
    Solution,
    is_reconstructed,
    solve_linear,
)
from nxmi_export.encoding import EncodedDataset

__all__ = ["LinearReconstructed", "reconstructed_weights"]


@dataclass(frozen=True)
class LinearReconstructed:
    """One linear is done. Errors are squared output errors over the squared output.

    Both are measured on the calibration data as they reach the layer through the compressed layers
    before it; `magnitude_error` is that of magnitude projection and rounding to nearest.
    """

    name: str
    number: int  # from 1
    total: int
    error: float
    magnitude_error: float


@torch.no_grad()
def reconstructed_weights(
    model: PreTrainedModel,
    data: EncodedDataset,
    *,
    batches: int,
    batch_size: int = 32,
    on_linear: Callable[[LinearReconstructed], None] = lambda done: None,
) -> dict[str, Tensor]:
    """The weights of every linear that has a pattern or INT4, by module name.

    Each has its pattern exactly and, for INT4, lies on the grid of scales that its quantizer then
    holds. Linears are treated in order of execution, on inputs that come through those already
    treated, in full precision. `batches` batches are spread over the lengths of `data`.

    The model is left as it was, weights bit for bit, but for the held scales. In memory at a time:
    the Gram matrix of one value, and the outputs of one block. Raises InvalidDataset without data,
    and CheckpointError where the inputs of a layer are not finite.
    """
    linears = {n: m for n, m in compressed_linears(model).items() if is_reconstructed(m)}
    if not linears:
        return {}
    feeds = calibration_feeds(model, data, batches=batches, batch_size=batch_size)
    solutions: dict[str, Solution] = {}
    with (
        in_full_precision(model),
        _restored(linears.values()),
        closing(objectives(model, linears, feeds)) as stages,
    ):
        for stage, objective in stages:
            for name in stage.linears:
                found = solutions[name] = solve_linear(linears[name], objective)
                _put(linears[name], found.weight)
                place = len(solutions), len(linears)
                on_linear(LinearReconstructed(name, *place, found.error, found.magnitude_error))
    for name, solution in solutions.items():
        quantizer = linears[name].weight_quantizer
        if solution.grid is not None and quantizer is not None:
            quantizer.hold(solution.grid.scale)
    return {name: solutions[name].weight.to(linears[name].weight.dtype) for name in linears}


def _put(linear: CompressedLinear, weight: Tensor) -> None:
    """Point the parameter at other values; those it had are not written to."""
    linear.weight.data = weight.to(linear.weight.dtype)
    torch.clear_autocast_cache()  # its low-precision copies are kept by parameter, not by content


@contextmanager
def _restored(linears: Iterable[CompressedLinear]) -> Iterator[None]:
    """Give every linear its own weight back in the end."""
    originals = [(linear, linear.weight.data) for linear in linears]
    try:
        yield
    finally:
        for linear, weight in originals:
            _put(linear, weight)
