import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxmi_export.errors import RecipeError
from nxmi_export.recipe import Component, Pattern, Placement, Recipe, Scheme

DENSE, PRUNED, INT8 = Scheme(), Scheme.parse("2:4"), Scheme.parse("int8")


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    group = draw(st.integers(2, 32))
    return Pattern(keep=draw(st.integers(1, group - 1)), group=group)


SCHEMES = st.builds(Scheme, pattern=st.none() | patterns(), bits=st.sampled_from([None, 4, 8]))
RECIPES = st.builds(
    Recipe,
    default=SCHEMES,
    schemes=st.dictionaries(st.sampled_from(list(Component)), SCHEMES),
    overrides=st.dictionaries(st.text(min_size=1), SCHEMES, max_size=3),
    placement=st.sampled_from(list(Placement)),
)


@given(SCHEMES)
def test_a_scheme_reads_back_from_its_text(scheme: Scheme) -> None:
    assert Scheme.parse(str(scheme)) == scheme


@pytest.mark.parametrize(
    ("text", "pattern", "bits"),
    [
        ("dense", None, None),
        ("2:4", Pattern(keep=2, group=4), None),
        ("int8", None, 8),
        ("int4", None, 4),
        ("1:2+int4", Pattern(keep=1, group=2), 4),
        ("4:8+int8", Pattern(keep=4, group=8), 8),
    ],
)
def test_schemes_in_words(text: str, pattern: Pattern | None, bits: int | None) -> None:
    scheme = Scheme.parse(text)
    assert (scheme.pattern, scheme.bits) == (pattern, bits)
    assert str(scheme) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "2:4+",
        "+int8",
        "int8+2:4",
        "2:4+int8+int4",
        "int16",
        "2:4 ",
        "-2:4",
        "٢:٤",
        "sparse",
    ],
)
def test_what_is_no_scheme_is_refused(text: str) -> None:
    sentence = f"{text!r} is not a scheme; write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Scheme.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("4:4", "4:4 is not a pattern: 4:4 keeps every weight; write a keep below 4"),
        ("5:4", "5:4 is not a pattern: 5:4 keeps every weight; write a keep below 4"),
        ("0:4", "0:4 is not a pattern: input should be greater than or equal to 1"),
        ("2:64", "2:64 is not a pattern: input should be less than or equal to 32"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Scheme.parse(text)


@given(RECIPES)
def test_a_recipe_reads_back_from_its_mapping(recipe: Recipe) -> None:
    assert Recipe.from_mapping(recipe.as_mapping(), source="model.pt") == recipe


def test_the_default_recipe_is_sparse_int8_everywhere() -> None:
    assert Recipe().as_mapping() == {
        "default": "2:4+int8",
        "schemes": {},
        "overrides": {},
        "placement": "sparse",
    }


def test_an_override_wins_over_a_component_which_wins_over_the_default() -> None:
    recipe = Recipe(
        default=DENSE,
        schemes={Component.QUERY: PRUNED},
        overrides={"*.layer.0.*": INT8, "*.layer.0.attention*": DENSE},
    )
    assert recipe.scheme_of(Component.KEY, "bert.encoder.layer.1.key") == DENSE
    assert recipe.scheme_of(Component.QUERY, "bert.encoder.layer.1.query") == PRUNED
    assert recipe.scheme_of(Component.QUERY, "bert.encoder.layer.0.query") == INT8


def test_the_first_matching_override_wins() -> None:
    overrides = {"*.layer.0.query": PRUNED, "*.layer.0.*": INT8}
    recipe = Recipe(default=DENSE, overrides=overrides)
    assert recipe.scheme_of(Component.QUERY, "bert.layer.0.query") == PRUNED
    assert recipe.scheme_of(Component.KEY, "bert.layer.0.key") == INT8


@pytest.mark.parametrize("pattern", ["2:4", "1:2", "4:8", "1:4"])
def test_yaml_does_not_turn_a_pattern_into_a_base_60_number(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"default: {pattern}\nschemes:\n  query: {pattern}\n")
    recipe = Recipe.from_yaml(path)
    assert recipe.default == recipe.schemes[Component.QUERY] == Scheme.parse(pattern)


def test_yaml_may_spell_a_scheme_out(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("default: {pattern: {keep: 2, group: 4}, bits: 8}\nplacement: linear\n")
    assert Recipe.from_yaml(path) == Recipe(placement=Placement.LINEAR)


KEYS = "default, schemes, overrides, placement"
REFUSED = {
    "near key": (
        {"defualt": "int8"},
        "expected known recipe keys, found the key 'defualt'; did you mean 'default'?",
    ),
    "far key": (
        {"quantize": True},
        f"expected known recipe keys, found the key 'quantize'; the keys are {KEYS}",
    ),
    "nested key": (
        {"default": {"patern": None}},
        "expected known recipe keys, found the key 'default.patern'; did you mean 'pattern'?",
    ),
    "no string": (
        {1: "int8"},
        "expected a valid value for 1, found 1; keys should be strings",
    ),
    "component": (
        {"schemes": {"qery": "int8"}},
        "expected a valid value for schemes.qery, found 'qery'; input should be 'query', 'key', "
        "'value', 'attention_output', 'ffn_up' or 'ffn_down'",
    ),
    "scheme": (
        {"overrides": {"*.0.*": "int9"}},
        "expected a valid value for overrides.*.0.*, found 'int9'; 'int9' is not a scheme; write "
        "dense, N:M, int8, int4, N:M+int8 or N:M+int4",
    ),
    "pattern": (
        {"default": "4:4"},
        "expected a valid value for default, found '4:4'; 4:4 is not a pattern: 4:4 keeps every "
        "weight; write a keep below 4",
    ),
    "bits": (
        {"default": {"bits": 3}},
        "expected a valid value for default.bits, found 3; input should be 4 or 8",
    ),
    "placement": (
        {"placement": "spare"},
        "expected a valid value for placement, found 'spare'; input should be 'linear', "
        "'attention' or 'sparse'",
    ),
    "list": (
        ["int8"],
        f"expected a mapping of recipe keys, found list; start from one of the keys {KEYS}",
    ),
    "nothing": (
        None,
        f"expected a mapping of recipe keys, found NoneType; start from one of the keys {KEYS}",
    ),
}


@pytest.mark.parametrize(("mapping", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_recipe_is_refused_with_one_sentence(mapping: object, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping(mapping, source="recipe.yaml")
    assert str(caught.value) == f"recipe.yaml: {sentence}"


def test_a_missing_recipe_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(path)
    assert str(caught.value) == (
        f"{path}: expected a readable YAML file, found [Errno 2] No such file or directory: "
        f"'{path}'; check the path and the indentation"
    )


def test_broken_yaml_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("default: int8\n  placement: [")
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(path)
    assert str(caught.value) == (
        f"{path}: expected a readable YAML file, found mapping values are not allowed here in "
        '"<unicode string>", line 2, column 12: placement: [ ^; check the path and the indentation'
    )


def test_a_binary_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="codec can't decode byte 0xff"):
        Recipe.from_yaml(path)


def test_yaml_that_wants_to_build_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"default: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'ran'}]")
    with pytest.raises(RecipeError, match="could not determine a constructor"):
        Recipe.from_yaml(path)
    assert list(tmp_path.iterdir()) == [path]
