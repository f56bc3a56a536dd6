"""What a finished run leaves: a model, everything about it, a log, a plot and a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from nxmi_export.checkpoint import checkpoint_sha256, read_checkpoint, write_checkpoint
from nxmi_export.compression.sparsity import pattern_mask
from nxmi_export.glue import task_named
from nxmi_export.recipe import PRESETS, Pattern, Recipe, preset
from tests.cli.command_lines import Command
from tests.cli.compress.compress_runs import (
    BATCH,
    DEV,
    LAYERS,
    TRAIN,
    Run,
    write_dense,
    write_task,
)
from tests.cli.test_cli_start import ENGINES, HEAVY, loaded_by
from tests.tiny_models import tiny_model

STEPS = 2 * TRAIN // BATCH


def test_everything_lies_beside_the_model_and_nothing_else(finished: Run) -> None:
    names = {path.name for path in finished.model.parent.iterdir()}
    endings = ("compress.json", "compress.jsonl", "compress.svg")
    assert names == {"model.pt", *(f"model.{ending}" for ending in endings)}


def test_the_log_has_a_line_for_every_step_and_epoch(finished: Run) -> None:
    log = finished.log
    steps = [line for line in log if line["event"] == "step"]
    epochs = [line for line in log if line["event"] == "epoch"]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert [(line["epoch"], line["step"]) for line in epochs] == [(1, STEPS // 2), (2, STEPS)]
    assert log == sorted(log, key=lambda line: line["step"])
    assert [line["seconds"] for line in log] == sorted(line["seconds"] for line in log)
    for step in steps:
        assert step["losses"].keys() == {"labels", "logits", "hidden"}
        assert step["loss"] == pytest.approx(sum(step["losses"].values()))
        assert step["learning_rate"] > 0
    for epoch in epochs:
        assert epoch["metrics"].keys() == epoch["projected"].keys() == {"accuracy"}
    assert epochs[0]["residuals"].keys() == {"primal", "dual", "churn", "rho"}
    assert epochs[1]["residuals"] is None  # after the projection there is nothing to agree on


def test_the_result_tells_how_it_was_made(
    finished: Run, dense: Path, data: Path, recipe: Path
) -> None:
    result = finished.result
    assert result["schema"] == "nxmi-export/compress/1"
    assert result["recipe"] == Recipe.from_yaml(recipe).as_mapping()
    assert result["options"] == {
        "recipe": "small",
        "seed": 0,
        "limit": None,
        "max_length": 128,
        "precision": "fp32",
        "compiled": False,
        "accumulation": 1,
        "evaluate_on": "dev",
        "holdout": 0.1,
        "processes": 1,
        "continued": [],
    }
    sha256 = checkpoint_sha256(data / "sst2" / "train.parquet")
    assert result["data"]["train"] == {
        "split": "train",
        "examples": TRAIN,
        "source": str(data / "sst2" / "train.parquet"),
        "sha256": sha256,
    }
    assert [(each["split"], each["examples"]) for each in result["data"]["reported"]] == [
        ("validation", DEV)
    ]
    assert result["source"]["sha256"] == checkpoint_sha256(dense)
    assert {"nxmi-export", "torch", "transformers"} <= result["versions"].keys()
    assert result["seconds"] > 0
    assert result["epochs"] == [line for line in finished.log if line["event"] == "epoch"]


def test_masks_are_compared_with_those_of_the_dense_file(finished: Run, dense: Path) -> None:
    kept, given = read_checkpoint(str(finished.model)).state, read_checkpoint(str(dense)).state
    layers, pattern = finished.result["layers"], Pattern(keep=2, group=4)
    for name, layer in layers.items():
        masks = [pattern_mask(each[f"{name}.weight"], pattern) for each in (kept, given)]
        assert layer["mask_moved"] == float((masks[0] != masks[1]).double().mean())
    assert any(layer["mask_moved"] > 0 for layer in layers.values())


def test_the_result_tells_what_was_kept_and_what_is_stored(finished: Run) -> None:
    result = finished.result
    before, after = result["metrics"]["dense"], result["metrics"]["compressed"]
    assert before.keys() == after.keys() == {"accuracy", "primary"}
    assert result["metrics"]["retention"] == after["accuracy"] / before["accuracy"]
    assert after["accuracy"] == finished.log[-1]["projected"]["accuracy"]
    assert result["compression"] == {"nominal": 0.875, "with_metadata": 0.84375}
    assert len(result["layers"]) == LAYERS
    for layer in result["layers"].values():
        assert (layer["pattern"], layer["bits"]) == ("2:4", 8)
        assert 0.5 <= layer["zeros"] < 0.6  # some weights that are kept round to zero


def test_the_model_file_knows_how_it_was_made(finished: Run) -> None:
    checkpoint = read_checkpoint(str(finished.model))
    result = finished.result
    assert checkpoint.recipe is not None
    assert checkpoint.recipe.as_mapping() == result["recipe"]
    for name in ("task", "metrics", "compression", "options", "versions"):
        assert checkpoint.provenance[name] == result[name]


def test_the_model_file_names_what_it_was_made_of_and_no_folder(
    finished: Run, dense: Path, data: Path
) -> None:
    provenance = read_checkpoint(str(finished.model)).provenance
    assert provenance["source"] == {
        "name": "dense",
        "architecture": "BertForSequenceClassification",
        "sha256": checkpoint_sha256(dense),
    }
    splits = {"train": TRAIN, "validation": DEV}
    told = {
        split: {
            "split": split,
            "examples": examples,
            "source": f"{split}.parquet",
            "sha256": checkpoint_sha256(data / "sst2" / f"{split}.parquet"),
        }
        for split, examples in splits.items()
    }
    assert provenance["data"] == {"train": told["train"], "reported": [told["validation"]]}
    assert str(dense.parent) not in json.dumps(provenance)
    assert str(data) not in json.dumps(provenance)


def test_the_plot_is_one_document_on_its_own(finished: Run) -> None:
    root = ElementTree.fromstring(finished.plot)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    kept = f"{finished.result['metrics']['retention']:.2%}"
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [f"sst2, small, {kept} of the dense model kept"]


def test_the_tables_on_standard_output(finished: Run) -> None:
    out, result = finished.printed, finished.result
    assert "\x1b" not in out
    cells = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    rows = {row[1]: row[2:-1] for row in cells if len(row) > 3}
    scores = (result["metrics"][which]["accuracy"] for which in ("dense", "compressed"))
    share = result["metrics"]["retention"]
    assert rows["accuracy"] == [*(f"{score:.4f}" for score in scores), f"{share:.2%}"]
    assert rows["nominal"] == ["87.50% of the encoder linears' float32 size saved"]
    assert rows["with metadata"] == ["84.38%, counting the index of each kept weight"]
    assert rows["linears"] == [f"{LAYERS} x 2:4+int8"]
    assert rows["0.intermediate.dense"][:2] == ["32 x 64", "2:4"]
    assert rows["trained"][0].startswith(f"2 epochs on {TRAIN} examples, seed 0, fp32, ")
    assert out.endswith(f"export it with: nxmi-export export {finished.model}\n")


def test_the_model_exports_and_passes_parity_with_the_metric_that_was_reported(
    nxmi_export: Command, finished: Run, data: Path, tmp_path: Path
) -> None:
    artefact = tmp_path / "artefact"
    outcome = nxmi_export("export", finished.model, "-o", artefact)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{LAYERS} x 2:4+int8, 2 x dense" in outcome.out
    outcome = nxmi_export("parity", artefact, "--task", "sst2", "--data", data)
    assert (outcome.code, outcome.err) == (0, "")
    content = json.loads((artefact / "parity-sst2.json").read_text())
    rungs = content["splits"][0]["rungs"]
    reported = finished.result["metrics"]["compressed"]["accuracy"]
    assert rungs["compressed"]["scores"]["accuracy"] == reported


def test_without_epochs_it_projects_and_calibrates_only(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.pt"
    outcome = nxmi_export(
        *("compress", dense, "--task", "sst2", "--data", data, "--epochs", 0, "-o", model)
    )
    assert (outcome.code, outcome.err) == (0, "dense model: accuracy 0.5000\n")
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.compress.json"}
    result = Run(model).result
    assert (result["compression"]["nominal"], result["epochs"]) == (0.875, [])
    read, source = read_checkpoint(str(model)), read_checkpoint(str(dense))
    name = "bert.encoder.layer.0.output.dense.weight"
    kept = read.state[name] != 0
    assert int(kept.sum()) == kept.numel() // 2
    # Reconstructed from data, not trained: biases and head are those of the dense model.
    changed = {key for key in source.state if not torch.equal(read.state[key], source.state[key])}
    assert name in changed
    assert {key.rpartition(".")[2] for key in changed} == {"weight"}
    assert all(f"{key.rpartition('.')[0]}.weight_quantizer.scale" in read.state for key in changed)


def test_scales_that_only_pytorch_runs_are_not_offered_for_export(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.pt"
    options = ("--task", "sst2", "--data", data, "--recipe", "paper", "--epochs", 0, "-o", model)
    outcome = nxmi_export("compress", dense, *options)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith(
        "scales per token run in PyTorch alone; for an export compress with activations: "
        "{mode: static}\n"
    )
    outcome = nxmi_export("export", model, "-o", tmp_path / "artefact")
    assert (outcome.code, outcome.err.count("found activations: {mode: dynamic}")) == (2, 1)


def test_the_preset_ptq_prunes_by_reconstruction_without_training(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    models = {}
    for name in ("ptq", "asp+qat"):  # the second projects by magnitude
        models[name] = tmp_path / f"{name}.pt"
        options = ("--task", "sst2", "--data", data, "--recipe", name, "-o", models[name])
        outcome = nxmi_export("compress", dense, *options, *(["--epochs", 0] * (name != "ptq")))
        assert outcome.code == 0, outcome.err
        result = Run(models[name]).result
        assert (result["compression"]["nominal"], result["epochs"]) == (0.875, [])
        assert {(each["pattern"], each["bits"]) for each in result["layers"].values()} == {
            ("2:4", 8)
        }
    found = {name: read_checkpoint(str(path)).state for name, path in models.items()}
    original = read_checkpoint(str(dense)).state
    weight = "bert.encoder.layer.0.output.dense.weight"
    # Kept weights make up for what was removed beside them.
    moved = {
        name: bool((each[weight] != original[weight])[each[weight] != 0].any())
        for name, each in found.items()
    }
    assert moved == {"ptq": True, "asp+qat": False}
    # Nothing else was trained.
    assert torch.equal(found["ptq"]["classifier.weight"], original["classifier.weight"])


def test_overwriting_leaves_nothing_of_the_earlier_model(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.pt"
    for ending in ("pt", "compress.json", "compress.jsonl", "compress.svg"):
        (tmp_path / f"model.{ending}").write_text("of the model before")
    (tmp_path / "model.compress.snapshots").mkdir()
    options = ("--task", "sst2", "--data", data, "--epochs", 0, "--overwrite", "-o", model)
    assert nxmi_export("compress", dense, *options).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.compress.json"}
    assert read_checkpoint(str(model)).recipe is not None


def test_a_dense_model_file_is_taken_as_well(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "dense.pt", read_checkpoint(str(dense)))
    options = ("--task", "sst2", "--data", data, "--epochs", 0)
    assert nxmi_export("compress", tmp_path / "dense.pt", *options).code == 0
    # Without -o, the model lies beside its source and bears the recipe's name.
    assert Run(tmp_path / "dense.deploy.pt").result["task"] == "sst2"


def test_a_held_out_share_is_not_trained_on(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    def digests(*options: object) -> Mapping[str, Any]:
        model = tmp_path / "model.pt"
        outcome = nxmi_export(
            *("compress", dense, "--task", "sst2", "--data", data, "--epochs", 0, "-o", model),
            *("--overwrite", "--evaluate-on", "holdout", *options),
        )
        assert outcome.code == 0, outcome.err
        result = Run(model).result
        assert result["evaluated_on"] == "holdout"
        counts: Mapping[str, Any] = result["data"]
        return counts

    found = digests("--holdout", 0.25)
    assert found["train"]["examples"] == TRAIN - TRAIN // 4
    assert [(each["split"], each["examples"]) for each in found["reported"]] == [
        ("holdout", TRAIN // 4)
    ]
    assert digests("--holdout", 0.25, "--limit", 7)["train"]["examples"] == 7


@pytest.mark.parametrize(
    ("task", "epochs", "metrics"),
    [("stsb", 1, {"pearson", "spearman"}), ("mrpc", 0, {"accuracy", "f1"})],
)
def test_other_kinds_of_tasks(
    nxmi_export: Command, tmp_path: Path, recipe: Path, task: str, epochs: int, metrics: set[str]
) -> None:
    chosen = task_named(task)
    data = write_task(tmp_path / "data", chosen)
    source = write_dense(tmp_path / "dense", tiny_model(num_labels=chosen.num_outputs))
    outcome = nxmi_export(
        *("compress", source, "--task", task, "--data", data, "--recipe", recipe),
        *("--epochs", epochs, "--limit", BATCH, "-o", tmp_path / "model.pt"),
    )
    assert outcome.code == 0, outcome.err
    result = Run(tmp_path / "model.pt").result
    assert result["metrics"]["compressed"].keys() == {*metrics, "primary"}
    assert "primary (mean)" in outcome.out


def test_labels_are_those_of_the_models_own_outputs(
    nxmi_export: Command, data: Path, recipe: Path, tmp_path: Path
) -> None:
    """Two heads that differ in the order of their outputs alone train and score alike."""
    results = []
    for number, names in enumerate((("negative", "positive"), ("positive", "negative"))):
        model = tiny_model(id2label=dict(enumerate(names)))
        if number:
            for tensor in model.get_submodule("classifier").parameters():
                tensor.data = tensor.data.flip(0)
        source = write_dense(tmp_path / f"dense{number}", model)
        options = ("--task", "sst2", "--data", data, "--recipe", recipe, "--limit", BATCH)
        output = tmp_path / f"{number}.pt"
        assert nxmi_export("compress", source, *options, "-o", output).code == 0
        results.append(Run(output))
    first, second = results
    assert first.result["metrics"]["dense"] == second.result["metrics"]["dense"]
    assert first.result["metrics"]["compressed"] == second.result["metrics"]["compressed"]
    # Sums of another order round apart, and quantizers make more of that in every later step.
    assert first.log[0]["losses"] == pytest.approx(second.log[0]["losses"], rel=1e-5)


def test_the_presets_are_listed_with_what_they_are(nxmi_export: Command) -> None:
    outcome = nxmi_export("compress", "--list-presets")
    assert (outcome.code, outcome.err) == (0, "")
    for name in PRESETS:
        assert any(line.startswith(f"│ {name} ") for line in outcome.out.splitlines())
        assert str(preset(name).default) in outcome.out


def test_help_shows_each_example_on_a_line_of_its_own(nxmi_export: Command) -> None:
    outcome = nxmi_export("compress", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.strip() for line in outcome.out.splitlines()]
    examples = [line for line in lines if line.startswith("nxmi-export ")]
    assert len(examples) == 3
    assert "torchrun --nproc-per-node 2 -m nxmi_export compress dense.pt --task mnli" in lines


@pytest.mark.parametrize("option", ["--help", "--list-presets"])
def test_what_needs_no_model_loads_nothing_heavy(option: str) -> None:
    assert loaded_by("compress", option) & (HEAVY | ENGINES) == set()
