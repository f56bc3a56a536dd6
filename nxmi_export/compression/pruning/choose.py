"""The method of pruning that a recipe names."""

from collections.abc import Mapping

from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.pruning.admm import Admm, ProximalAdmm
from nxmi_export.compression.pruning.fixed_masks import FixedMasks
from nxmi_export.compression.pruning.sparsifier import Sparsifier
from nxmi_export.compression.pruning.sr_ste import SrSte
from nxmi_export.errors import InternalError
from nxmi_export.recipe import SparsitySettings

__all__ = ["sparsifier"]


def sparsifier(
    linears: Mapping[str, CompressedLinear],
    settings: SparsitySettings,
    initial: Mapping[str, Tensor] | None = None,
    *,
    steps_per_update: int = 1,
) -> Sparsifier:
    """A sparsifier for those of `linears` that have a pattern; call its `start` before training.

    `initial` maps their names to sparse weights to begin from: the first Z of ADMM, or what
    `magnitude` puts in the place of the dense weights, mask and values. Without any, and for
    linears without a pattern, nothing is pruned and every call is without effect.
    `steps_per_update` optimizer steps lie between two calls of `update`.

    Raises InternalError for SR-STE with `initial`, since its masks always are those of the weights,
    and where `initial` lacks a linear.
    """
    patterned = {
        name: linear for name, linear in linears.items() if linear.scheme.pattern is not None
    }
    _check_initial(patterned, settings, initial)
    if not patterned or settings.method == "magnitude":
        return FixedMasks(patterned, initial)
    if settings.method == "sr-ste":
        return SrSte(patterned, settings.decay)
    if settings.penalty == "gradient":
        return Admm(patterned, settings.rho, settings.rho_final, initial)
    return ProximalAdmm(patterned, settings.pull, settings.pull_final, steps_per_update, initial)


def _check_initial(
    patterned: Mapping[str, CompressedLinear],
    settings: SparsitySettings,
    initial: Mapping[str, Tensor] | None,
) -> None:
    if initial is None:
        return
    if settings.method == "sr-ste":
        raise InternalError(
            "initial weights of sr-ste",
            expected="none, as its masks follow the weights",
            found=f"those of {len(initial)} linears",
            remedy="please report it with the recipe",
        )
    for name, linear in patterned.items():
        found = initial.get(name)
        if found is None or found.shape != linear.weight.shape:
            raise InternalError(
                f"initial weights of {name}",
                expected=f"shape {tuple(linear.weight.shape)}",
                found="none" if found is None else f"shape {tuple(found.shape)}",
                remedy="please report it with the recipe",
            )
