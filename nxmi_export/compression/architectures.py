"""A transformers encoder in, its blocks out: one function per family of architectures.

BERT, RoBERTa, ELECTRA   post-norm: every LayerNorm feeds linears and a residual addition
DistilBERT               the same under other names
ALBERT                   the same blocks run repeatedly; each is listed once
MobileBERT               bottlenecks around the block, stacked FFNs, an affine map for the norm
ModernBERT               pre-norm: the residual stream passes the norms by; fused linears
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_block import EncoderBlock, Value
from nxmi_export.compression.mobilebert import mobilebert_block
from nxmi_export.recipe import Component

__all__ = ["albert", "bert", "distilbert", "mobilebert", "modernbert"]


@dataclass(frozen=True)
class _PostNorm:
    """Module names relative to a block."""

    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    ffn_up: str
    ffn_down: str
    output_norm: str

    def block(self, prefix: str, inputs: tuple[str, ...]) -> EncoderBlock:
        """The block at `prefix`, whose input the modules `inputs` make."""
        query, key, value, context_reader, up, down = (
            f"{prefix}.{name}"
            for name in (
                self.query,
                self.key,
                self.value,
                self.attention_output,
                self.ffn_up,
                self.ffn_down,
            )
        )
        names = (query, key, value, context_reader, up, down)
        return EncoderBlock(
            attention=f"{prefix}.{self.attention}",
            linears={name: (part,) for name, part in zip(names, Component, strict=True)},
            values=(
                Value((query, key, value), inputs),
                Value((context_reader,)),
                Value((up,), (f"{prefix}.{self.attention_norm}",)),
                Value((down,)),
            ),
            outputs=(context_reader, down),
        )


_BERT = _PostNorm(
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    ffn_up="intermediate.dense",
    ffn_down="output.dense",
    output_norm="output.LayerNorm",
)

_DISTILBERT = _PostNorm(
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    ffn_up="ffn.lin1",
    ffn_down="ffn.lin2",
    output_norm="output_layer_norm",
)

_ALBERT = _PostNorm(
    attention="attention",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    attention_output="attention.dense",
    attention_norm="attention.LayerNorm",
    ffn_up="ffn",
    ffn_down="ffn_output",
    output_norm="full_layer_layer_norm",
)


def bert(model: PreTrainedModel) -> Iterator[EncoderBlock]:
    """BERT, RoBERTa, XLM-R, CamemBERT and ELECTRA.

    A small ELECTRA widens its embeddings by a linear behind their norm, which stays dense.
    """
    base = model.base_model_prefix
    projected = hasattr(model.get_submodule(base), "embeddings_project")
    source = "embeddings_project" if projected else "embeddings.LayerNorm"
    return _chain(model, f"{base}.encoder.layer", _BERT, f"{base}.{source}")


def distilbert(model: PreTrainedModel) -> Iterator[EncoderBlock]:
    """DistilBERT: BERT's block under other names."""
    source = "distilbert.embeddings.LayerNorm"
    return _chain(model, "distilbert.transformer.layer", _DISTILBERT, source)


def albert(model: PreTrainedModel) -> Iterator[EncoderBlock]:
    """ALBERT: groups of blocks, each run several times over with the same weights.

    A group's first block reads what the group before it made (for the first: the linear that
    widens the embeddings), and then what its own last block made.
    """
    config = model.config
    depth, groups = config.num_hidden_layers, config.num_hidden_groups
    runs = [int(run / (depth / groups)) for run in range(depth)]  # as AlbertTransformer counts
    source = "albert.encoder.embedding_hidden_mapping_in"
    for group in dict.fromkeys(runs):
        prefix = f"albert.encoder.albert_layer_groups.{group}.albert_layers"
        last = f"{prefix}.{config.inner_group_num - 1}.{_ALBERT.output_norm}"
        inputs = (source, last) if runs.count(group) > 1 else (source,)
        for index in range(config.inner_group_num):
            yield _ALBERT.block(f"{prefix}.{index}", inputs)
            inputs = (f"{prefix}.{index}.{_ALBERT.output_norm}",)
        source = last


def mobilebert(model: PreTrainedModel) -> Iterator[EncoderBlock]:
    """MobileBERT, with or without bottlenecks, and any number of stacked FFNs.

    See `mobilebert_block` for what its linears belong to.
    """
    source = "mobilebert.embeddings.LayerNorm"
    for index in range(model.config.num_hidden_layers):
        prefix = f"mobilebert.encoder.layer.{index}"
        yield mobilebert_block(prefix, source, model.config)
        exit_ = "output.bottleneck" if model.config.use_bottleneck else "output"
        source = f"{prefix}.{exit_}.LayerNorm"


def modernbert(model: PreTrainedModel) -> Iterator[EncoderBlock]:
    """ModernBERT: Wqkv is query, key and value in one, Wi both halves of a gated FFN's input.

    The residual stream is read by additions and norms alone and stays float: nothing normalizes
    it, its outliers grow from block to block, and every rounding would stay in it to the end. What
    the linears add to it is INT8 in `sparse`. Between Wqkv and the attention matmuls lies the
    rotation, and behind Wi the gate, so that both have an INT8 output only by a quantizer of their
    own.
    """
    for index in range(model.config.num_hidden_layers):
        prefix = f"model.layers.{index}"
        linears = {
            f"{prefix}.attn.Wqkv": (Component.QUERY, Component.KEY, Component.VALUE),
            f"{prefix}.attn.Wo": (Component.ATTENTION_OUTPUT,),
            f"{prefix}.mlp.Wi": (Component.FFN_UP,),
            f"{prefix}.mlp.Wo": (Component.FFN_DOWN,),
        }
        yield EncoderBlock(
            attention=f"{prefix}.attn",
            linears=linears,
            values=tuple(Value((name,)) for name in linears),
            outputs=tuple(linears),
            rotary=True,
        )


def _chain(
    model: PreTrainedModel, path: str, names: _PostNorm, source: str
) -> Iterator[EncoderBlock]:
    """Post-norm blocks one after the other, the first reading the output of `source`."""
    blocks = model.get_submodule(path)
    assert isinstance(blocks, nn.ModuleList)
    for index in range(len(blocks)):
        yield names.block(f"{path}.{index}", (source,))
        source = f"{path}.{index}.{names.output_norm}"
