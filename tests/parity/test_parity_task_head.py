"""Which output of a model is which label of a task, by the names in its configuration."""

import pytest

from nxmi_export.errors import UsageError
from nxmi_export.glue import task_named
from nxmi_export.workflow.task_head import label_order


@pytest.mark.parametrize(
    ("task", "labels", "order"),
    [
        ("mnli", ("contradiction", "entailment", "neutral"), (1, 2, 0)),
        ("mnli", ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2, 1, 0)),
        ("qnli", ("Not Entailment", "Entailment"), (1, 0)),
        ("mrpc", ("not-equivalent", "equivalent"), (0, 1)),
        ("mnli", ("LABEL_0", "LABEL_1", "LABEL_2"), (0, 1, 2)),
        ("sst2", ("label_0", "Label_1"), (0, 1)),
        ("stsb", ("LABEL_0",), (0,)),
        ("stsb", ("similarity",), (0,)),
    ],
)
def test_names_are_matched_and_made_up_ones_are_taken_as_they_are(
    task: str, labels: tuple[str, ...], order: tuple[int, ...]
) -> None:
    assert label_order("model", labels, task_named(task)) == order


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("negative", "positive"), "negative, positive"),  # of a task with as many
        (("LABEL_0", "entailment"), "LABEL_0, entailment"),
        (("entailment", "Entailment"), "entailment, Entailment"),
        (("LABEL_0x", "LABEL_1x"), "LABEL_0x, LABEL_1x"),
    ],
)
def test_other_names_are_refused_rather_than_taken_by_position(
    labels: tuple[str, ...], found: str
) -> None:
    with pytest.raises(UsageError) as error:
        label_order("model.artefact", labels, task_named("rte"))
    assert str(error.value) == (
        "model.artefact: expected the labels of rte: entailment, not_entailment, found "
        f"{found}; name the task it was trained on, or correct id2label in its configuration"
    )


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        label_order("model.artefact", ("LABEL_0", "LABEL_1"), task_named("mnli"))
    assert str(error.value) == (
        "model.artefact: expected a head with 3 outputs for mnli, found 2; "
        "name the task it was trained on"
    )
