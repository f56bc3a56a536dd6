"""A task model in, the different shapes of its encoder's linears out, and what it is in words."""

from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.latency.shapes import LinearShape

__all__ = ["encoder_in_words", "encoder_shapes"]


def encoder_shapes(model: PreTrainedModel) -> tuple[LinearShape, ...]:
    """Every shape that occurs, once, sorted.

    Raises UnsupportedModel for an architecture whose linears are not known.
    """
    names = (name for block in layout_of(model) for name in block.linears)
    return tuple(sorted({_shape(model.get_submodule(name)) for name in names}))


def encoder_in_words(model: PreTrainedModel) -> str:
    """What a forward pass outside the linears depends on, beside the batch: "bert, 12 blocks".

    Raises UnsupportedModel as `encoder_shapes` does.
    """
    layout_of(model)
    # Not those of the layout, where a block that runs repeatedly is listed once.
    return f"{model.config.model_type}, {model.config.num_hidden_layers} blocks"


def _shape(linear: nn.Module) -> LinearShape:
    assert isinstance(linear, nn.Linear)
    return LinearShape(linear.in_features, linear.out_features)
