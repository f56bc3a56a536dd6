import math

import pytest

from nxmi_export.errors import RecipeError
from nxmi_export.recipe import Recipe


def _refusal(mapping: object) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping(mapping, source="recipe.yaml")
    return str(caught.value).removeprefix("recipe.yaml: ")


KEYS = (
    "default, schemes, overrides, embeddings, placement, weights, activations, sparsity, "
    "distillation, training"
)
UNKNOWN_KEYS = {
    "near key": ({"defualt": "int8"}, "the key 'defualt'; did you mean 'default'?"),
    "far key": ({"quantize": True}, f"the key 'quantize'; the keys are {KEYS}"),
    "capitals": ({"PLACEMENT": "sparse"}, "the key 'PLACEMENT'; did you mean 'placement'?"),
    "near key of a section": (
        {"training": {"batch-size": 16}},
        "the key 'training.batch-size'; did you mean 'training.batch_size'?",
    ),
    "far key of a section": (
        {"weights": {"bits": 8, "signed": True}},
        "the keys 'weights.bits' and 'weights.signed'; write 'default.bits' for 'weights.bits' and "
        "take out 'weights.signed'",
    ),
    "lone far key of a section": (
        {"weights": {"signed": True}},
        "the key 'weights.signed'; the keys of weights are int8_granularity, int4_granularity, "
        "calibration, learned",
    ),
    "key of a scheme": (
        {"default": {"bitz": None}},
        "the key 'default.bitz'; did you mean 'default.bits'?",
    ),
    "key of a pattern": (
        {"default": {"pattern": {"kep": 2, "group": 4}}},
        "the key 'default.pattern.kep'; did you mean 'default.pattern.keep'?",
    ),
    "key of a component's scheme": (
        {"schemes": {"query": {"patern": None}}},
        "the key 'schemes.query.patern'; did you mean 'schemes.query.pattern'?",
    ),
    "key of an override's scheme": (
        {"overrides": {"*.0.*": {"bit": 8}}},
        "the key 'overrides.*.0.*.bit'; did you mean 'overrides.*.0.*.bits'?",
    ),
    "component": (
        {"schemes": {"qery": "int8"}},
        "the key 'schemes.qery'; did you mean 'schemes.query'?",
    ),
    "far component": (
        {"schemes": {"pooler": "int8"}},
        "the key 'schemes.pooler'; the keys of schemes are query, key, value, attention_output, "
        "ffn_up, ffn_down",
    ),
    "key of a section at the top": (
        {"epochs": 3},
        "the key 'epochs'; did you mean 'training.epochs'?",
    ),
    "misspelt key of a section at the top": (
        {"epoch": 3},
        "the key 'epoch'; did you mean 'training.epochs'?",
    ),
    "key of two sections at the top": (
        {"calibration": "max"},
        "the key 'calibration'; did you mean 'weights.calibration' or 'activations.calibration'?",
    ),
    "key of another section": (
        {"training": {"rho": 1e-3}},
        "the key 'training.rho'; did you mean 'sparsity.rho'?",
    ),
    "top key in a section": (
        {"activations": {"placement": "linear"}},
        "the key 'activations.placement'; did you mean 'placement'?",
    ),
    "component at the top": (
        {"query": "int8"},
        "the key 'query'; did you mean 'schemes.query'?",
    ),
    "number as key": ({1: "int8"}, f"the key '1'; the keys are {KEYS}"),
    "number as module pattern": (
        {"overrides": {1: "int8"}},
        "the key 'overrides.1'; write it in quotes, as a pattern of module names",
    ),
    "several keys": (
        {"training": {"epoch": 2, "foo": 1}, "placment": "sparse"},
        "the keys 'training.epoch', 'training.foo' and 'placment'; write 'training.epochs' for "
        "'training.epoch', take out 'training.foo' and write 'placement' for 'placment'",
    ),
    "a key and a value": (
        {"defualt": "int8", "training": {"epochs": -1}},
        "the key 'defualt' (also wrong: training.epochs); did you mean 'default'?",
    ),
}


@pytest.mark.parametrize(("mapping", "sentence"), UNKNOWN_KEYS.values(), ids=UNKNOWN_KEYS)
def test_unknown_keys_are_refused_with_what_was_meant(mapping: object, sentence: str) -> None:
    assert _refusal(mapping) == f"expected known recipe keys, found {sentence}"


SCHEMES = "write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
WRONG_VALUES = {
    "scheme": (
        {"overrides": {"*.0.*": "int9"}},
        f"overrides.*.0.*, found 'int9'; 'int9' is not a scheme; {SCHEMES}",
    ),
    "scheme under a pattern like pydantic's key mark": (
        {"overrides": {"[key]": "int9"}},
        f"overrides.[key], found 'int9'; 'int9' is not a scheme; {SCHEMES}",
    ),
    "scheme as a number": ({"default": 8}, f"default, found 8; a scheme is a text; {SCHEMES}"),
    "no scheme": (
        {"schemes": {"query": None}},
        f"schemes.query, found nothing; a scheme is a text; {SCHEMES}",
    ),
    "long list for a scheme": (
        {"default": ["int8"] * 1000},
        "default, found ['int8', 'int8', 'int8', 'int8', 'int8', 'int8', ...]; a scheme is a text; "
        f"{SCHEMES}",
    ),
    "pattern": (
        {"default": "4:4"},
        "default, found '4:4'; 4:4 is not a pattern: 4:4 keeps every weight; write a keep below 4",
    ),
    "pattern spelt out": (
        {"default": {"pattern": {"keep": 4, "group": 4}}},
        "default.pattern, found {'group': 4, 'keep': 4}; 4:4 keeps every weight; write a keep "
        "below 4",
    ),
    "keep": (
        {"default": {"pattern": {"keep": True, "group": 4}}},
        "default.pattern.keep, found true; write a whole number",
    ),
    "bits": ({"default": {"bits": 3}}, "default.bits, found 3; bits should be 4 or 8"),
    "embeddings": (
        {"embeddings": "int4"},
        "embeddings, found 'int4'; embeddings should be 'dense' or 'int8'",
    ),
    "embeddings as a yes": (
        {"embeddings": True},
        "embeddings, found true; embeddings should be 'dense' or 'int8'",
    ),
    "placement": (
        {"placement": "spare"},
        "placement, found 'spare'; placement should be 'weights', 'linear', 'attention' or "
        "'sparse'",
    ),
    "granularity": (
        {"weights": {"int8_granularity": "row"}},
        "weights.int8_granularity, found 'row'; 'row' is not a granularity; write tensor, channel "
        "or rows:N",
    ),
    "granularity as a number": (
        {"weights": {"int4_granularity": 32}},
        "weights.int4_granularity, found 32; a granularity is a text; write tensor, channel or "
        "rows:N",
    ),
    "calibration": (
        {"activations": {"calibration": "percentile"}},
        "activations.calibration, found 'percentile'; 'percentile' is not a calibration; write "
        "max, mse or percentile:99.95",
    ),
    "calibration as a number": (
        {"weights": {"calibration": 99.95}},
        "weights.calibration, found 99.95; a calibration is a text; write max, mse or "
        "percentile:99.95",
    ),
    "mode": (
        {"activations": {"mode": "dynamc"}},
        "activations.mode, found 'dynamc'; mode should be 'static' or 'dynamic'",
    ),
    "method": (
        {"sparsity": {"method": "asp"}},
        "sparsity.method, found 'asp'; method should be 'admm', 'magnitude' or 'sr-ste'",
    ),
    "a number for a boolean": (
        {"weights": {"learned": 1}},
        "weights.learned, found 1; write true or false",
    ),
    "a boolean for a count": (
        {"training": {"epochs": True}},
        "training.epochs, found true; write a whole number",
    ),
    "a boolean for a number": (
        {"sparsity": {"rho": False}},
        "sparsity.rho, found false; write a number",
    ),
    "a text for a number": (
        {"sparsity": {"rho": "4e-3"}},
        "sparsity.rho, found '4e-3'; write a number",
    ),
    "nothing for a number": (
        {"sparsity": {"rho": None}},
        "sparsity.rho, found nothing; write a number",
    ),
    "a broken count": (
        {"training": {"batch_size": 31.5}},
        "training.batch_size, found 31.5; write a whole number",
    ),
    "several values": (
        {"training": {"epochs": -1, "warmup": 2}, "placement": "spare"},
        "placement, found 'spare' (also wrong: training.epochs, training.warmup); placement should "
        "be 'weights', 'linear', 'attention' or 'sparse'",
    ),
}


@pytest.mark.parametrize(("mapping", "sentence"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_wrong_value_is_refused_with_what_to_write(mapping: object, sentence: str) -> None:
    assert _refusal(mapping) == f"expected a valid value for {sentence}"


@pytest.mark.parametrize(
    ("sparsity", "found", "remedy"),
    [
        (
            {"rho": 1e-2},
            "rho: 0.01 with method: admm, penalty: proximal",
            "leave rho out, which belongs to method: admm, penalty: gradient",
        ),
        (
            {"penalty": "gradient", "pull_final": 0.5},
            "pull_final: 0.5 with method: admm, penalty: gradient",
            "leave pull_final out, which belongs to method: admm, penalty: proximal",
        ),
        (
            {"method": "magnitude", "decay": 0.1},
            "decay: 0.1 with method: magnitude",
            "leave decay out, which belongs to method: sr-ste",
        ),
        (
            {"method": "magnitude", "recovery": 0.5},
            "recovery: 0.5 with method: magnitude",
            "leave recovery out, which belongs to method: admm or method: sr-ste",
        ),
        (
            {"method": "sr-ste", "penalty": "gradient"},
            "penalty: gradient with method: sr-ste",
            "leave penalty out, which belongs to method: admm",
        ),
        (
            {"method": "magnitude", "updates_per_epoch": 4},
            "updates_per_epoch: 4 with method: magnitude",
            "leave updates_per_epoch out, which belongs to method: admm",
        ),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(
    sparsity: dict[str, object], found: str, remedy: str
) -> None:
    assert _refusal({"sparsity": sparsity}).endswith(f"found {found}; {remedy}")


AT_LEAST_0, AT_LEAST_1, ABOVE_0 = (
    "greater than or equal to 0",
    "greater than or equal to 1",
    "greater than 0",
)
OUT_OF_RANGE = [
    ("activations", "calibration_batches", 0, AT_LEAST_1),
    ("sparsity", "rho", 0, ABOVE_0),
    ("sparsity", "rho", -4e-3, ABOVE_0),
    ("sparsity", "rho_final", 0, ABOVE_0),
    ("sparsity", "updates_per_epoch", 0, AT_LEAST_1),
    ("sparsity", "decay", -1, AT_LEAST_0),
    ("sparsity", "recovery", 1.5, "less than or equal to 1"),
    ("distillation", "labels", -1, AT_LEAST_0),
    ("distillation", "logits", -1, AT_LEAST_0),
    ("distillation", "temperature", 0, ABOVE_0),
    ("distillation", "hidden", -1, AT_LEAST_0),
    ("distillation", "attention", -1, AT_LEAST_0),
    ("training", "epochs", -1, AT_LEAST_0),
    ("training", "batch_size", 0, AT_LEAST_1),
    ("training", "learning_rate", 0, ABOVE_0),
    ("training", "scale_learning_rate", 0, ABOVE_0),
    ("training", "warmup", -0.1, AT_LEAST_0),
    ("training", "weight_decay", -0.1, AT_LEAST_0),
    ("training", "clip_norm", 0, ABOVE_0),
    ("training", "dropout", 1, "less than 1"),
    ("training", "quantize_after", 1.1, "less than or equal to 1"),
]


@pytest.mark.parametrize(("section", "key", "number", "bound"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_refused(
    section: str, key: str, number: float, bound: str
) -> None:
    assert _refusal({section: {key: number}}) == (
        f"expected a valid value for {section}.{key}, found {number}; {key} should be {bound}"
    )


NUMBERS = sorted({row[:2] for row in OUT_OF_RANGE})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(("section", "key"), NUMBERS)
def test_no_setting_is_nan_or_infinite(section: str, key: str, number: float) -> None:
    expected = f"expected a valid value for {section}.{key}, found {number}; "
    assert _refusal({section: {key: number}}).startswith(expected)


CONFLICTS = {
    "learned and dynamic": (
        {"activations": {"mode": "dynamic", "learned": True}, "placement": "linear"},
        "expected keys of activations that go together, found mode: dynamic with learned: true; "
        "write learned: false, as a scale that follows every token cannot be learned",
    ),
    "dynamic beyond the inputs of linears": (
        {"activations": {"mode": "dynamic", "learned": False}, "placement": "sparse"},
        "expected keys that go together, found activations.mode: dynamic with placement: sparse; "
        "write placement: linear, as the other placements are for static scales",
    ),
    "no loss": (
        {"distillation": {"labels": 0, "logits": 0, "hidden": 0}},
        "expected keys of distillation that go together, found 0 for each of labels, logits, "
        "hidden and attention; give at least one of them a weight above 0",
    ),
    "percent of the maximum": (
        {"weights": {"calibration": {"method": "max", "percent": 99.9}}},
        "expected keys of weights.calibration that go together, found method: max with percent: "
        "99.9; leave percent out, which belongs to method: percentile",
    ),
}


@pytest.mark.parametrize(("mapping", "sentence"), CONFLICTS.values(), ids=CONFLICTS)
def test_keys_that_do_not_go_together_are_refused(mapping: object, sentence: str) -> None:
    assert _refusal(mapping) == sentence


@pytest.mark.parametrize(
    ("document", "found"),
    [(None, "nothing"), (["int8"], "['int8']"), ("deploy", "'deploy'"), (True, "true"), (3, "3")],
)
def test_what_is_no_mapping_is_refused(document: object, found: str) -> None:
    expected = f"expected a mapping of recipe keys, found {found}; the keys are {KEYS}"
    assert _refusal(document) == expected


@pytest.mark.parametrize(
    "section",
    ["schemes", "overrides", "weights", "activations", "sparsity", "distillation", "training"],
)
@pytest.mark.parametrize(("content", "found"), [(None, "nothing"), ("max", "'max'")])
def test_a_section_without_keys_is_refused(section: str, content: object, found: str) -> None:
    assert _refusal({section: content}) == (
        f"expected a mapping of keys for {section}, found {found}; fill {section} with keys or "
        "leave it out"
    )


def test_a_pattern_without_keep_is_refused() -> None:
    assert _refusal({"default": {"pattern": {"group": 4}}}) == (
        "expected the key default.pattern.keep, found {'group': 4}; write it too"
    )
