import dataclasses

import pytest

from nxmi_export.errors import UnknownTask
from nxmi_export.glue import TASKS, task_named


def test_tasks_are_the_nine_of_glue_and_the_quickstarts() -> None:
    assert list(TASKS) == [
        *("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"),
        "reviews",
    ]
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("cola", ("unacceptable", "acceptable")),
        ("sst2", ("negative", "positive")),
        ("mrpc", ("not_equivalent", "equivalent")),
        ("stsb", ()),
        ("qqp", ("not_duplicate", "duplicate")),
        ("mnli", ("entailment", "neutral", "contradiction")),
        ("qnli", ("entailment", "not_entailment")),
        ("rte", ("entailment", "not_entailment")),
        ("wnli", ("not_entailment", "entailment")),
        ("reviews", ("negative", "positive")),
    ],
)
def test_labels_are_in_the_hubs_order(name: str, labels: tuple[str, ...]) -> None:
    assert TASKS[name].labels == labels


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("cola", "matthews"),
        ("sst2", "accuracy"),
        ("mrpc", "mean of accuracy and f1"),
        ("stsb", "mean of pearson and spearman"),
        ("qqp", "mean of accuracy and f1"),
        ("mnli", "accuracy"),
        ("qnli", "accuracy"),
        ("rte", "accuracy"),
        ("wnli", "accuracy"),
        ("reviews", "accuracy"),
    ],
)
def test_primary_metric_is_the_one_glue_reports(name: str, metric: str) -> None:
    assert TASKS[name].primary_metric == metric


def test_mnli_has_two_dev_splits_and_every_other_task_one() -> None:
    assert TASKS["mnli"].splits == ("train", "validation_matched", "validation_mismatched")
    others = [task for task in TASKS.values() if task.name != "mnli"]
    assert {task.splits for task in others} == {("train", "validation")}


def test_only_stsb_is_a_regression_from_0_to_5_with_one_output() -> None:
    assert [task.name for task in TASKS.values() if task.is_regression] == ["stsb"]
    assert TASKS["stsb"].label_bounds == (0.0, 5.0)
    assert TASKS["stsb"].num_outputs == 1


def test_classification_has_one_output_per_label() -> None:
    assert TASKS["mnli"].num_outputs == 3
    assert TASKS["mnli"].label_bounds == (0.0, 2.0)
    assert TASKS["rte"].num_outputs == 2


def test_a_task_is_found_by_its_name() -> None:
    assert task_named("wnli") is TASKS["wnli"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sst-2", "did you mean sst2?"),
        ("STS-B", "did you mean stsb?"),
        ("CoLA", "did you mean cola?"),
        ("review", "did you mean reviews?"),
        ("squad_v2", "choose one of these"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_one(name: str, remedy: str) -> None:
    with pytest.raises(UnknownTask) as caught:
        task_named(name)
    assert str(caught.value) == (
        "task: expected one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, reviews, or a "
        ".yaml file that describes another, "
        f"found {name!r}; {remedy}"
    )


def test_no_task_can_be_added() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        TASKS["new"] = TASKS["cola"]  # type: ignore[index]


def test_no_task_can_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS["cola"].name = "new"  # type: ignore[misc]
