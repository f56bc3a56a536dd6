"""The quantizers of a whole model: learn, freeze, switch, and remember their scales."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.compression.tables import quantized_tables

__all__ = [
    "freeze_scales",
    "learn_scales",
    "load_quantizer_state",
    "quantizer_state",
    "scale_parameters",
    "set_quantizing",
]


def learn_scales(model: nn.Module) -> None:
    """Turn into parameters the steps that the settings want learned; fixed ones stay."""
    for _, quantizer in _quantizers(model):
        if quantizer.learnable:
            quantizer.learn()


def scale_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The logarithms of the learned steps, in the order of the modules."""
    return [q.log_step for _, q in _quantizers(model) if q.log_step is not None]


def freeze_scales(model: nn.Module) -> None:
    """End all learning: learned steps become scales, other weight scales fit the final weights.

    The state dict then has the same keys as before `learn_scales`, and no training forward moves
    a scale again.
    """
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None and linear.weight_quantizer.log_step is None:
            linear.weight_quantizer.refit(linear.weight)
    for table in quantized_tables(model).values():
        table.weight_quantizer.refit(table.weight)
    for _, quantizer in _quantizers(model):
        quantizer.freeze()


def set_quantizing(model: nn.Module, enabled: bool) -> None:
    """Let every quantizer round, or let values pass unchanged."""
    for _, quantizer in _quantizers(model):
        quantizer.enabled = enabled


def quantizer_state(model: nn.Module) -> dict[str, Tensor]:
    """What the quantizers know beyond the state dict, so that training can go on elsewhere."""
    state = {}
    for name, quantizer in _quantizers(model):
        state[f"{name}.enabled"] = torch.tensor(quantizer.enabled)
        if isinstance(quantizer, WeightQuantizer):
            state[f"{name}.held"] = torch.tensor(quantizer.held)
            state[f"{name}.ratio"] = quantizer.ratio.clone()
    return state


def load_quantizer_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `quantizer_state` returned, for a model of the same recipe."""
    for name, quantizer in _quantizers(model):
        quantizer.enabled = bool(state[f"{name}.enabled"])
        if isinstance(quantizer, WeightQuantizer):
            quantizer.held = bool(state[f"{name}.held"])
            quantizer.ratio.copy_(state[f"{name}.ratio"])


def _quantizers(model: nn.Module) -> Iterator[tuple[str, ActivationQuantizer | WeightQuantizer]]:
    for name, module in model.named_modules():  # a shared one comes once
        if isinstance(module, ActivationQuantizer | WeightQuantizer):
            yield name, module
