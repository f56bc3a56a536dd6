"""A dense model and the schemes of its linears in, every weight that a candidate could run out.

A candidate chooses one scheme per linear, and what a linear's weight becomes depends on its own
scheme alone. So each weight is projected and rounded once, however many candidates share it.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.reconstruction.grid import Grid
from nxmi_export.compression.reconstruction.objective import OutputError
from nxmi_export.compression.reconstruction.observe import (
    calibration_feeds,
    in_full_precision,
    objectives,
)
from nxmi_export.compression.reconstruction.one_linear import (
    GRID_BITS,
    is_reconstructed,
    solve_linear,
)
from nxmi_export.compression.sparsity import pattern_mask
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UnsupportedWeight, UsageError
from nxmi_export.recipe import Recipe, Scheme, WeightSettings

__all__ = ["DENSE", "OnLinear", "Projection", "Variant", "Variants", "variants"]

Projection = Literal["magnitude", "reconstruction"]
OnLinear = Callable[[str, int, int], None]  # a linear that is done, its number from 1, of how many

DENSE = Scheme()


@dataclass(frozen=True, eq=False)
class Variant:
    """One linear under one scheme.

    `error` is that of the output on calibration data, squared and over the squared output; where
    the projection looks at no data, that of the weight, squared and over the squared weight.
    """

    weight: Tensor  # (out, in), on its pattern and rounded: the values that run
    scale: Tensor | None  # (out,), the steps of its quantizer; None without bits
    error: float

    def to(self, device: torch.device) -> Self:
        """The same there."""
        scale = None if self.scale is None else self.scale.to(device)
        return replace(self, weight=self.weight.to(device), scale=scale)


class Variants:
    """The weights of every (linear, scheme); `dense` weights are the model's own, not copies."""

    def __init__(
        self, dense: Mapping[str, Tensor], prepared: Mapping[tuple[str, Scheme], Variant]
    ) -> None:
        self._of = {(name, DENSE): Variant(weight, None, 0.0) for name, weight in dense.items()}
        self._of |= prepared
        self._prepared = prepared
        self.linears = tuple(dense)

    def schemes(self, linear: str) -> tuple[Scheme, ...]:
        """What `linear` was prepared for, beside the dense scheme."""
        return tuple(scheme for name, scheme in self._prepared if name == linear)

    def of(self, linear: str) -> dict[Scheme, Variant]:
        """All that `linear` was prepared for, beside the dense scheme."""
        return {scheme: self._variant(linear, scheme) for scheme in self.schemes(linear)}

    def weight(self, linear: str, scheme: Scheme) -> Tensor:
        """The weight that runs, (out, in); shared, so not to be written to."""
        return self._variant(linear, scheme).weight

    def scale(self, linear: str, scheme: Scheme) -> Tensor | None:
        """The steps of its quantizer, (out,), or None for a scheme without bits."""
        return self._variant(linear, scheme).scale

    def error(self, linear: str, scheme: Scheme) -> float:
        """The relative squared error, as `Variant` defines it; 0 for dense."""
        return self._variant(linear, scheme).error

    @property
    def nbytes(self) -> int:
        """The memory of everything that was prepared; the dense weights are the model's."""
        return sum(
            tensor.nbytes
            for variant in self._prepared.values()
            for tensor in (variant.weight, variant.scale)
            if tensor is not None
        )

    def _variant(self, linear: str, scheme: Scheme) -> Variant:
        found = self._of.get((linear, scheme))
        if found is not None:
            return found
        if linear not in self.linears:
            raise UsageError(
                linear,
                expected="a linear of the search space",
                found="none of its names",
                remedy=f"names look like {self.linears[0]!r}",
            )
        raise UsageError(
            linear,
            expected=f"one of {', '.join(map(str, (DENSE, *self.schemes(linear))))}",
            found=str(scheme),
            remedy="add the scheme to the search space",
        )


@torch.no_grad()
def variants(
    model: PreTrainedModel,
    schemes: Mapping[str, tuple[Scheme, ...]],
    base: Recipe,
    data: EncodedDataset,
    projection: Projection,
    *,
    only: Collection[str] | None = None,
    on_linear: OnLinear = lambda name, number, total: None,
) -> Variants:
    """Prepare each linear of the dense `model` for each of its `schemes`; the model stays as it is.

    `magnitude` prunes by magnitude and rounds to nearest under the settings `base.weights`.
    `reconstruction` keeps the output of the linear on `data` instead, as `solve_linear` does; its
    inputs are those of the dense model, and each Gram matrix is measured once for all schemes.
    INT8 without a pattern is rounded to nearest by both. `only` these linears, where others are
    prepared elsewhere; None: all. What becomes of a linear does not depend on it.

    Raises UnsupportedWeight where a pattern does not divide a width, InvalidDataset without data
    and CheckpointError where the inputs of a linear are not finite.
    """
    linears = {name: _linear(model, name) for name in schemes}
    wanted = linears.keys() if only is None else only
    for name, linear in linears.items():
        for scheme in schemes[name]:
            _check_width(name, linear, scheme)
    prepared: dict[tuple[str, Scheme], Variant] = {}
    with closing(_measured(model, linears, base, data, projection)) as measured:
        # The others are measured all the same: each block is replayed to the one behind it.
        own = ((name, each) for name, each in measured if name in wanted)
        for number, (name, objective) in enumerate(own, start=1):
            linear = linears[name]
            of_linear = _variants_of(linear, schemes[name], base.weights, objective)
            prepared |= {(name, scheme): variant for scheme, variant in of_linear.items()}
            on_linear(name, number, len(wanted))
    ordered = {
        (name, each): prepared[name, each]
        for name in schemes
        if name in wanted
        for each in schemes[name]
        if each != DENSE
    }
    return Variants({name: m.weight.detach() for name, m in linears.items()}, ordered)


def _measured(
    model: PreTrainedModel,
    linears: Mapping[str, nn.Linear],
    base: Recipe,
    data: EncodedDataset,
    projection: Projection,
) -> Generator[tuple[str, OutputError | None]]:
    """Each linear, with what an error of its weight costs where the projection asks for it."""
    if projection == "magnitude":
        yield from ((name, None) for name in linears)
        return
    feeds = calibration_feeds(
        model,
        data,
        batches=base.activations.calibration_batches,
    )
    with in_full_precision(model), closing(objectives(model, linears, feeds)) as stages:
        for stage, objective in stages:
            yield from ((name, objective) for name in stage.linears)


def _variants_of(
    linear: nn.Linear,
    schemes: tuple[Scheme, ...],
    settings: WeightSettings,
    objective: OutputError | None,
) -> dict[Scheme, Variant]:
    found: dict[Scheme, Variant] = {}
    solved: dict[Scheme, tuple[Tensor, Grid | None]] = {}
    for scheme in schemes:
        if scheme == DENSE:
            continue
        compressed = CompressedLinear(linear, scheme, settings).eval()  # shares the weight
        # INT8 is rounded afterwards, so what is projected is its pattern alone.
        projected = scheme if scheme.bits == GRID_BITS else Scheme(pattern=scheme.pattern)
        if projected not in solved:
            solved[projected] = _projected(compressed, objective)
        weight, scale = _rounded(compressed, *solved[projected])
        found[scheme] = Variant(weight, scale, _error(linear.weight, weight, objective))
    return found


def _projected(
    linear: CompressedLinear, objective: OutputError | None
) -> tuple[Tensor, Grid | None]:
    """The weight on its pattern, and on a grid of its own where reconstruction made it one."""
    if objective is not None and is_reconstructed(linear):
        solution = solve_linear(linear, objective)
        return solution.weight, solution.grid
    pattern, weight = linear.scheme.pattern, linear.weight.detach()
    if pattern is None:
        return weight, None
    # not a product with the mask, in which a negative weight would become -0.0
    return weight.where(pattern_mask(weight, pattern), 0.0), None


def _rounded(
    linear: CompressedLinear, weight: Tensor, grid: Grid | None
) -> tuple[Tensor, Tensor | None]:
    quantizer, own = linear.weight_quantizer, linear.weight
    if quantizer is None:
        return weight.to(own.dtype), None
    quantizer.to(own.device)  # scales are made on the CPU
    if grid is None:
        quantizer.fit(weight)
    else:
        quantizer.hold(grid.scale)
    return quantizer(weight).to(own.dtype), quantizer.scale


def _error(dense: Tensor, weight: Tensor, objective: OutputError | None) -> float:
    if objective is not None:
        return objective.of_weight(dense, weight)
    whole = float(dense.double().square().sum())
    return float((dense - weight).double().square().sum()) / whole if whole > 0 else 0.0


def _linear(model: nn.Module, name: str) -> nn.Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear


def _check_width(name: str, linear: nn.Linear, scheme: Scheme) -> None:
    if scheme.pattern is not None and linear.in_features % scheme.pattern.group:
        raise UnsupportedWeight(
            name,
            expected=f"an input width that is a multiple of {scheme.pattern.group} for {scheme}",
            found=f"width {linear.in_features}",
            remedy="leave the scheme out of the search space of this layer",
        )
