"""What is trained and how fast: parameter groups, AdamW, and dropout for the time of training."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.sparsity import apply_mask
from nxmi_export.compression.training.timeline import Timeline
from nxmi_export.errors import UsageError
from nxmi_export.recipe import TrainingSettings

__all__ = ["Optimizer", "only_trained", "with_dropout"]


@dataclass
class Optimizer:
    """AdamW over the trained weights, and over quantizer scales once there are any."""

    adamw: torch.optim.AdamW
    weights: list[nn.Parameter]
    scales: list[nn.Parameter]
    settings: TrainingSettings

    @classmethod
    def over(cls, model: PreTrainedModel, settings: TrainingSettings) -> "Optimizer":
        """An optimizer of everything in `model` that requires a gradient.

        Weight decay is for matrices: a bias or a normalization has no size to limit.
        """
        rate = settings.learning_rate
        weights = [each for each in model.parameters() if each.requires_grad]
        groups = [
            _group([each for each in weights if each.dim() > 1], rate, settings.weight_decay),
            _group([each for each in weights if each.dim() <= 1], rate, 0.0),
        ]
        adamw = torch.optim.AdamW([each for each in groups if each["params"]], fused=True)
        return cls(adamw, weights, [], settings)

    def add_scales(self, scales: list[nn.Parameter]) -> None:
        """Train `scales` too, at their own rate and without decay."""
        self.scales = scales
        if scales:
            self.adamw.add_param_group(_group(scales, self.settings.scale_learning_rate, 0.0))

    def restart_scales(self) -> None:
        """Forget the moments of the scales, which were gradients at other scales."""
        for scale in self.scales:
            self.adamw.state.pop(scale, None)

    def forget_pruned(self, masked: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Zero the moments of every weight outside its mask, which is True where a weight stays.

        Where no gradient comes any more they would shrink at every step, after some hundred of them
        to subnormal numbers, which processors take longer for.
        """
        # Flushing subnormals (torch.set_flush_denormal) reaches the calling thread alone: of two
        # threads' values one half was flushed, and weights would depend on who computed them.
        for weight, mask in masked:
            state = self.adamw.state.get(weight, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in state:  # not before the first step, nor of what is not trained
                    apply_mask(state[moment], mask)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the moments of `state`, at the rates and decay of the own settings."""
        own = [(group["peak"], group["weight_decay"]) for group in self.adamw.param_groups]
        self.adamw.load_state_dict(dict(state))
        for group, (peak, weight_decay) in zip(self.adamw.param_groups, own, strict=True):
            group["peak"], group["weight_decay"] = peak, weight_decay

    def set_rate(self, step: int, timeline: Timeline) -> float:
        """Set the rates of `step`; returns that of the weights."""
        share = timeline.rate(step)
        for group in self.adamw.param_groups:
            group["lr"] = group["peak"] * share
        return self.settings.learning_rate * share

    def clip(self) -> Tensor:
        """Clip the gradients' norm; returns the norm before, shape ().

        Scales are clipped on their own: their gradients have another unit, and must not take from
        the weights' share.
        """
        norm = nn.utils.clip_grad_norm_(self.weights, self.settings.clip_norm)
        if self.scales:
            norm = norm + nn.utils.clip_grad_norm_(self.scales, self.settings.clip_norm)
        return norm


def _group(parameters: list[nn.Parameter], rate: float, weight_decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "peak": rate, "weight_decay": weight_decay}


@contextmanager
def only_trained(model: PreTrainedModel, trained: str) -> Iterator[None]:
    """Ask gradients of nothing but `trained` (as in the recipe); what was frozen stays frozen.

    Raises UsageError where that leaves nothing to train.
    """
    wanted = {each: each.requires_grad for each in model.parameters()}
    chosen = _chosen(model, trained)
    try:
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad and parameter in chosen)
        if not any(each.requires_grad for each in wanted):
            raise UsageError(
                f"trained: {trained}",
                expected="at least one weight to train",
                found="none in this model",
                remedy="write trained: encoder or trained: all",
            )
        yield
    finally:
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad)


def _chosen(model: PreTrainedModel, trained: str) -> set[nn.Parameter]:
    if trained == "compressed":
        linears = compressed_linears(model).values()
        return {own for linear in linears for own in linear.parameters(recurse=False)}
    chosen = set(model.parameters())
    if trained == "encoder":
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                chosen.discard(module.weight)
    return chosen


@contextmanager
def with_dropout(model: nn.Module, rate: float | None) -> Iterator[None]:
    """Every dropout of `model` at `rate` for the time of the block; None leaves them alone."""
    if rate is None:
        yield
        return
    found = [(module, name) for module in model.modules() for name in _dropouts(module)]
    before = [(module, name, getattr(module, name)) for module, name in found]
    for module, name in found:
        setattr(module, name, rate)
    try:
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)


def _dropouts(module: nn.Module) -> list[str]:
    """The attributes of `module` that hold a rate of dropout.

    Attention functions take theirs as a number from the module that calls them.
    """
    if isinstance(module, nn.Dropout):
        return ["p"]
    return [
        name for name, value in vars(module).items() if "dropout" in name and type(value) is float
    ]
