"""What can be chosen, and that a recipe of a choice gives every linear exactly that."""

import itertools

import numpy as np
import pytest
from transformers import PreTrainedModel

from nxmi_export.compression import compressed_linears, insert_quantizers
from nxmi_export.errors import UsageError
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.space import (
    DEFAULT_SCHEMES,
    Candidate,
    Granularity,
    SearchSpace,
    recipe_for,
    schemes_of,
)
from tests.tiny_models import ARCHITECTURES, tiny_model

DENSE, INT8, PRUNED = (Scheme.parse(text) for text in ("dense", "int8", "2:4"))
COMPONENTS = ("query", "key", "value", "attention_output", "ffn_up", "ffn_down")
BLOCK = "bert.encoder.layer.0"


def anything(_: Candidate) -> bool:
    return True


def inserted(model: PreTrainedModel, recipe: Recipe) -> dict[str, Scheme]:
    """The scheme of every linear that `recipe` compresses."""
    insert_quantizers(model, recipe)
    return {name: linear.scheme for name, linear in compressed_linears(model).items()}


def refusal(model: PreTrainedModel, schemes: tuple[Scheme, ...]) -> str:
    with pytest.raises(UsageError) as caught:
        SearchSpace.of(model, "component", schemes)
    return str(caught.value)


def test_bert_has_one_group_for_each_component_as_published() -> None:
    space = SearchSpace.of(tiny_model(), "component")
    assert tuple(group.name for group in space.groups) == COMPONENTS
    assert space.size == 15_625
    assert len(set(space.candidates())) == 15_625
    assert space.groups[0].linears == tuple(
        f"bert.encoder.layer.{index}.attention.self.query" for index in range(2)
    )
    assert space.groups[4].weights == 2 * 32 * 64
    assert space.weights == 2 * (4 * 32 * 32 + 2 * 32 * 64)


def test_per_layer_every_linear_is_a_group() -> None:
    space = SearchSpace.of(tiny_model(), "layer")
    assert len(space.groups) == 12
    assert all(group.linears == (group.name,) for group in space.groups)
    assert space.size == 5**12


def test_components_that_are_one_linear_are_one_group() -> None:
    space = SearchSpace.of(tiny_model("modernbert"), "component")
    names = [group.name for group in space.groups]
    assert names == ["query+key+value", "attention_output", "ffn_up", "ffn_down"]


def test_linears_of_no_component_are_the_group_that_a_recipe_calls_default() -> None:
    space = SearchSpace.of(tiny_model("mobilebert"), "component")
    [default] = [group for group in space.groups if group.name == "default"]
    assert len(default.linears) == 2 * 3
    assert all("bottleneck" in name for name in default.linears)


def test_a_pattern_is_no_option_where_it_does_not_divide_the_width() -> None:
    space = SearchSpace.of(tiny_model(intermediate_size=38), "component")
    options = {group.name: [str(scheme) for scheme in group.options] for group in space.groups}
    assert options.pop("ffn_down") == ["int8", "int4"]
    assert set(map(tuple, options.values())) == {tuple(map(str, DEFAULT_SCHEMES))}


def test_a_linear_that_no_scheme_fits_is_refused() -> None:
    schemes = (PRUNED, Scheme.parse("2:4+int8"))
    assert refusal(tiny_model(intermediate_size=38), schemes) == (
        "search space of ffn_down: expected a scheme that fits input width 38, "
        "found 2:4, 2:4+int8; add int8, int4 or dense to the schemes"
    )


def test_no_schemes_at_all_are_refused() -> None:
    assert refusal(tiny_model(), ()) == (
        "schemes of the search: expected at least one, each once, found none; "
        "name some of dense, 2:4, int8, int4, 2:4+int8, 2:4+int4"
    )


def test_a_scheme_given_twice_is_refused() -> None:
    assert refusal(tiny_model(), (INT8, PRUNED, INT8)) == (
        "schemes of the search: expected at least one, each once, found int8 twice; "
        "name some of dense, 2:4, int8, int4, 2:4+int8, 2:4+int4"
    )


@pytest.mark.parametrize("granularity", ["component", "layer"])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_its_recipe_gives_every_linear_the_scheme_of_the_candidate(
    model_type: str, granularity: Granularity
) -> None:
    base = Recipe.from_mapping(
        {"default": "1:4", "schemes": {"key": "int4"}, "overrides": {"*": "1:2"}}, source="test"
    )
    space = SearchSpace.of(tiny_model(model_type), granularity, (DENSE, *DEFAULT_SCHEMES))
    rng = np.random.default_rng(0)
    for _ in range(3):
        candidate = space.random(rng, anything)
        expected = schemes_of(space, candidate)
        recipe = recipe_for(space, candidate, base)
        compressed = {name: scheme for name, scheme in expected.items() if scheme != DENSE}
        assert inserted(tiny_model(model_type), recipe) == compressed
        assert space.candidate(expected) == candidate


def test_its_recipe_keeps_all_but_the_schemes_of_the_base_and_can_be_written() -> None:
    base = Recipe.from_mapping(
        {"default": "1:4", "placement": "attention", "training": {"epochs": 3}}, source="test"
    )
    space = SearchSpace.of(tiny_model(), "component")
    recipe = recipe_for(space, space.uniform(INT8), base)
    assert Recipe.from_mapping(recipe.as_mapping(), source="test") == recipe
    assert recipe.model_copy(update={"schemes": {}, "default": base.default}) == base


def test_a_recipe_per_component_names_the_six() -> None:
    space = SearchSpace.of(tiny_model(), "component")
    texts = ("2:4", "int8", "int4", "int8", "2:4+int8", "2:4+int4")
    recipe = recipe_for(space, Candidate(texts), Recipe()).as_mapping()
    assert recipe["schemes"] == dict(zip(COMPONENTS, texts, strict=True))
    assert recipe["overrides"] == {}


def test_a_candidate_may_go_over_to_the_space_per_layer() -> None:
    model = tiny_model()
    coarse, fine = SearchSpace.of(model, "component"), SearchSpace.of(model, "layer")
    candidate = coarse.random(np.random.default_rng(1), anything)
    schemes = schemes_of(coarse, candidate)
    assert schemes_of(fine, fine.candidate(schemes)) == schemes


def test_a_candidate_per_component_has_one_scheme_for_all_layers() -> None:
    space = SearchSpace.of(tiny_model(), "component")
    schemes = schemes_of(space, space.uniform(INT8)) | {f"{BLOCK}.output.dense": PRUNED}
    with pytest.raises(UsageError) as caught:
        space.candidate(schemes)
    assert str(caught.value) == (
        "ffn_down: expected one scheme for all of its linears, found 2:4, int8; "
        "search per layer, where each linear has its own"
    )


def test_a_scheme_outside_the_space_is_refused() -> None:
    space = SearchSpace.of(tiny_model(), "component", (INT8, PRUNED))
    with pytest.raises(UsageError) as caught:
        space.uniform(DENSE)
    assert str(caught.value) == (
        "query: expected a scheme among int8, 2:4, found dense; "
        "choose one of these, or add it to the schemes of the search"
    )


def test_random_candidates_are_uniform_among_the_feasible_ones() -> None:
    space = SearchSpace.of(tiny_model("modernbert"), "component", (INT8, PRUNED))

    def two_of_each(candidate: Candidate) -> bool:
        return candidate.schemes.count("int8") == 2

    rng = np.random.default_rng(0)
    drawn = [space.random(rng, two_of_each) for _ in range(600)]
    counts = {candidate: drawn.count(candidate) for candidate in set(drawn)}
    assert len(counts) == 6
    assert all(60 < count < 140 for count in counts.values())
    assert space.random(np.random.default_rng(0), two_of_each) == drawn[0]


def test_a_random_candidate_of_an_impossible_kind_is_refused() -> None:
    space = SearchSpace.of(tiny_model(), "component")
    with pytest.raises(UsageError) as caught:
        space.random(np.random.default_rng(0), lambda candidate: False)
    assert str(caught.value) == (
        "random candidate: expected a feasible one among 10000 draws, found none; "
        "allow a larger budget"
    )


def test_names_are_short_and_unique() -> None:
    space = SearchSpace.of(tiny_model(), "component")
    names = [candidate.name for candidate in itertools.islice(space.candidates(), 1000)]
    assert names[0] == "2:4/2:4/2:4/2:4/2:4/2:4"
    assert len(set(names)) == 1000


def test_names_of_many_groups_count_the_schemes() -> None:
    schemes = ("int8",) * 10 + ("2:4",) * 5
    forwards, backwards = Candidate(schemes), Candidate(schemes[::-1])
    assert forwards.name == "10 int8, 5 2:4 #90e06aae"
    assert backwards.name != forwards.name
    assert backwards.name.startswith("10 int8, 5 2:4 #")


def test_candidates_are_ordered_by_their_texts() -> None:
    assert Candidate(("2:4", "int8")) < Candidate(("int4", "2:4")) < Candidate(("int8", "2:4"))
