"""A model's name in, its artefact, its dense checkpoint and texts to calibrate on out."""

from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import AutoModelForSequenceClassification, BertConfig

from nxmi_export.artefact import Artefact, read_artefact
from nxmi_export.output_files import atomic_directory, atomic_file
from nxmi_export.recipe import preset
from samples.cpu_peers.place import Place, run_module
from samples.fine_tune import TrainingData, encoded, train_split
from samples.made_with import is_as_made_now, note_what_made
from samples.other_tools import capture_dense

__all__ = ["TASK", "TEXTS", "artefact_of", "calibration_of", "dense_of", "onnx_of"]

TASK, TEXTS = "mrpc", 64  # texts that static peers see; onnxruntime's own examples take as many
EPOCHS = "1"  # time depends on shapes, hardly on how good the model is
PLACEMENT = "linear"  # the fast one on processors
SEED = 0


def artefact_of(model: str, place: Place) -> Artefact:
    """Ours, made by the package's own commands where it is not as they would make it now."""
    stem = place.models / f"{model}-{PLACEMENT}"
    directory = stem.with_suffix(".artefact")
    if not is_as_made_now(directory):
        file = stem.with_suffix(".pt")
        if not file.exists():
            place.models.mkdir(parents=True, exist_ok=True)
            _compress(model, place, file)
        run_module("nxmi_export", "export", file, "-o", directory, "--overwrite")
        note_what_made(directory)
    return read_artefact(directory)


def dense_of(model: str, place: Place) -> Path:
    """The Hugging Face directory that peers begin with, of the same size as the artefact."""
    directory = place.models / f"{model}-dense"
    if directory.exists():
        return directory
    place.models.mkdir(parents=True, exist_ok=True)
    if model == "minilm":
        data = ("--task", TASK, "--data", place.data)
        run_module("samples.fine_tune", *data, "--epochs", EPOCHS, "-o", directory)
        return directory
    torch.manual_seed(SEED)
    random = AutoModelForSequenceClassification.from_config(BertConfig())
    with atomic_directory(directory) as folder:
        random.save_pretrained(folder)
    return directory


def onnx_of(model: str, place: Place) -> Path:
    """The same, captured as this package captures, in float32; its tensors lie beside the file."""
    directory = place.models / f"{model}-onnx"
    if not directory.exists():
        dense = AutoModelForSequenceClassification.from_pretrained(
            dense_of(model, place), attn_implementation="eager"
        )
        with atomic_directory(directory) as folder:
            capture_dense(dense.eval(), folder / "dense.onnx")
    return directory / "dense.onnx"


def calibration_of(place: Place) -> Path:
    """Texts of MRPC in the tokens that both models read, padded to the longest, as an .npz."""
    path = place.models / "calibration.npz"
    if not path.exists():
        place.models.mkdir(parents=True, exist_ok=True)
        texts = encoded(train_split(TrainingData(TASK, place.data, TEXTS)))
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **texts.padded(np.arange(len(texts)), None))
    return path


def _compress(model: str, place: Place, file: Path) -> None:
    if model == "bert-base":
        run_module("samples.random_bert", "--placement", PLACEMENT, "-o", file)
        return
    recipe = file.with_suffix(".yaml")
    settings = preset("ptq").as_mapping() | {"placement": PLACEMENT}
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    data = ("--task", TASK, "--data", place.data)
    dense = dense_of(model, place)
    run_module("nxmi_export", "compress", dense, *data, "--recipe", recipe, "-o", file)
