import gc
import weakref
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate_activations
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.errors import InvalidScale, UsageError
from nxmi_export.recipe import Placement, Recipe, Scheme
from nxmi_export.search.superset import Superset, naive_model
from nxmi_export.search.variants import DENSE, Variants, variants
from tests.tiny_models import (
    ARCHITECTURES,
    PLACEMENTS,
    logits_of,
    tiny_model,
    toy_batch,
    toy_data,
)

SCHEMES = tuple(map(Scheme.parse, ("2:4", "int8", "int4", "2:4+int8", "2:4+int4")))
QUERY = "bert.encoder.layer.0.attention.self.query"

Schemes = Mapping[str, Scheme]


def _base(placement: Placement | str = Placement.SPARSE, **mapping: object) -> Recipe:
    settings = {"placement": str(placement), "training": {"batch_size": 8}}
    return Recipe.from_mapping(settings | mapping, source="test")


def _recipe(base: Recipe, schemes: Schemes) -> Recipe:
    return base.model_copy(update={"default": DENSE, "schemes": {}, "overrides": dict(schemes)})


def _superset(model: PreTrainedModel, base: Recipe) -> Superset:
    data = toy_data(48, model_type=model.config.model_type)
    names = [name for block in layout_of(model) for name in block.linears]
    prepared = variants(model, dict.fromkeys(names, SCHEMES), base, data, "magnitude")
    return Superset(model, base, prepared, data)


def _random(prepared: Variants, generator: np.random.Generator, dense: float) -> Schemes:
    """A scheme for every linear, the dense one with this probability."""
    return {
        name: DENSE if generator.random() < dense else SCHEMES[generator.integers(len(SCHEMES))]
        for name in prepared.linears
    }


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_superset_is_bit_for_bit_the_model_built_for_the_candidate(
    model_type: str, placement: Placement
) -> None:
    model, base = tiny_model(model_type), _base(placement)
    superset, feeds = _superset(model, base), toy_batch(model_type)
    generator = np.random.default_rng(11)
    logits = []
    for dense in (0.0, 0.1, 0.3, 0.6, 1.0):
        schemes = _random(superset.variants, generator, dense)
        superset.use(schemes)
        logits.append(logits_of(superset.model, feeds))
        naive = naive_model(
            model, _recipe(base, schemes), superset.variants, superset.activation_scales
        )
        assert torch.equal(logits[-1], logits_of(naive, feeds))
    assert len({str(each.tolist()) for each in logits}) == len(logits)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_same_values_are_quantized_as_in_the_model_built_for_the_candidate(
    model_type: str, placement: Placement
) -> None:
    """Not by outputs, which a quantizer that is one too many may leave alone."""
    model, base = tiny_model(model_type), _base(placement)
    superset, generator = _superset(model, base), np.random.default_rng(5)
    for dense in (0.0, 0.2, 0.5, 0.8):
        schemes = _random(superset.variants, generator, dense)
        superset.use(schemes)
        built = tiny_model(model_type)
        insert_quantizers(built, _recipe(base, schemes))
        assert _acting(superset.model) == _acting(built)


def _acting(model: PreTrainedModel) -> set[str]:
    return {
        name
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, ActivationQuantizer) and module.enabled
    }


def test_activation_scales_are_those_of_the_dense_weights() -> None:
    base, data = _base(), toy_data(48)
    superset = _superset(tiny_model(), base)
    quantized = tiny_model()
    insert_quantizers(quantized, base.model_copy(update={"default": Scheme.parse("int8")}))
    for linear in compressed_linears(quantized).values():
        linear.weight_quantizer = None
    calibrate_activations(quantized, data, batch_size=8)
    expected = {
        name: module.scale
        for name, module in quantized.named_modules(remove_duplicate=False)
        if isinstance(module, ActivationQuantizer)
    }
    assert superset.activation_scales == expected


def test_per_token_scales_need_no_calibration() -> None:
    dynamic = {"mode": "dynamic", "learned": False}
    base, model = _base("linear", activations=dynamic), tiny_model()
    superset, feeds = _superset(model, base), toy_batch()
    schemes = dict.fromkeys(superset.variants.linears, Scheme.parse("2:4+int8"))
    superset.use(schemes)
    naive = naive_model(
        model, _recipe(base, schemes), superset.variants, superset.activation_scales
    )
    assert torch.equal(logits_of(superset.model, feeds), logits_of(naive, feeds))


def test_the_superset_without_schemes_is_the_dense_model() -> None:
    model = tiny_model()
    superset, feeds = _superset(model, _base()), toy_batch()
    superset.use(dict.fromkeys(superset.variants.linears, Scheme.parse("2:4+int4")))
    superset.use({})
    assert torch.equal(logits_of(superset.model, feeds), logits_of(model, feeds))


def test_int8_tables_are_part_of_the_dense_model_too() -> None:
    model = tiny_model()
    superset, feeds = _superset(model, _base(embeddings="int8")), toy_batch()
    assert not torch.equal(logits_of(superset.model, feeds), logits_of(model, feeds))


def test_linears_left_out_are_dense() -> None:
    superset, feeds = _superset(tiny_model(), _base()), toy_batch()
    superset.use({QUERY: Scheme.parse("int4")})
    alone = logits_of(superset.model, feeds)
    everything_else = dict.fromkeys(superset.variants.linears, DENSE)
    superset.use(everything_else | {QUERY: Scheme.parse("int4")})
    assert torch.equal(logits_of(superset.model, feeds), alone)


def test_a_candidate_leaves_no_trace_in_the_next_even_under_autocast() -> None:
    superset, feeds = _superset(tiny_model(), _base()), toy_batch()
    # They differ in weights alone, and autocast keeps what it casts outside of inference mode.
    first, second = (
        dict.fromkeys(superset.variants.linears, Scheme.parse(text)) for text in ("int8", "int4")
    )
    with torch.autocast("cpu", torch.bfloat16):
        superset.use(first)
        alone = superset.model(**feeds).logits
        superset.use(second)
        assert not torch.equal(superset.model(**feeds).logits, alone)
        superset.use(first)
        assert torch.equal(superset.model(**feeds).logits, alone)


def test_weights_are_pointed_at_and_never_copied() -> None:
    model = tiny_model()
    superset = _superset(model, _base())
    for scheme in (DENSE, *SCHEMES):
        superset.use({QUERY: scheme})
        held = superset.model.get_parameter(f"{QUERY}.weight")
        assert held.data_ptr() == superset.variants.weight(QUERY, scheme).data_ptr()
    assert superset.variants.weight(QUERY, DENSE).data_ptr() == (
        model.get_parameter(f"{QUERY}.weight").data_ptr()
    )


def test_the_model_given_stays_as_it_is() -> None:
    model, feeds = tiny_model(), toy_batch()
    before = logits_of(model, feeds)
    superset = _superset(model, _base())
    superset.use(dict.fromkeys(superset.variants.linears, Scheme.parse("2:4+int4")))
    assert torch.equal(logits_of(model, feeds), before)
    assert not any(isinstance(module, ActivationQuantizer) for module in model.modules())


def test_an_unknown_linear_is_refused_before_anything_changes() -> None:
    superset, feeds = _superset(tiny_model(), _base()), toy_batch()
    before = logits_of(superset.model, feeds)
    with pytest.raises(UsageError) as caught:
        superset.use({QUERY: SCHEMES[0], "classifier": SCHEMES[0]})
    assert str(caught.value) == (
        "classifier: expected a linear of the search space, found none of its names; "
        f"names look like {QUERY!r}"
    )
    assert torch.equal(logits_of(superset.model, feeds), before)


def test_a_network_whose_values_are_not_finite_is_refused() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_parameter(f"{QUERY}.weight").fill_(torch.nan)
    with pytest.raises(InvalidScale) as caught:
        _superset(model, _base())
    assert str(caught.value).endswith(
        "expected positive finite scales, found nan at index 0; "
        "calibrate the model before saving it"
    )


def test_models_built_one_by_one_go_when_nobody_needs_them() -> None:
    """The loop over thousands of candidates may keep none of them in memory."""
    model, base = tiny_model(), _base()
    superset = _superset(model, base)
    recipe = _recipe(base, {QUERY: SCHEMES[3]})
    naive = naive_model(model, recipe, superset.variants, superset.activation_scales)
    gone = weakref.ref(naive)
    del naive
    gc.collect()
    assert gone() is None
