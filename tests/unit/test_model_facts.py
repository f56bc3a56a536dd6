from typing import Any

import pytest

from nxmi_export.errors import UnsupportedModel
from nxmi_export.model_facts import ModelFacts, model_facts
from tests.tiny_models import ARCHITECTURES, logits_of, tiny_config, tiny_model, toy_batch

MASKED = ("input_ids", "attention_mask")


@pytest.mark.parametrize(
    ("model_type", "inputs"),
    [
        ("bert", (*MASKED, "token_type_ids")),
        ("roberta", MASKED),
        ("xlm-roberta", MASKED),
        ("camembert", MASKED),
        ("distilbert", MASKED),
        ("electra", (*MASKED, "token_type_ids")),
        ("albert", (*MASKED, "token_type_ids")),
        ("mobilebert", (*MASKED, "token_type_ids")),
        ("modernbert", MASKED),
    ],
)
def test_inputs_and_limits_of_every_architecture(model_type: str, inputs: tuple[str, ...]) -> None:
    facts = model_facts(tiny_config(model_type).to_dict())
    assert facts == ModelFacts(model_type, inputs, 64, ("LABEL_0", "LABEL_1"))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_position_limit_is_the_longest_sequence_that_runs(model_type: str) -> None:
    model = tiny_model(model_type)
    limit = model_facts(model.config.to_dict()).position_limit
    feeds = toy_batch(model_type, sequence=limit)
    feeds["input_ids"][:] = 5  # no padding, which takes no position in RoBERTa
    assert logits_of(model, feeds).isfinite().all()
    longer = {name: value.repeat(1, 2)[:, : limit + 1] for name, value in feeds.items()}
    if model_type == "modernbert":  # rotates by position without a table, and was trained up to it
        assert logits_of(model, longer).isfinite().all()
        return
    with pytest.raises((IndexError, RuntimeError)):
        logits_of(model, longer)


@pytest.mark.parametrize(("padding", "limit"), [(1, 64), (0, 65), (None, 64)])
def test_positions_of_roberta_start_behind_its_padding_index(
    padding: int | None, limit: int
) -> None:
    config = tiny_config("roberta").to_dict() | {"pad_token_id": padding}
    assert model_facts(config).position_limit == limit


def test_labels_come_in_the_order_of_the_logits() -> None:
    names = {str(index): f"class {index}" for index in reversed(range(12))}
    facts = model_facts(tiny_config().to_dict() | {"id2label": names})
    assert facts.labels == tuple(f"class {index}" for index in range(12))


def test_a_regression_has_one_label() -> None:
    assert len(model_facts(tiny_config(num_labels=1).to_dict()).labels) == 1


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"max_position_embeddings": 512}, "configuration: {}, found no model_type in its"),
        ({"model_type": "xlnet"}, "xlnet: {}, found no max_position_embeddings in its"),
    ],
)
def test_a_configuration_without_the_facts_is_refused(
    config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        model_facts(config)
    expected = sentence.format("expected a transformers encoder with a position table")
    assert str(caught.value) == (
        f"{expected} configuration; start from one of the encoders that the README lists"
    )
