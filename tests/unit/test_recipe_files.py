from pathlib import Path

import pytest

from nxmi_export.errors import RecipeError
from nxmi_export.recipe import Component, Placement, Recipe, Scheme


def _recipe(folder: Path, text: str | bytes, name: str = "recipe.yaml") -> Recipe:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Recipe.from_yaml(path)


def _refusal(folder: Path, text: str | bytes, name: str = "recipe.yaml") -> str:
    with pytest.raises(RecipeError) as caught:
        _recipe(folder, text, name)
    return str(caught.value).removeprefix(f"{folder / name}: ")


@pytest.mark.parametrize("pattern", ["2:4", "1:2", "4:8", "1:4"])
def test_a_pattern_is_no_base_60_number(pattern: str, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, f"default: {pattern}\nschemes:\n  query: {pattern}\n")
    assert recipe.default == recipe.schemes[Component.QUERY] == Scheme.parse(pattern)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("7.e-5", 7e-5),
        (".5", 0.5),
        ("5e1", 50.0),
        ("+2", 2.0),
        ("3", 3.0),
    ],
)
def test_numbers_need_no_dot(text: str, number: float, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, f"training: {{learning_rate: {text}}}")
    assert recipe.training.learning_rate == number


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("epochs: 010", "training.epochs, found '010'; write a whole number"),
        ("epochs: 08", "training.epochs, found '08'; write a whole number"),
        ("epochs: 0x10", "training.epochs, found '0x10'; write a whole number"),
        ("epochs: 1_000", "training.epochs, found '1_000'; write a whole number"),
        ("epochs: 1:30", "training.epochs, found '1:30'; write a whole number"),
        ("epochs: 2024-01-01", "training.epochs, found '2024-01-01'; write a whole number"),
        ("epochs: 2024-13-45", "training.epochs, found '2024-13-45'; write a whole number"),
        ("epochs: 1e1", "training.epochs, found 10.0; write a whole number"),
        ("epochs: yes", "training.epochs, found 'yes'; write a whole number"),
        ("warmup: .nan", "training.warmup, found '.nan'; write a number"),
        ("warmup: -.inf", "training.warmup, found '-.inf'; write a number"),
        ("warmup: '0.1'", "training.warmup, found '0.1'; write a number"),
        (
            "clip_norm: 1e400",
            "training.clip_norm, found inf; clip_norm should be a finite number",
        ),
    ],
)
def test_what_only_looks_like_a_number_is_refused(
    setting: str, sentence: str, tmp_path: Path
) -> None:
    message = _refusal(tmp_path, f"training: {{{setting}}}")
    assert message == f"expected a valid value for {sentence}"


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_true_is_a_boolean(word: str, tmp_path: Path) -> None:
    assert _recipe(tmp_path, f"weights: {{learned: {word}}}").weights.learned is True


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "N"])
def test_yes_and_no_are_texts(word: str, tmp_path: Path) -> None:
    assert _refusal(tmp_path, f"weights: {{learned: {word}}}") == (
        f"expected a valid value for weights.learned, found {word!r}; write true or false"
    )


def test_a_module_pattern_may_be_called_no(tmp_path: Path) -> None:
    assert _recipe(tmp_path, "overrides: {no: int8}").overrides == {"no": Scheme.parse("int8")}


def test_yaml_may_spell_a_scheme_out(tmp_path: Path) -> None:
    text = "default: {pattern: {keep: 2, group: 4}, bits: 8}\nplacement: linear\n"
    assert _recipe(tmp_path, text) == Recipe(placement=Placement.LINEAR)


def test_yaml_may_share_values_by_anchor(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "schemes: {query: &a int8, key: *a}")
    assert recipe.schemes[Component.QUERY] == recipe.schemes[Component.KEY]


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.json"])
def test_a_byte_order_mark_is_no_part_of_a_recipe(name: str, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, '\ufeff{"default": "int8"}\r\n', name)
    assert recipe.default == Scheme.parse("int8")


def test_json_may_be_indented_by_tabs(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, '{\n\t"default": "2:4"\n}', "recipe.JSON")
    assert recipe.default == Scheme.parse("2:4")


YAML_REFUSED = {
    "indentation": (
        "default: int8\n  placement: [",
        "mapping values are not allowed here at line 2, column 12",
    ),
    "key twice": (
        "default: int8\nplacement: linear\ndefault: int4",
        "the key 'default' for the second time at line 3, column 1",
    ),
    "quoted key twice": (
        "default: int8\n'default': int8",
        "the key 'default' for the second time at line 2, column 1",
    ),
    "nested key twice": (
        "training:\n  epochs: 1\n  warmup: 0\n  epochs: 1",
        "the key 'epochs' for the second time at line 4, column 3",
    ),
    "two documents": ("default: int8\n---\ndefault: int4", "another document at line 2, column 1"),
    "list as key": ("[default]: int8", "unhashable key at line 1, column 1"),
    "unknown anchor": ("default: *a", "undefined alias 'a' at line 1, column 10"),
    "tag": (
        "default: !!bool maybe",
        "the tag 'tag:yaml.org,2002:bool' at line 1, column 10",
    ),
    "null character": (
        "default: \0",
        "unacceptable character #x0000: special characters are not allowed in "
        '"<unicode string>", position 9',
    ),
}


@pytest.mark.parametrize(("text", "found"), YAML_REFUSED.values(), ids=YAML_REFUSED)
def test_broken_yaml_is_refused_with_its_place(text: str, found: str, tmp_path: Path) -> None:
    message = _refusal(tmp_path, text)
    assert message == f"expected a file in YAML, found {found}; correct the file there"


JSON_REFUSED = {
    "empty": ("", "Expecting value: line 1 column 1 (char 0)"),
    "key twice": (
        '{"training": {"epochs": 1, "epochs": 2}}',
        "the key 'epochs' for the second time",
    ),
    "NaN": ('{"training": {"warmup": NaN}}', "NaN, which is no number of JSON"),
    "infinity": ('{"training": {"warmup": -Infinity}}', "-Infinity, which is no number of JSON"),
    "yaml": ("default: int8", "Expecting value: line 1 column 1 (char 0)"),
}


@pytest.mark.parametrize(("text", "found"), JSON_REFUSED.values(), ids=JSON_REFUSED)
def test_broken_json_is_refused(text: str, found: str, tmp_path: Path) -> None:
    message = _refusal(tmp_path, text, "recipe.json")
    assert message == f"expected a file in JSON, found {found}; correct the file there"


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.json"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[" * 100_000, "maximum recursion depth exceeded"),
        (f'{{"training": {{"epochs": {"9" * 5000}}}}}', "Exceeds the limit"),
    ],
    ids=["brackets", "digits"],
)
def test_a_monstrous_file_is_refused(text: str, found: str, name: str, tmp_path: Path) -> None:
    assert f"found {found}" in _refusal(tmp_path, text, name)


def test_a_missing_recipe_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(path)
    assert str(caught.value) == (
        f"{path}: expected a recipe file, found no such file; check the path"
    )


def test_a_directory_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: expected a recipe file, found a directory; check the path"
    )


def test_a_path_with_a_null_character_is_refused() -> None:
    with pytest.raises(RecipeError, match="expected a recipe file, found embedded null byte; "):
        Recipe.from_yaml(Path("a\0b.yaml"))


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.json"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"\xff\xfed\x00", "the byte 0xff at offset 0"),
        ("# ρ\n".encode("iso-8859-7"), "the byte 0xf1 at offset 2"),
    ],
)
def test_a_recipe_in_another_encoding_is_refused(
    text: bytes, found: str, name: str, tmp_path: Path
) -> None:
    assert _refusal(tmp_path, text, name) == (
        f"expected a recipe file in UTF-8, found {found}; save it as UTF-8, or name another file"
    )


def test_yaml_that_wants_to_build_objects_is_refused(tmp_path: Path) -> None:
    text = f"default: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'ran'}]"
    assert _refusal(tmp_path, text) == (
        "expected a file in YAML, found the tag "
        "'tag:yaml.org,2002:python/object/apply:pathlib.Path.touch' at line 1, column 10; "
        "correct the file there"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
