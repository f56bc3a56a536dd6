"""A task that no benchmark has, described in a file, through every command that reads data."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nxmi_export import load
from nxmi_export.errors import UsageError
from tests.cli.command_lines import Command
from tests.cli.compress.compress_runs import Run, write_dense
from tests.tiny_models import tiny_model, toy_dataset

LABELS = ("Sports", "World News", "sci-tech")
EXAMPLES = {"train": 64, "checked": 30}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with topics.yaml, data/topics and a dense model of three classes."""
    folder = tmp_path_factory.mktemp("own")
    names = ", ".join(LABELS)
    heads = LABELS[::-1]  # of the model, whose outputs are in another order
    (folder / "topics.yaml").write_text(
        f"name: topics\ncolumns: [headline]\nlabels: [{names}]\ndev_splits: [checked]\n"
    )
    (folder / "data" / "topics").mkdir(parents=True)
    for seed, (split, count) in enumerate(EXAMPLES.items()):
        texts = list(toy_dataset(count, seed=seed).texts[0])
        labels = np.random.default_rng(seed).integers(0, len(LABELS), count)
        table = pa.table({"headline": texts, "label": labels})
        pq.write_table(table, folder / "data" / "topics" / f"{split}.parquet")
    named = {"id2label": dict(enumerate(heads)), "label2id": {n: i for i, n in enumerate(heads)}}
    write_dense(folder / "dense", tiny_model(num_hidden_layers=1, num_labels=3, **named))
    return folder


def test_a_model_of_it_is_compressed_exported_compared_and_served(
    nxmi_export: Command, own: Path, tmp_path: Path
) -> None:
    task = ("--task", own / "topics.yaml", "--data", own / "data")
    model, artefact = tmp_path / "model.pt", tmp_path / "artefact"
    outcome = nxmi_export("compress", own / "dense", *task, "--recipe", "ptq", "-o", model)
    assert outcome.code == 0, outcome.err
    compressed = Run(model).result
    assert (compressed["task"], compressed["primary_metric"]) == ("topics", "accuracy")
    assert nxmi_export("export", model, "-o", artefact).code == 0

    outcome = nxmi_export("parity", artefact, *task, "--dense", own / "dense")
    report = json.loads((artefact / "parity-topics.json").read_text())
    (split,) = report["splits"]
    assert outcome.code == (0 if split["ok"] else 1), outcome.err
    assert "topics checked: 30 examples" in outcome.out
    assert (split["dataset"]["labels"], split["dataset"]["task"]) == (list(LABELS), "topics")
    assert split["rungs"]["compressed"]["primary"] == compressed["metrics"]["compressed"]["primary"]
    page = (artefact / "report.html").read_text()
    assert f"--task {own / 'topics.yaml'}" in page

    with load(artefact, threads=1) as served:
        (prediction,) = served.predict(["a warm, witty film"])
    assert prediction.label in LABELS


def test_its_search_says_how_to_train_what_it_found(
    nxmi_export: Command, own: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found"
    outcome = nxmi_export(
        *("search", own / "dense", "--task", own / "topics.yaml", "--data", own / "data"),
        *("--target", 0.2, "--per", "component", "--keep", 1, "--slice-limit", 30, "-o", found),
        *("--schemes", "int8,int4", "--projection", "magnitude"),
    )
    assert outcome.code == 0, outcome.err
    facts = json.loads((found / "search.json").read_text())
    assert (facts["task"], facts["is_regression"]) == ("topics", False)
    assert (found / facts["task_argument"]).resolve() == own / "topics.yaml"
    assert re.search(rf"compress \S+ --task {own / 'topics.yaml'} ", outcome.out)
    recipe = found / "ranked" / "01.yaml"
    told = re.search(r"--task (\S+) --recipe 01.yaml\n", recipe.read_text())
    assert told is not None
    assert (recipe.parent / told[1]).resolve() == own / "topics.yaml"
    assert f"--task {facts['task_argument']} " in (found / "search.html").read_text()


def test_its_data_are_not_on_the_hub(nxmi_export: Command, own: Path, tmp_path: Path) -> None:
    outcome = nxmi_export(
        *("compress", own / "dense", "--task", own / "topics.yaml", "-o", tmp_path / "model.pt")
    )
    assert outcome.code == 2
    assert outcome.err.endswith(
        "error: topics: expected a data directory, because the hub has no such task, found none; "
        "give the directory of its files\n"
    )


def test_a_model_of_other_classes_is_refused(
    nxmi_export: Command, own: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text((own / "topics.yaml").read_text().replace("sci-tech", "weather"))
    outcome = nxmi_export(
        *("compress", own / "dense", "--task", other, "--data", own / "data"),
        *("-o", tmp_path / "model.pt"),
    )
    assert outcome.code == 2
    assert "weather" in outcome.err


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs in TSV files beside agree.yaml, for two classes, and scores.yaml, for a regression."""
    folder = tmp_path_factory.mktemp("pairs")
    columns = "columns: [left, right]\n"
    (folder / "agree.yaml").write_text(
        f'name: agree\n{columns}labels: ["no", "yes"]\nmetrics: [f1, matthews]\n'
    )
    (folder / "scores.yaml").write_text(f"name: scores\n{columns}score_range: [-1, 1]\n")
    for seed, (split, count) in enumerate({"train": 48, "dev": 24}.items()):
        texts, others = (toy_dataset(count, seed=each).texts[0] for each in (seed, seed + 9))
        generator = np.random.default_rng(seed)
        for name, labels in {
            "agree": generator.integers(0, 2, count).tolist(),
            "scores": generator.uniform(-1, 1, count).round(2).tolist(),
        }.items():
            rows = [f"{a}\t{b}\t{label}" for a, b, label in zip(texts, others, labels, strict=True)]
            path = folder / name / f"{split}.tsv"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(["left\tright\tlabel", *rows, ""]))
    return folder


@pytest.mark.parametrize(
    ("name", "outputs", "metric"),
    [("agree", 2, "mean of f1 and matthews"), ("scores", 1, "mean of pearson and spearman")],
)
def test_pairs_and_scores_go_the_same_way(
    nxmi_export: Command, pairs: Path, tmp_path: Path, name: str, outputs: int, metric: str
) -> None:
    task = ("--task", pairs / f"{name}.yaml", "--data", pairs)
    model, artefact = tmp_path / "model.pt", tmp_path / "artefact"
    dense = write_dense(tmp_path / "dense", tiny_model(num_hidden_layers=1, num_labels=outputs))
    outcome = nxmi_export(
        *("compress", dense, *task, "--recipe", "ptq", "-o", model),
        *("--evaluate-on", "holdout"),
    )
    assert outcome.code == 0, outcome.err
    assert nxmi_export("export", model, "-o", artefact).code == 0
    outcome = nxmi_export("parity", artefact, *task)
    (split,) = json.loads((artefact / f"parity-{name}.json").read_text())["splits"]
    assert outcome.code == (0 if split["ok"] else 1), outcome.err
    assert (split["dataset"]["primary_metric"], split["dataset"]["examples"]) == (metric, 24)
    with load(artefact, threads=1) as served:
        assert len(served.predict([("a warm film", "a dull film")])) == 1
        with pytest.raises(UsageError, match="pair"):
            served.predict(["a text where two are wanted"])

    # The same name for something else is another task.
    other = tmp_path / "other.yaml"
    other.write_text((pairs / f"{name}.yaml").read_text().replace("[left, right]", "[right, left]"))
    outcome = nxmi_export("parity", artefact, "--task", other, "--data", pairs)
    told = " ".join((outcome.err + outcome.out).split())
    assert f"compressed on {name} and not on what {other} calls so now" in told
