import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression import compress, compressed_linears
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.compression.insert_quantizers import insert_quantizers
from nxmi_export.compression.reconstruction import reconstructed_weights
from nxmi_export.errors import InvalidDataset, UnsupportedWeight, UsageError
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.variants import DENSE, Projection, Variants, variants
from tests.tiny_models import ARCHITECTURES, tiny_model, toy_data

TEXTS = ("2:4", "int8", "int4", "2:4+int8", "2:4+int4")
SCHEMES = tuple(map(Scheme.parse, TEXTS))
PROJECTIONS: tuple[Projection, ...] = ("magnitude", "reconstruction")
QUERY = "bert.encoder.layer.0.attention.self.query"


def _linears(model: PreTrainedModel) -> tuple[str, ...]:
    return tuple(name for block in layout_of(model) for name in block.linears)


def _recipe(scheme: str = "2:4+int8", **mapping: object) -> Recipe:
    training = {"epochs": 0, "batch_size": 24}
    settings = {"default": scheme, "training": training, "activations": {"calibration_batches": 4}}
    return Recipe.from_mapping(settings | mapping, source="test")


def _variants(
    projection: Projection,
    *,
    model: PreTrainedModel | None = None,
    schemes: tuple[Scheme, ...] = SCHEMES,
    recipe: Recipe | None = None,
) -> Variants:
    model = model or tiny_model()
    data = toy_data(96, model_type=model.config.model_type)
    wanted = dict.fromkeys(_linears(model), schemes)
    return variants(model, wanted, recipe or _recipe(), data, projection)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("calibration", ["max", "mse"])
def test_magnitude_gives_the_weights_that_compress_gives_without_training(
    text: str, calibration: str
) -> None:
    """An independent path: the whole of `compress`, which projects, fits scales and rounds."""
    settings = {"calibration": calibration, "int4_granularity": "rows:5"}
    recipe = _recipe(text, weights=settings, sparsity={"initial": "magnitude"})
    prepared = _variants("magnitude", recipe=recipe)
    model, scheme = tiny_model(), Scheme.parse(text)
    compress(model, toy_data(96), recipe)
    for name, linear in compressed_linears(model).items():
        quantizer = linear.weight_quantizer
        weight = linear.weight if quantizer is None else quantizer(linear.weight)
        assert torch.equal(prepared.weight(name, scheme), weight)
        scale = prepared.scale(name, scheme)
        if quantizer is None:
            assert scale is None
        else:
            assert scale is not None
            assert torch.equal(scale, quantizer.scale)


@pytest.mark.parametrize("text", ["2:4", "int4", "2:4+int4"])
def test_reconstruction_of_a_single_linear_is_that_of_compress(text: str) -> None:
    """With all others dense there is nothing in front of it that would change its inputs."""
    model, name = tiny_model(), QUERY.replace("0", "1")
    insert_quantizers(model, _recipe("dense", overrides={name: text}))
    expected = reconstructed_weights(model, toy_data(96), batches=4, batch_size=24)
    found = _variants("reconstruction").weight(name, Scheme.parse(text))
    assert torch.allclose(found, expected[name], rtol=0, atol=1e-5)
    assert torch.equal(found != 0, expected[name] != 0)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_variant_is_on_its_pattern_and_on_its_grid(
    model_type: str, projection: Projection
) -> None:
    prepared = _variants(projection, model=tiny_model(model_type))
    for name in prepared.linears:
        assert prepared.schemes(name) == SCHEMES
        for scheme in SCHEMES:
            weight, scale = prepared.weight(name, scheme), prepared.scale(name, scheme)
            if scheme.pattern is not None:
                counts = (weight != 0).reshape(len(weight), -1, scheme.pattern.group).sum(-1)
                assert counts.max() == scheme.pattern.keep
            if scheme.bits is None:
                assert scale is None
            else:
                assert scale is not None
                codes = weight / scale[:, None]
                assert torch.allclose(codes, codes.round(), rtol=0, atol=1e-4)
                assert codes.abs().max() <= 2 ** (scheme.bits - 1) - 1 + 1e-4


def test_reconstruction_loses_less_of_the_output_and_int8_is_the_same_for_both() -> None:
    by_size, by_output = _variants("magnitude"), _variants("reconstruction")
    model = tiny_model()
    inputs: list[torch.Tensor] = []
    model.get_submodule(QUERY).register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    data = toy_data(96)
    with torch.inference_mode():
        for index in range(len(data)):  # alone, so without padding
            feeds = data.padded([index], None)
            model(**{name: torch.from_numpy(x) for name, x in feeds.items()})
    x = torch.cat([each[0] for each in inputs])

    def lost(prepared: Variants, scheme: Scheme) -> float:
        dense = x @ prepared.weight(QUERY, DENSE).T
        error = dense - x @ prepared.weight(QUERY, scheme).T
        return float(error.square().sum() / dense.square().sum())

    for scheme in SCHEMES:
        assert by_output.error(QUERY, scheme) == pytest.approx(lost(by_output, scheme), rel=1e-3)
        if scheme == Scheme.parse("int8"):
            same = (each.weight(QUERY, scheme) for each in (by_size, by_output))
            assert torch.equal(*same)
        else:
            assert lost(by_output, scheme) < lost(by_size, scheme)


def test_errors_of_magnitude_are_those_of_the_weight() -> None:
    prepared, scheme = _variants("magnitude"), Scheme.parse("2:4")
    dense, pruned = prepared.weight(QUERY, DENSE), prepared.weight(QUERY, scheme)
    expected = float((dense - pruned).square().sum() / dense.square().sum())
    assert prepared.error(QUERY, scheme) == pytest.approx(expected)
    assert prepared.error(QUERY, DENSE) == 0.0


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_the_model_stays_as_it_is_and_lends_its_dense_weights(projection: Projection) -> None:
    model, untouched = tiny_model(), tiny_model()
    model.train()
    prepared = _variants(projection, model=model)
    assert model.training
    for name, parameter in untouched.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
    assert not any(type(module) is not nn.Linear for module in map(model.get_submodule, [QUERY]))
    dense = prepared.weight(QUERY, DENSE)
    assert dense.data_ptr() == model.get_parameter(f"{QUERY}.weight").data_ptr()


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_a_linear_becomes_what_it_becomes_whether_others_are_prepared_or_not(
    projection: Projection,
) -> None:
    model, done = tiny_model(), list[tuple[str, int, int]]()
    wanted, some = dict.fromkeys(_linears(model), SCHEMES), _linears(model)[3::4]
    found = variants(
        model,
        wanted,
        _recipe(),
        toy_data(96),
        projection,
        only=some,
        on_linear=lambda *each: done.append(each),
    )
    assert done == [(name, number, len(some)) for number, name in enumerate(some, start=1)]
    whole = _variants(projection)
    for name in wanted:
        assert found.schemes(name) == (SCHEMES if name in some else ())
        for scheme in found.schemes(name):
            assert torch.equal(found.weight(name, scheme), whole.weight(name, scheme))
            assert found.error(name, scheme) == whole.error(name, scheme)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_each_linear_is_reported_once(projection: Projection) -> None:
    model, done = tiny_model(), []
    names = _linears(model)
    wanted = dict.fromkeys(names, (Scheme.parse("int8"),))
    variants(
        model,
        wanted,
        _recipe(),
        toy_data(32),
        projection,
        on_linear=lambda *each: done.append(each),
    )
    assert done == [(name, number, 12) for number, name in enumerate(names, start=1)]


def test_the_dense_scheme_is_an_option_that_needs_no_preparation() -> None:
    prepared = _variants("magnitude", schemes=(DENSE, SCHEMES[1]))
    assert prepared.schemes(QUERY) == (SCHEMES[1],)
    assert prepared.error(QUERY, DENSE) == 0.0


def test_memory_is_counted() -> None:
    prepared = _variants("magnitude", schemes=(Scheme.parse("2:4"), Scheme.parse("int4")))
    weights = sum(prepared.weight(name, DENSE).numel() for name in prepared.linears)
    rows = sum(len(prepared.weight(name, DENSE)) for name in prepared.linears)
    assert prepared.nbytes == 4 * (2 * weights + rows)


def test_a_linear_outside_the_space_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        _variants("magnitude").weight("classifier", DENSE)
    assert str(caught.value) == (
        "classifier: expected a linear of the search space, found none of its names; "
        f"names look like {QUERY!r}"
    )


def test_a_scheme_that_was_not_prepared_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        _variants("magnitude", schemes=SCHEMES[:2]).scale(QUERY, Scheme.parse("1:4"))
    assert str(caught.value) == (
        f"{QUERY}: expected one of dense, 2:4, int8, found 1:4; add the scheme to the search space"
    )


def test_a_pattern_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(UnsupportedWeight) as caught:
        _variants("magnitude", schemes=(Scheme.parse("2:5"),))
    assert str(caught.value) == (
        f"{QUERY}: expected an input width that is a multiple of 5 for 2:5, found width 32; "
        "leave the scheme out of the search space of this layer"
    )


def test_reconstruction_without_data_is_refused() -> None:
    model, nothing = tiny_model(), toy_data().select(np.zeros(0, np.int64))
    with pytest.raises(InvalidDataset) as caught:
        variants(model, {QUERY: SCHEMES}, _recipe(), nothing, "reconstruction")
    assert str(caught.value) == (
        "reconstruction: expected calibration examples, found none; give it a dataset with rows"
    )
