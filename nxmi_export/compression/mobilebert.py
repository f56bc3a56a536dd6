"""One MobileBERT block, described from its configuration (Sun et al., 2020).

    hidden ─ bottlenecks ─ attention ─ + ─ norm ─ FFNs (+ norm each) ─ output bottleneck ─ + ─ norm
       │         └── narrow hidden ────┘                                                   │
       └──────────────────────────────────────────────────────────────────────────────────┘

Its bottlenecks are none of BERT's six linears and belong to no component: they take the recipe's
default scheme or an override. The stacked FFNs all belong to ffn_up and ffn_down.
"""

from dataclasses import dataclass
from typing import Any

from nxmi_export.compression.encoder_block import EncoderBlock, Value
from nxmi_export.recipe import Component

__all__ = ["mobilebert_block"]

_QKV = (Component.QUERY, Component.KEY, Component.VALUE)


@dataclass(frozen=True)
class _Part:
    """A stretch of a block, as the fields of EncoderBlock have it."""

    linears: dict[str, tuple[Component, ...]]
    values: tuple[Value, ...]
    outputs: tuple[str, ...] = ()


def mobilebert_block(prefix: str, source: str, config: Any) -> EncoderBlock:
    """The block at `prefix`, whose input the module `source` makes."""
    parts = [_attention(prefix, source, config)]
    norm = f"{prefix}.attention.output.LayerNorm"
    stacked = (f"{prefix}.ffn.{index}" for index in range(config.num_feedforward_networks - 1))
    for ffn in (*stacked, prefix):
        parts.append(_ffn(ffn, norm))
        norm = f"{ffn}.output.LayerNorm"
    if config.use_bottleneck:
        widen = f"{prefix}.output.bottleneck.dense"
        parts.append(_Part({widen: ()}, (Value((widen,), (norm,)),), (widen,)))
    return EncoderBlock(
        attention=f"{prefix}.attention.self",
        linears={name: each for part in parts for name, each in part.linears.items()},
        values=tuple(value for part in parts for value in part.values),
        outputs=tuple(name for part in parts for name in part.outputs),
    )


def _attention(prefix: str, source: str, config: Any) -> _Part:
    """Bottlenecks and attention; the block reads what `source` makes."""
    qkv = tuple(f"{prefix}.attention.self.{name}" for name in ("query", "key", "value"))
    context_reader = f"{prefix}.attention.output.dense"
    bottlenecks = _bottlenecks(prefix, config)
    linears: dict[str, tuple[Component, ...]] = dict.fromkeys(bottlenecks, ())
    linears |= {name: (part,) for name, part in zip(qkv, _QKV, strict=True)}
    linears[context_reader] = (Component.ATTENTION_OUTPUT,)
    values = (*_inputs(prefix, source, config), Value((context_reader,)))
    # NoNorm scales and shifts as a bias does, and what it makes is quantized. A LayerNorm sums, so
    # that INT8 must come out of the linear itself.
    summed = bottlenecks if config.normalization_type == "layer_norm" else ()
    return _Part(linears, values, (*summed, context_reader))


def _bottlenecks(prefix: str, config: Any) -> tuple[str, ...]:
    """The linears at the entrance that run; a shared one may be there and stay idle."""
    if not config.use_bottleneck:
        return ()
    names = ["input"]
    if config.key_query_shared_bottleneck and not config.use_bottleneck_attention:
        names.append("attention")
    return tuple(f"{prefix}.bottleneck.{name}.dense" for name in names)


def _inputs(prefix: str, source: str, config: Any) -> tuple[Value, ...]:
    """What bottlenecks, query, key and value read, and what the attention's output is added to."""
    query, key, value = qkv = tuple(
        f"{prefix}.attention.self.{name}" for name in ("query", "key", "value")
    )
    bottlenecks = _bottlenecks(prefix, config)
    narrow, shared = (f"{prefix}.bottleneck.{name}.LayerNorm" for name in ("input", "attention"))
    residual = Value(makers=(narrow,), added_to=f"{prefix}.attention.output.dense")
    if not config.use_bottleneck:
        return (Value(qkv, (source,)),)
    if config.use_bottleneck_attention:
        return (Value(bottlenecks, (source,)), Value(qkv, (narrow,)))
    if config.key_query_shared_bottleneck:
        return (
            Value((*bottlenecks, value), (source,)),
            Value((query, key), (shared,)),
            residual,
        )
    return (Value((*bottlenecks, *qkv), (source,)), residual)


def _ffn(prefix: str, norm: str) -> _Part:
    """The FFN at `prefix`, which reads what `norm` makes and adds to it."""
    up, down = f"{prefix}.intermediate.dense", f"{prefix}.output.dense"
    return _Part(
        {up: (Component.FFN_UP,), down: (Component.FFN_DOWN,)},
        (Value((up,), (norm,)), Value((down,))),
        (down,),
    )
