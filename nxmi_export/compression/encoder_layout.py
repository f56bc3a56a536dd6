"""Where each architecture keeps the six linears and the LayerNorms of an encoder block."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nxmi_export.errors import UnsupportedModel
from nxmi_export.recipe import Component

__all__ = ["EncoderLayout", "Layer", "layout_of"]


@dataclass(frozen=True)
class EncoderLayout:
    """Module names; those of a block are relative to the block."""

    base: str  # the encoder's name inside the task model
    embedding_norm: str  # relative to `base`
    blocks: str  # relative to `base`
    attention: str  # the module that transformers hands to the attention function
    components: dict[Component, str]
    attention_norm: str
    output_norm: str


@dataclass(frozen=True)
class Layer:
    """One encoder block: full module names, and the norm whose output it reads."""

    index: int
    input_norm: str
    attention: str
    attention_norm: str
    components: dict[Component, str]


def _post_norm_bert(base: str) -> EncoderLayout:
    return EncoderLayout(
        base=base,
        embedding_norm="embeddings.LayerNorm",
        blocks="encoder.layer",
        attention="attention.self",
        components={
            Component.QUERY: "attention.self.query",
            Component.KEY: "attention.self.key",
            Component.VALUE: "attention.self.value",
            Component.ATTENTION_OUTPUT: "attention.output.dense",
            Component.FFN_UP: "intermediate.dense",
            Component.FFN_DOWN: "output.dense",
        },
        attention_norm="attention.output.LayerNorm",
        output_norm="output.LayerNorm",
    )


_DISTILBERT = EncoderLayout(
    base="distilbert",
    embedding_norm="embeddings.LayerNorm",
    blocks="transformer.layer",
    attention="attention",
    components={
        Component.QUERY: "attention.q_lin",
        Component.KEY: "attention.k_lin",
        Component.VALUE: "attention.v_lin",
        Component.ATTENTION_OUTPUT: "attention.out_lin",
        Component.FFN_UP: "ffn.lin1",
        Component.FFN_DOWN: "ffn.lin2",
    },
    attention_norm="sa_layer_norm",
    output_norm="output_layer_norm",
)

_LAYOUTS = {
    "bert": _post_norm_bert("bert"),
    "roberta": _post_norm_bert("roberta"),
    "xlm-roberta": _post_norm_bert("roberta"),
    "camembert": _post_norm_bert("roberta"),
    "distilbert": _DISTILBERT,
}


def layout_of(model: nn.Module, model_type: str) -> Iterator[Layer]:
    """The encoder blocks of `model`, in order; raises UnsupportedModel for other architectures."""
    layout = _LAYOUTS.get(model_type)
    if layout is None:
        raise UnsupportedModel(
            model_type,
            expected=f"one of the architectures {', '.join(sorted(_LAYOUTS))}",
            found=f"a model of type {model_type!r}",
            remedy="export it without a recipe, or start from a supported encoder",
        )
    blocks = model.get_submodule(f"{layout.base}.{layout.blocks}")
    assert isinstance(blocks, nn.ModuleList)
    input_norm = f"{layout.base}.{layout.embedding_norm}"
    for index in range(len(blocks)):
        block = f"{layout.base}.{layout.blocks}.{index}"
        yield Layer(
            index=index,
            input_norm=input_norm,
            attention=f"{block}.{layout.attention}",
            attention_norm=f"{block}.{layout.attention_norm}",
            components={part: f"{block}.{name}" for part, name in layout.components.items()},
        )
        input_norm = f"{block}.{layout.output_norm}"
