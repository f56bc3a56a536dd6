from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from nxmi_export.errors import RecipeError
from nxmi_export.recipe import (
    PRESETS,
    Calibration,
    DistillationSettings,
    Granularity,
    Placement,
    Recipe,
    Scheme,
    preset,
    recipe_from,
)

BASELINES = ("admm", "asp", "sr-ste", "qat", "asp+qat", "sequential")
EXPECTED = f"expected a file that ends in .yaml or .json, or a preset out of {', '.join(PRESETS)}"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_reads_back(name: str) -> None:
    recipe = preset(name)
    assert Recipe.from_mapping(recipe.as_mapping(), source=name) == recipe


def test_exactly_the_named_presets_ship_with_the_package() -> None:
    folder = files("nxmi_export.recipe") / "presets"
    shipped = {entry.name for entry in folder.iterdir() if entry.is_file()}
    assert shipped == {f"{name}.yaml" for name in PRESETS}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_opens_with_a_comment_that_says_what_it_is(name: str) -> None:
    text = (files("nxmi_export.recipe") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")


def test_no_two_presets_are_the_same_recipe() -> None:
    recipes = [preset(name).as_mapping() for name in PRESETS]
    assert [recipes.index(recipe) for recipe in recipes] == list(range(len(PRESETS)))


def test_deploy_is_the_default_recipe() -> None:
    assert Recipe() == preset("deploy")


def test_paper_makes_the_original_choices() -> None:
    recipe = preset("paper")
    assert recipe.default == Scheme.parse("2:4+int8")
    assert recipe.placement is Placement.LINEAR
    assert recipe.weights.int8_granularity == Granularity.parse("tensor")
    assert recipe.weights.int4_granularity == Granularity.parse("rows:32")
    assert recipe.weights.calibration == Calibration(method="max")
    assert not recipe.weights.learned
    assert recipe.activations.mode == "dynamic"
    assert not recipe.distillation.needs_teacher


def test_paper_trains_as_the_original_does() -> None:
    sparsity, training = preset("paper").sparsity, preset("paper").training
    assert (sparsity.method, sparsity.initial) == ("admm", "magnitude")
    assert sparsity.rho in {1e-3, 4e-3, 1e-2}  # the original's grid
    assert sparsity.rho_final is None
    assert (sparsity.updates_per_epoch, sparsity.recovery) == (1, 0)
    assert (training.epochs, training.batch_size) == (10, 16)
    assert training.learning_rate in {5e-5, 7e-5, 1e-4}  # the original's grid
    assert (training.warmup, training.weight_decay, training.clip_norm) == (0, 0, 1)
    assert (training.trained, training.quantize_after) == ("compressed", 0)


@pytest.mark.parametrize(("name", "scheme"), [("deploy", "2:4+int8"), ("w4", "2:4+int4")])
def test_what_deploys_has_static_scales_everywhere_and_a_teacher(name: str, scheme: str) -> None:
    recipe = preset(name)
    assert recipe.default == Scheme.parse(scheme)
    assert recipe.placement is Placement.SPARSE
    assert recipe.activations.mode == "static"
    assert recipe.weights.int8_granularity == Granularity.parse("channel")
    assert recipe.weights.int4_granularity == Granularity.parse("channel")
    assert recipe.weights.learned
    assert recipe.activations.learned
    assert recipe.distillation.logits
    assert recipe.distillation.hidden


BASELINE_CLAIMS: dict[str, tuple[str, Callable[[Recipe], bool]]] = {
    "admm": ("2:4", lambda r: r.sparsity.method == "admm" and not r.sparsity.recovery),
    "asp": ("2:4", lambda r: r.sparsity.method == "magnitude"),
    "sr-ste": ("2:4", lambda r: r.sparsity.method == "sr-ste" and not r.sparsity.recovery),
    "qat": ("int8", lambda r: r.training.quantize_after == 0),
    "asp+qat": (
        "2:4+int8",
        lambda r: r.sparsity.method == "magnitude" and r.training.quantize_after == 0,
    ),
    "sequential": (
        "2:4+int8",
        lambda r: r.sparsity.method == "magnitude" and 0 < r.training.quantize_after < 1,
    ),
}


def test_ptq_is_deploys_scheme_without_anything_that_trains() -> None:
    recipe, deploy = preset("ptq"), preset("deploy")
    assert (recipe.default, recipe.placement) == (deploy.default, deploy.placement)
    assert recipe.activations.calibration == deploy.activations.calibration
    assert recipe.training.epochs == 0
    assert (recipe.sparsity.method, recipe.sparsity.initial) == ("magnitude", "reconstruction")
    assert not recipe.weights.learned
    assert not recipe.activations.learned


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_what_its_name_says(name: str) -> None:
    recipe = preset(name)
    scheme, holds = BASELINE_CLAIMS[name]
    assert recipe.default == Scheme.parse(scheme)
    assert holds(recipe)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_have_no_teacher_and_share_one_budget_with_deploy(name: str) -> None:
    recipe, deploy = preset(name), preset("deploy")
    assert recipe.distillation == DistillationSettings(logits=0, hidden=0)
    # but for the rate's fall, which is over the whole run as they are published
    assert recipe.training.cooldown == 1
    same = recipe.training.model_copy(update={"quantize_after": 0.0, "cooldown": 0.3})
    assert same == deploy.training


@pytest.mark.parametrize("name", ["qat", "asp+qat", "sequential"])
def test_quantized_baselines_use_plain_straight_through_quantizers(name: str) -> None:
    recipe = preset(name)
    assert not recipe.weights.learned
    assert not recipe.activations.learned
    assert recipe.weights.int8_granularity == Granularity.parse("channel")
    assert recipe.activations.mode == "static"


def test_sequential_differs_from_asp_and_qat_at_once_in_the_order_only() -> None:
    at_once = preset("asp+qat").as_mapping()
    at_once["training"]["quantize_after"] = 0.5
    assert preset("sequential").as_mapping() == at_once


@pytest.mark.parametrize(
    ("text", "near"),
    [("deplyo", "deploy"), ("DEPLOY", "deploy"), ("sr_ste", "sr-ste"), ("asp-qat", "asp+qat")],
)
def test_a_name_near_a_preset_suggests_it(text: str, near: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from(text)
    assert (
        str(caught.value) == f"recipe {text!r}: {EXPECTED}, found neither; did you mean {near!r}?"
    )


@pytest.mark.parametrize("text", ["", "bert", "./deploy", "no\0name"])
def test_a_name_near_nothing_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        preset(text)
    assert str(caught.value).startswith(f"recipe {text!r}: {EXPECTED}, found neither; ")


def test_the_empty_name_is_not_the_working_directory() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from("")
    assert str(caught.value) == f"recipe '': {EXPECTED}, found neither; name one of the two"


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.YAML", "mine"])
def test_a_recipe_can_be_named_by_its_path(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("default: int4\n")
    assert recipe_from(str(tmp_path / name)) == Recipe(default=Scheme.parse("int4"))


def test_a_preset_wins_over_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w4").write_text("default: dense\n")
    monkeypatch.chdir(tmp_path)
    assert recipe_from("w4") == preset("w4")
    assert recipe_from("./w4") == Recipe(default=Scheme())


@pytest.mark.parametrize("name", ["gone.yaml", "gone.yml", "gone.json"])
def test_a_path_without_a_file_is_refused_as_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from(str(tmp_path / name))
    sentence = "expected a recipe file, found no such file; check the path"
    assert str(caught.value) == f"{tmp_path / name}: {sentence}"
