import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from nxmi_export.recipe import (
    ActivationSettings,
    Calibration,
    Component,
    DistillationSettings,
    Granularity,
    Pattern,
    Placement,
    Recipe,
    Scheme,
    SparsitySettings,
    TrainingSettings,
    WeightSettings,
)

DENSE, PRUNED, INT8 = Scheme(), Scheme.parse("2:4"), Scheme.parse("int8")

SHARES = st.floats(0, 1)
PULLS = st.floats(0, 1, exclude_min=True, exclude_max=True)
WEIGHTS = st.floats(0, allow_infinity=False)
POSITIVE = st.floats(0, allow_infinity=False, exclude_min=True)
COUNTS = st.integers(1, 10**12)
GRANULARITIES = st.builds(Granularity, rows=st.none() | st.integers(1, 999_999))
CALIBRATIONS = st.sampled_from([Calibration(), Calibration(method="mse")]) | st.builds(
    Calibration, method=st.just("percentile"), percent=st.floats(0, 100, exclude_min=True)
)


@st.composite
def schemes(draw: st.DrawFn) -> Scheme:
    group = draw(st.integers(2, 32))
    pattern = st.none() | st.builds(Pattern, keep=st.integers(1, group - 1), group=st.just(group))
    return Scheme(pattern=draw(pattern), bits=draw(st.sampled_from([None, 4, 8])))


# Every value that each key can have, whatever the others are.
KEYS: dict[type[BaseModel], dict[str, st.SearchStrategy[object]]] = {
    WeightSettings: {
        "int8_granularity": GRANULARITIES,
        "int4_granularity": GRANULARITIES,
        "calibration": CALIBRATIONS,
        "learned": st.booleans(),
    },
    ActivationSettings: {
        "mode": st.sampled_from(["static", "dynamic"]),
        "calibration": CALIBRATIONS,
        "calibration_batches": COUNTS,
        "learned": st.booleans(),
    },
    SparsitySettings: {
        "method": st.sampled_from(["admm", "magnitude", "sr-ste"]),
        "initial": st.sampled_from(["magnitude", "reconstruction"]),
        "penalty": st.sampled_from(["gradient", "proximal"]),
        "rho": POSITIVE,
        "rho_final": st.none() | POSITIVE,
        "pull": PULLS,
        "pull_final": PULLS,
        "updates_per_epoch": COUNTS,
        "decay": WEIGHTS,
        "recovery": SHARES,
    },
    DistillationSettings: {
        "labels": WEIGHTS,
        "logits": WEIGHTS,
        "temperature": POSITIVE,
        "hidden": WEIGHTS,
        "attention": WEIGHTS,
    },
    TrainingSettings: {
        "epochs": st.integers(0, 10**12),
        "batch_size": COUNTS,
        "learning_rate": POSITIVE,
        "scale_learning_rate": POSITIVE,
        "warmup": SHARES,
        "cooldown": SHARES,
        "weight_decay": WEIGHTS,
        "clip_norm": POSITIVE,
        "dropout": st.none() | st.floats(0, 1, exclude_max=True),
        "trained": st.sampled_from(["all", "encoder", "compressed"]),
        "quantize_after": SHARES,
    },
}


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    def settings(kind: type[BaseModel]) -> dict[str, object]:
        return draw(st.fixed_dictionaries(KEYS[kind]))

    placement = draw(st.sampled_from(list(Placement)))
    activations, distillation = settings(ActivationSettings), settings(DistillationSettings)
    sparsity = settings(SparsitySettings)
    # The rules that tie keys together; tests/unit/test_recipe_refusals.py has their breaches.
    if activations["learned"] or placement is not Placement.LINEAR:
        activations["mode"] = "static"
    if not any(distillation[key] for key in ("labels", "logits", "hidden", "attention")):
        distillation["labels"] = 1.0
    penalty = sparsity["penalty"] if sparsity["method"] == "admm" else sparsity["method"]
    admm = {"penalty", "updates_per_epoch", "recovery"}
    read = {
        "gradient": admm | {"rho", "rho_final"},
        "proximal": admm | {"pull", "pull_final"},
        "sr-ste": {"decay", "recovery"},
        "magnitude": set[str](),
    }[str(penalty)]
    defaults = SparsitySettings().model_dump()
    kept = {"method", "initial"} | read
    sparsity = {key: value if key in kept else defaults[key] for key, value in sparsity.items()}
    return Recipe(
        default=draw(schemes()),
        schemes=draw(st.dictionaries(st.sampled_from(list(Component)), schemes())),
        overrides=draw(st.dictionaries(st.text(), schemes(), max_size=3)),
        embeddings=draw(st.sampled_from(["dense", "int8"])),
        placement=placement,
        weights=WeightSettings.model_validate(settings(WeightSettings)),
        activations=ActivationSettings.model_validate(activations),
        sparsity=SparsitySettings.model_validate(sparsity),
        distillation=DistillationSettings.model_validate(distillation),
        training=TrainingSettings.model_validate(settings(TrainingSettings)),
    )


@pytest.mark.parametrize("kind", KEYS, ids=lambda kind: kind.__name__)
def test_the_round_trips_below_draw_every_key(kind: type[BaseModel]) -> None:
    assert list(KEYS[kind]) == list(kind.model_fields)


@given(recipes())
def test_a_recipe_reads_back_from_its_mapping(recipe: Recipe) -> None:
    assert Recipe.from_mapping(recipe.as_mapping(), source="model.pt") == recipe


@given(recipes())
def test_a_recipe_reads_back_from_a_json_file(
    tmp_path_factory: pytest.TempPathFactory, recipe: Recipe
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps(recipe.as_mapping(), ensure_ascii=False), encoding="utf-8")
    assert Recipe.from_yaml(path) == recipe


@given(recipes())
def test_a_recipe_reads_back_from_a_yaml_file(
    tmp_path_factory: pytest.TempPathFactory, recipe: Recipe
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    # PyYAML writes YAML 1.1, which leaves the quotes away around some texts that are numbers here
    mapping = recipe.as_mapping() | {"overrides": {"*.layer.0.*": "2:4"}}
    path.write_text(yaml.safe_dump(mapping), encoding="utf-8")
    assert Recipe.from_yaml(path).as_mapping() == mapping


@given(recipes())
def test_the_order_of_overrides_survives(recipe: Recipe) -> None:
    again = Recipe.from_mapping(recipe.as_mapping(), source="model.pt")
    assert list(again.overrides) == list(recipe.overrides)


def test_the_default_recipe_in_plain_data() -> None:
    assert Recipe().as_mapping() == {
        "default": "2:4+int8",
        "schemes": {},
        "overrides": {},
        "embeddings": "dense",
        "placement": "sparse",
        "weights": {
            "int8_granularity": "channel",
            "int4_granularity": "channel",
            "calibration": "max",
            "learned": True,
        },
        "activations": {
            "mode": "static",
            "calibration": "percentile:99.95",
            "calibration_batches": 16,
            "learned": True,
        },
        "sparsity": {
            "method": "admm",
            "initial": "reconstruction",
            "penalty": "proximal",
            "rho": 4e-3,
            "rho_final": None,
            "pull": 0.5,
            "pull_final": 0.9,
            "updates_per_epoch": 1,
            "decay": 2e-4,
            "recovery": 0.3,
        },
        "distillation": {
            "labels": 1.0,
            "logits": 1.0,
            "temperature": 1.0,
            "hidden": 1.0,
            "attention": 0.0,
        },
        "training": {
            "epochs": 10,
            "batch_size": 32,
            "learning_rate": 1e-4,
            "scale_learning_rate": 1e-3,
            "warmup": 0.1,
            "cooldown": 0.3,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
            "dropout": 0.0,
            "trained": "encoder",
            "quantize_after": 0.0,
        },
    }


def test_a_recipe_from_before_a_key_existed_takes_its_default() -> None:
    assert Recipe.from_mapping({"default": "2:4+int8"}, source="model.pt") == Recipe()


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Recipe().placement = Placement.LINEAR
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Recipe().training.epochs = 3


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


def test_override_patterns_tell_upper_case_from_lower_case() -> None:
    recipe = Recipe(default=DENSE, overrides={"*.Layer.0.*": INT8})
    assert recipe.scheme_of(Component.KEY, "bert.layer.0.key") == DENSE


@pytest.mark.parametrize("term", ["logits", "hidden", "attention"])
def test_every_comparison_with_the_dense_model_needs_a_teacher(term: str) -> None:
    none = {"labels": 1.0, "logits": 0.0, "hidden": 0.0, "attention": 0.0}
    assert not DistillationSettings.model_validate(none).needs_teacher
    assert DistillationSettings.model_validate(none | {term: 0.5}).needs_teacher
