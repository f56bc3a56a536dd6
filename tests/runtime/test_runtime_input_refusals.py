"""What a caller asks of a deployed model and cannot have, each in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nxmi_export
from nxmi_export.artefact import CPU_MODEL
from nxmi_export.errors import ShapeError, UsageError
from nxmi_export.runtime import TaskModel
from tests.pipeline.parity_project import Project


@pytest.fixture(scope="module")
def model(sst2: Project) -> TaskModel:
    return nxmi_export.load(sst2.artefact)


def unloaded(artefact: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        nxmi_export.load(artefact, **options)
    return str(caught.value)


def refused(model: TaskModel, texts: Any) -> str:
    with pytest.raises(UsageError) as caught:
        model.predict(texts)
    return str(caught.value)


@pytest.mark.parametrize("option", ["threads", "batch_size", "batch_tokens", "max_length"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_number_that_cannot_be_is_refused(option: str, value: object, sst2: Project) -> None:
    assert unloaded(sst2.artefact, **{option: value}) == (
        f"{option}: expected a whole number from 1, found {value!r}; correct it"
    )


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (65, "max_length: expected at most the 64 positions of the model, found 65; truncate to "),
        (3, "max_length: expected more than the 3 special tokens of a text, found 3; allow more "),
    ],
)
def test_a_length_that_the_model_cannot_have_is_refused(
    length: int, said: str, sst2: Project
) -> None:
    assert said in unloaded(sst2.artefact, max_length=length)


@pytest.mark.parametrize(
    ("texts", "found"),
    [("a fine film", "a lone str"), (b"a film", "a lone bytes"), (None, "a lone NoneType")],
)
def test_what_is_no_list_is_refused(texts: Any, found: str, model: TaskModel) -> None:
    assert refused(model, texts) == (
        "predicting: expected a list of texts, or of pairs of texts, "
        f"found {found}; put it in a list"
    )


@pytest.mark.parametrize(
    ("texts", "place", "found"),
    [
        (["a film", None], 1, "a NoneType"),
        ([b"a film"], 0, "a bytes"),
        ([("a", "b", "c")], 0, "a tuple"),
        ([["a", 3]], 0, "a list"),
    ],
)
def test_what_is_no_text_is_refused(texts: Any, place: int, found: str, model: TaskModel) -> None:
    assert refused(model, texts) == (
        f"input {place}: expected a text or a pair of texts, found {found}; convert it to str first"
    )


def test_half_a_surrogate_pair_is_no_text(model: TaskModel) -> None:
    assert refused(model, ["a", "b\ud800"]) == (
        "input 1: expected Unicode text, found half of a surrogate pair at character 1; "
        "decode the bytes it came from in their own encoding"
    )


def test_a_pair_is_refused_where_training_had_single_texts(model: TaskModel) -> None:
    assert refused(model, [("a", "b")]) == (
        "input 0: expected one text, as in training, found a pair of texts; pass each text alone"
    )


def test_a_single_text_is_refused_where_training_had_pairs(changed: Callable[..., Path]) -> None:
    with nxmi_export.load(changed(provenance={"task": "mrpc"})) as model:
        said = refused(model, [("a", "b"), "c"])
    assert said == (
        "input 1: expected a pair of texts, as in training, found one text; pass each as "
        "(first, second)"
    )


def test_where_the_task_is_unknown_all_inputs_are_like_the_first(
    changed: Callable[..., Path],
) -> None:
    with nxmi_export.load(changed(provenance={"source": "my-model"})) as model:
        assert len(model.predict(["a"])) == len(model.predict([("a", "b")])) == 1
        said = refused(model, ["a", ("a", "b")])
    assert said == (
        "input 1: expected one text, as the first, found a pair of texts; pass each text alone"
    )


def test_a_batch_that_the_graph_cannot_run_is_refused(copy: Project) -> None:
    copy.configure(max_position_embeddings=80)
    copy.change(position_limit=80)
    artefact = copy.artefact
    with nxmi_export.load(artefact) as model, pytest.raises(ShapeError) as caught:
        model.predict(["fine " * 100])
    assert str(caught.value).startswith(
        f"{artefact / CPU_MODEL}: a batch of input_ids 1×80, attention_mask 1×80, "
        "token_type_ids 1×80: expected as many tokens as the model has positions"
    )


def test_a_closed_model_refuses_calls(sst2: Project) -> None:
    with nxmi_export.load(sst2.artefact) as model:
        model.predict(["a fine film"])
    assert refused(model, ["a fine film"]) == (
        f"{sst2.artefact}: expected an open model, found one that was closed; load it again, or "
        "predict inside its `with` block"
    )
