"""The method of pruning that a recipe names."""

from collections.abc import Mapping

from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.pruning.admm import Admm
from nxmi_export.compression.pruning.fixed_masks import FixedMasks
from nxmi_export.compression.pruning.sparsifier import Sparsifier
from nxmi_export.compression.pruning.sr_ste import SrSte
from nxmi_export.errors import InternalError, RecipeError
from nxmi_export.recipe import SparsitySettings

__all__ = ["sparsifier"]


def sparsifier(
    linears: Mapping[str, CompressedLinear],
    settings: SparsitySettings,
    initial: Mapping[str, Tensor] | None = None,
) -> Sparsifier:
    """A sparsifier for those of `linears` that have a pattern; call its `start` before training.

    `initial` maps their names to sparse weights to begin from: the first Z of ADMM, or what
    `magnitude` puts in the place of the dense weights, mask and values. Without any, and for
    linears without a pattern, nothing is pruned and every call is without effect.

    Raises RecipeError for SR-STE, whose masks always are those of the weights, with `initial`, and
    InternalError where `initial` lacks a linear.
    """
    patterned = {
        name: linear for name, linear in linears.items() if linear.scheme.pattern is not None
    }
    _check_initial(patterned, settings, initial)
    if not patterned or settings.method == "magnitude":
        return FixedMasks(patterned, initial)
    if settings.method == "sr-ste":
        return SrSte(patterned, settings.decay)
    return Admm(patterned, settings.rho, settings.rho_final, initial)


def _check_initial(
    patterned: Mapping[str, CompressedLinear],
    settings: SparsitySettings,
    initial: Mapping[str, Tensor] | None,
) -> None:
    if initial is None:
        return
    if settings.method == "sr-ste":
        raise RecipeError(
            "sparsity",
            expected="initial: magnitude with method: sr-ste, whose masks follow the weights",
            found="initial weights of a reconstruction",
            remedy="write initial: magnitude, or another method",
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
