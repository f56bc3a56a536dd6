"""The rule against the fact: random recipes, and where `insert_quantizers` put a quantizer."""

from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel

from nxmi_export.compression import insert_quantizers
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.compression.int8_outputs import Needs, int8_output_needs
from nxmi_export.recipe import Component, Placement, Recipe, Scheme
from tests.tiny_models import ARCHITECTURES, PLACEMENTS, tiny_model

SCHEMES = tuple(Scheme.parse(text) for text in ("dense", "2:4", "int8", "2:4+int4"))
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ARCHITECTURES},
    "albert, two inner blocks": ("albert", {"inner_group_num": 2}),
    "mobilebert, no bottleneck": ("mobilebert", {"use_bottleneck": False}),
    "mobilebert, narrow attention": ("mobilebert", {"use_bottleneck_attention": True}),
    "mobilebert, LayerNorm": ("mobilebert", {"normalization_type": "layer_norm"}),
    "mobilebert, nothing shared": (
        "mobilebert",
        {"key_query_shared_bottleneck": False, "intra_bottleneck_size": 32},
    ),
}
BLOCK = "bert.encoder.layer.0"


def linears_of(model: PreTrainedModel) -> list[str]:
    return [name for block in layout_of(model) for name in block.linears]


def by_rule(needs: Needs | None, quantized: set[str]) -> bool:
    return needs is not None and all(quantized & names for names in needs)


def in_fact(model: PreTrainedModel, name: str) -> bool:
    """Whether a quantizer meets the linear's output before anything but a GELU or NoNorm does."""
    modules = dict(model.named_modules())
    norm, reader = _no_norm(name), _reader_through_gelu(model, name)
    return bool(
        getattr(modules[name], "output_quantizer", None)
        or (norm and getattr(modules[norm], "output_quantizer", None))
        or (reader and getattr(modules[reader], "input_quantizer", None))
    )


def _no_norm(name: str) -> str | None:
    """What follows the bottlenecks at MobileBERT's entrance and nothing else directly."""
    prefix, _, last = name.rpartition(".")
    return f"{prefix}.LayerNorm" if ".bottleneck." in name and last == "dense" else None


def _reader_through_gelu(model: PreTrainedModel, name: str) -> str | None:
    if model.config.model_type == "modernbert":
        return None  # its GELU is half of a gate
    for block in layout_of(model):
        ups, downs = block.linears_of(Component.FFN_UP), block.linears_of(Component.FFN_DOWN)
        if name in ups:
            return downs[ups.index(name)]
    return None


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_rule_says_where_int8_comes_out(variant: str, placement: Placement) -> None:
    model_type, changes = VARIANTS[variant]
    dense = tiny_model(model_type, **changes)
    needs = int8_output_needs(dense, placement)
    assert list(needs) == list(dict.fromkeys(linears_of(dense)))
    rng = np.random.default_rng(0)
    for _ in range(6):
        chosen = {name: SCHEMES[rng.integers(len(SCHEMES))] for name in needs}
        model = tiny_model(model_type, **changes)
        insert_quantizers(model, Recipe(placement=placement, overrides=chosen))
        quantized = {name for name, scheme in chosen.items() if scheme.bits}
        expected = {name for name in quantized if in_fact(model, name)}
        assert {name for name in quantized if by_rule(needs[name], quantized)} == expected


def test_linear_placement_rounds_no_output_but_the_one_before_a_gelu() -> None:
    needs = int8_output_needs(tiny_model(), Placement.LINEAR)
    assert {name for name, needed in needs.items() if needed is not None} == {
        f"bert.encoder.layer.{index}.intermediate.dense" for index in range(2)
    }


def test_a_block_in_sparse_placement() -> None:
    needs = int8_output_needs(tiny_model(), Placement.SPARSE)
    query, key, value = (f"{BLOCK}.attention.self.{name}" for name in ("query", "key", "value"))
    assert {name: needed for name, needed in needs.items() if name.startswith(BLOCK)} == {
        query: (frozenset({key}), frozenset({value})),
        key: (frozenset({query}), frozenset({value})),
        value: (frozenset({query}), frozenset({key})),
        f"{BLOCK}.attention.output.dense": (),
        f"{BLOCK}.intermediate.dense": (frozenset({f"{BLOCK}.output.dense"}),),
        f"{BLOCK}.output.dense": (),
    }


def test_a_bottleneck_needs_any_one_of_its_readers() -> None:
    needs = int8_output_needs(tiny_model("mobilebert"), Placement.SPARSE)
    prefix = "mobilebert.encoder.layer.0"
    readers = {f"{prefix}.attention.self.{name}" for name in ("query", "key")}
    assert needs[f"{prefix}.bottleneck.attention.dense"] == (frozenset(readers),)


def test_a_gate_keeps_a_linear_float_behind_unless_it_has_a_quantizer_of_its_own() -> None:
    model, gated = tiny_model("modernbert"), "model.layers.0.mlp.Wi"
    assert int8_output_needs(model, Placement.ATTENTION)[gated] is None
    assert int8_output_needs(model, Placement.SPARSE)[gated] == ()
