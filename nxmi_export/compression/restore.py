"""A `CompressedCheckpoint` in, the PyTorch model that was trained out."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.errors import CheckpointMismatch, InvalidScale, RecipeError, UnsupportedWeight

__all__ = ["check_deployable", "check_patterns", "check_scales", "restore", "without_weights"]


def restore(checkpoint: CompressedCheckpoint) -> PreTrainedModel:
    """Rebuild the model in eval mode, quantizers in place; its weights share the checkpoint's.

    Raises CheckpointMismatch where keys, shapes or types do not fit, InvalidScale for a scale that
    is not positive and finite, UnsupportedWeight for a weight that breaks its own pattern.
    """
    model = without_weights(checkpoint)
    _load(model, checkpoint.state, checkpoint.architecture)
    model.eval()
    check_scales(model)
    check_patterns(model)
    return model


def without_weights(checkpoint: CompressedCheckpoint) -> PreTrainedModel:
    """The model as its configuration and recipe make it, quantizers in place, weights on "meta".

    Nothing of `checkpoint.state` is read. Raises CheckpointMismatch for a configuration that builds
    no such model.
    """
    architecture: Any = getattr(transformers, checkpoint.architecture)
    try:
        config = architecture.config_class.from_dict(dict(checkpoint.config))
        config.return_dict = True  # or outputs are tuples without names
        with init_empty_weights(include_buffers=False):  # no random weights to throw away
            model: PreTrainedModel = architecture._from_config(
                config,
                attn_implementation="eager",
                dtype=torch.float32,  # the configuration may name the half precision of a file
            )
    except Exception as error:  # transformers' own checks of a configuration raise many kinds
        raise CheckpointMismatch(
            "configuration",
            expected=f"one that builds {checkpoint.architecture}",
            found=" ".join(str(error).split()),
            remedy="save the model again",
        ) from error
    if checkpoint.recipe is not None:
        insert_quantizers(model, checkpoint.recipe)
    return model


def check_scales(model: nn.Module) -> None:
    """Raise InvalidScale for the first quantizer whose scale is not positive and finite."""
    for name, module in model.named_modules():
        if isinstance(module, ActivationQuantizer | WeightQuantizer):
            bad = ~(torch.isfinite(module.scale) & (module.scale > 0)).reshape(-1)
            if bad.any():
                index = int(bad.nonzero()[0])
                raise InvalidScale(
                    name,
                    expected="positive finite scales",
                    found=f"{float(module.scale.reshape(-1)[index])} at index {index}",
                    remedy="calibrate the model before saving it",
                )


def check_patterns(model: nn.Module) -> None:
    """Raise UnsupportedWeight for the first weight with more non-zeros than its pattern allows."""
    for name, linear in compressed_linears(model).items():
        pattern = linear.scheme.pattern
        if pattern is None:
            continue
        counts = (linear.weight != 0).reshape(linear.out_features, -1, pattern.group).sum(-1)
        if (counts > pattern.keep).any():
            row, group = (counts > pattern.keep).nonzero()[0].tolist()
            raise UnsupportedWeight(
                name,
                expected=f"{pattern} sparsity along in_features",
                found=f"{int(counts[row, group])} non-zeros in group {group} of row {row}",
                remedy="project the weights onto the pattern before saving them",
            )


def check_deployable(model: nn.Module, source: str) -> None:
    """Raise RecipeError where `model`, read from `source`, has scales that only PyTorch runs."""
    if any(isinstance(each, ActivationQuantizer) and each.dynamic for each in model.modules()):
        raise RecipeError(
            source,
            expected="static activation scales, the only ones that engines and onnxruntime run "
            "with these weights",
            found="activations: {mode: dynamic} in its recipe",
            remedy="compress the model with activations: {mode: static}",
        )


def _load(model: nn.Module, state: Mapping[str, Tensor], architecture: str) -> None:
    wanted = {name: _kind(tensor) for name, tensor in model.state_dict().items()}
    missing = sorted(wanted.keys() - state.keys())
    # older transformers saved buffers (position_ids) that newer ones rebuild
    rebuilt = {name for name, _ in model.named_buffers()} - wanted.keys()
    unexpected = sorted(state.keys() - wanted.keys() - rebuilt)
    unfit = [name for name in wanted if name in state and _kind(state[name]) != wanted[name]]
    if not (missing or unexpected or unfit):
        model.load_state_dict({name: state[name] for name in wanted}, assign=True)
        return
    if unfit:
        name = unfit[0]
        found = f"{name} as {_kind(state[name])} where {wanted[name]} belongs"
    elif missing:
        found = f"{len(missing)} missing weights, the first being {missing[0]}"
    else:
        found = f"{len(unexpected)} unknown weights, the first being {unexpected[0]}"
    raise CheckpointMismatch(
        "state dict",
        expected=f"the weights of this {architecture}",
        found=found,
        remedy="use the configuration and recipe that the weights were trained with",
    )


def _kind(tensor: Tensor) -> str:
    """Element type and shape, e.g. "float32 (2, 32)"."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
