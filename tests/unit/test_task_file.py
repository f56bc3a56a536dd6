from pathlib import Path

import pytest

from nxmi_export.errors import UnknownTask, UsageError
from nxmi_export.glue import task_named
from nxmi_export.glue.tasks import TsvLayout
from nxmi_export.task_file import read_task, task_from

CLASSES = "name: topics\ncolumns: [headline]\nlabels: [sports, politics, science]\n"
PAIRS = "name: agree\ncolumns: [left, right]\nscore_range: [0, 5]\n"


def written(folder: Path, text: str, name: str = "task.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_describes_classes(tmp_path: Path) -> None:
    path = written(tmp_path, CLASSES)
    task = task_from(str(path))
    assert (task.name, task.text_columns, task.labels) == (
        "topics",
        ("headline",),
        ("sports", "politics", "science"),
    )
    assert (task.metrics, task.primary_metric) == (("accuracy",), "accuracy")
    assert (task.splits, task.num_outputs) == (("train", "validation"), 3)
    assert task.tsv == TsvLayout("topics", ("headline",), "label")
    assert task.hub_config is None
    assert task.argument == str(path)


def test_a_file_describes_a_regression(tmp_path: Path) -> None:
    task = read_task(written(tmp_path, PAIRS))
    assert task.is_regression
    assert task.label_bounds == (0, 5)
    assert task.primary_metric == "mean of pearson and spearman"


def test_metrics_and_dev_splits_can_be_chosen(tmp_path: Path) -> None:
    text = "name: spam\ncolumns: [text]\nlabels: [ham, spam]\nmetrics: [f1, accuracy]\n"
    task = read_task(written(tmp_path, f"{text}dev_splits: [mails, chats]\n"))
    assert task.metrics == ("accuracy", "f1")  # in one order, whatever the file's
    assert task.dev_splits == ("mails", "chats")


def test_json_will_do(tmp_path: Path) -> None:
    text = '{"name": "spam", "columns": ["text"], "labels": ["ham", "spam"]}'
    assert read_task(written(tmp_path, text, "spam.json")).labels == ("ham", "spam")


def test_a_name_is_one_of_those_that_are_known() -> None:
    assert task_from("sst2") is task_named("sst2")
    assert task_named("sst2").argument == "sst2"
    with pytest.raises(UnknownTask, match=r"or a \.yaml file that describes another"):
        task_from("topics")


def test_two_tasks_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = read_task(written(tmp_path, CLASSES))
    second = read_task(written(tmp_path, CLASSES.replace("sports, politics", "politics, sports")))
    moved = read_task(written(tmp_path, CLASSES, "elsewhere.yaml"))
    assert first.identity == moved.identity != second.identity
    assert first.argument_in(tmp_path / "found") == "../task.yaml"
    assert task_named("mrpc").identity == "mrpc"  # snapshots and journals go by it


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a mapping of keys, found None; the keys are name, columns, labels, "),
        ("name: [\n", "expected a file in YAML, found "),
        (f"{CLASSES}name: b\n", "found the key 'name' for the second time at line 4"),
        (f"{CLASSES}classes: 3\n", "expected known keys, found 'classes'; the keys are name, "),
        ("columns: [a]\nlabels: [b, c]\n", "expected the key name, found none; write it too"),
        (f"{CLASSES}metrics: accuracy\n", "expected a list for metrics, found 'accuracy'"),
        (PAIRS.replace("0, 5", "low, 5"), "expected a number for score_range.0, found 'low'"),
        (
            CLASSES.replace("sports", "7"),
            "expected a text for labels.0, found 7; write it in quotes",
        ),
        (
            CLASSES.replace("topics", "a/b"),
            "expected a name of lower-case letters, digits, - and _",
        ),
        (
            CLASSES.replace("topics", "mrpc"),
            "a name of its own, found mrpc, which GLUE or the demo",
        ),
        (CLASSES.replace("[headline]", "[]"), "expected one text column, or two, found 0; "),
        (CLASSES.replace("headline", "label"), "expected columns of texts, found label, which"),
        (PAIRS.replace("right", "left"), "expected columns that are named once each, found 'left'"),
        (CLASSES.replace("science", "sports"), "labels that are named once each, found 'sports'"),
        (CLASSES.replace("science", '" "'), "expected labels that are named once each, found ''"),
        (f"{CLASSES}score_range: [0, 1]\n", "or score_range for a regression, found both; "),
        ("name: a\ncolumns: [b]\n", "or score_range for a regression, found neither; write one"),
        ("name: a\ncolumns: [b]\nlabels: [c]\n", "expected at least two labels, found one; "),
        (
            PAIRS.replace("0, 5", "5, 0"),
            "score as score_range, found [5.0, 0.0]; write two numbers",
        ),
        (f"{CLASSES}dev_splits: [train]\n", "expected dev splits beside train, found train; "),
        (f"{CLASSES}dev_splits: [validation, dev]\n", "dev_splits that are named once each"),
        (PAIRS.replace("5]", "1e999]"), "score as score_range, found [0.0, inf]; write two"),
        (CLASSES.replace("science", "SPORTS"), "labels that are named once each, found 'sports'"),
        (f"{CLASSES}dev_splits: []\n", "expected dev splits beside train, found none; "),
        (f"{CLASSES}metrics: [f1]\n", "two labels for f1, which is of the second of two classes"),
        (f"{CLASSES}metrics: [loss]\n", "metrics of classes: accuracy, f1, matthews, found 'loss'"),
        (f"{PAIRS}metrics: [accuracy]\n", "metrics of a regression: pearson, spearman, found 'acc"),
        (
            f"{PAIRS}metrics: [pearson, pearson]\n",
            "expected metrics that are named once each, found 'pearson'; correct the list",
        ),
    ],
)
def test_what_describes_no_task_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_task(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        task_from(str(tmp_path / "none.yaml"))
    assert str(caught.value) == (
        f"{tmp_path / 'none.yaml'}: expected a task file, found no such file; check the path"
    )
