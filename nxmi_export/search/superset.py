"""A dense model and the variants of its weights in, one model that can be every candidate out.

To build a candidate means to copy the dense model, insert quantizers, project and calibrate. Here
the model is built once, with every quantizer that any candidate has, and a candidate is a choice:
each weight points at a variant, and each quantizer acts or lets values pass.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate_activations
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.restore import check_scales
from nxmi_export.compression.tables import fit_tables
from nxmi_export.encoding import EncodedDataset
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.variants import DENSE, Variants

__all__ = ["Superset", "naive_model"]

_INT8 = Scheme.parse("int8")  # stands for any scheme that quantizes activations


class Superset:
    """The dense model, and within it all candidates of the schemes in `variants`.

    Activation scales are calibrated once, on what flows through the dense weights. In between,
    `use` changes `model` in place and costs next to nothing.
    """

    def __init__(
        self, model: PreTrainedModel, base: Recipe, variants: Variants, data: EncodedDataset
    ) -> None:
        """Copy `model` and calibrate on `data`; placement and settings are those of `base`.

        Raises InvalidScale where a value of the network is not finite.
        """
        self.variants = variants
        self._skeleton, self._base = _without_storage(model), base
        self.model = copy.deepcopy(model)
        insert_quantizers(self.model, _recipe(base, dict.fromkeys(variants.linears, _INT8)))
        for linear in compressed_linears(self.model).values():
            linear.weight_quantizer = None  # variants are rounded already
        fit_tables(self.model)
        nn.Module.to(self.model, self.model.device)  # scales are made on the CPU
        calibrate_activations(self.model, data)
        check_scales(self.model)
        self._slots = _slots(self.model)
        self._acting = frozenset(self._slots)
        self._needed: dict[frozenset[str], frozenset[str]] = {}  # slots by quantized linears
        self._off = ActivationQuantizer()
        self._off.enabled = False
        self._weights = {
            name: self.model.get_parameter(f"{name}.weight") for name in variants.linears
        }
        self.use({})

    @property
    def activation_scales(self) -> Mapping[str, Tensor]:
        """The scale of every activation quantizer by its place, the full name of an attribute."""
        return {name: quantizer.scale for name, quantizer in self._slots.items()}

    def use(self, schemes: Mapping[str, Scheme]) -> None:
        """Let `model` be the candidate with these schemes by linear; those left out are dense.

        Its outputs are then, bit for bit, those of `naive_model` with the same schemes. Raises
        UsageError for a linear or a scheme that was not prepared.
        """
        unknown = schemes.keys() - self._weights.keys()
        names = (*self._weights, *sorted(unknown))
        chosen = {name: self.variants.weight(name, schemes.get(name, DENSE)) for name in names}
        for name, parameter in self._weights.items():
            parameter.data = chosen[name]
        torch.clear_autocast_cache()  # its low-precision copies are kept by parameter
        self._act(self._slots_of(frozenset(n for n, scheme in schemes.items() if scheme.bits)))

    def _act(self, acting: frozenset[str]) -> None:
        for name in acting ^ self._acting:
            holder, _, attribute = name.rpartition(".")
            quantizer = self._slots[name] if name in acting else self._off
            setattr(self.model.get_submodule(holder), attribute, quantizer)
        self._acting = acting

    def _slots_of(self, quantized: frozenset[str]) -> frozenset[str]:
        """Where `insert_quantizers` puts quantizers of activations when these linears have bits."""
        if quantized not in self._needed:
            model = copy.deepcopy(self._skeleton)
            insert_quantizers(model, _recipe(self._base, dict.fromkeys(quantized, _INT8)))
            self._needed[quantized] = frozenset(_slots(model))
        return self._needed[quantized]


@torch.no_grad()
def naive_model(
    dense: PreTrainedModel,
    recipe: Recipe,
    variants: Variants,
    activation_scales: Mapping[str, Tensor],
) -> PreTrainedModel:
    """The candidate that `recipe` describes, as a model of its own, in eval mode.

    It is what `compress` starts from: quantizers of weights and activations in place, under the
    scales of `variants` and those by place in `activation_scales`.
    """
    model = copy.deepcopy(dense)
    insert_quantizers(model, recipe)
    for name, linear in compressed_linears(model).items():
        linear.weight.data = variants.weight(name, linear.scheme)
        scale = variants.scale(name, linear.scheme)
        if linear.weight_quantizer is not None and scale is not None:
            linear.weight_quantizer.hold(scale)
    fit_tables(model)
    for name, quantizer in _slots(model).items():
        quantizer.scale.copy_(activation_scales[name])
    nn.Module.to(model, model.device)
    model.eval()
    return model


def _slots(model: nn.Module) -> dict[str, ActivationQuantizer]:
    """Every activation quantizer by every attribute that holds it; a shared one has several."""
    return {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, ActivationQuantizer)
    }


def _recipe(base: Recipe, schemes: Mapping[str, Scheme]) -> Recipe:
    """`base` with these schemes by linear and all others dense."""
    return base.model_copy(update={"default": DENSE, "schemes": {}, "overrides": dict(schemes)})


def _without_storage(model: PreTrainedModel) -> PreTrainedModel:
    """A copy whose parameters have shapes and no values."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.to("meta")) for p in model.parameters()}
    return copy.deepcopy(model, memo)
