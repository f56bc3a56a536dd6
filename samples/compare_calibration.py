"""What the reach of activation scales costs: accuracy by placement and method, no training.

    make demo && python -m samples.compare_calibration
    python -m samples.compare_calibration --task sst2 --data GLUE_DIR --dense DENSE_DIR

Takes a fine-tuned MiniLM, quantizes its encoder to INT8 (no pruning, no training) under each
calibration of the recipe, and scores the dev set.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import checkpoint_sha256, read_tokenizer_files
from nxmi_export.compression import calibrate, insert_quantizers
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import Dataset, load_dataset, task_named
from nxmi_export.parity import run_rung
from nxmi_export.processor import this_processor
from nxmi_export.recipe import ActivationSettings, Calibration, Placement, Recipe, Scheme
from samples.fine_tune import INPUTS

CALIBRATIONS = ("max", "percentile:99.99", "percentile:99.95", "percentile:99.9", "mse")


def main() -> None:
    """Score every placement under every calibration and print the table as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dense", type=Path, default=Path("runs/demo/dense"))
    parser.add_argument("--task", default="reviews")
    parser.add_argument("--data", type=Path, default=Path("runs/demo/reviews"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    source: Path = arguments.dense
    dense = AutoModelForSequenceClassification.from_pretrained(source)
    task = task_named(arguments.task)
    train, held_out = (
        _encoded(load_dataset(task, split, arguments.data), source)
        for split in ("train", task.dev_splits[0])
    )
    table: dict[str, Any] = {"dense": _accuracy(dense, held_out)}
    for text in CALIBRATIONS:
        settings = ActivationSettings(calibration=Calibration.parse(text))
        for placement in (Placement.LINEAR, Placement.ATTENTION, Placement.SPARSE):
            model = AutoModelForSequenceClassification.from_pretrained(source)
            insert_quantizers(model, Recipe(default=Scheme.parse("int8"), placement=placement))
            calibrate(model, train, settings)
            table[f"{placement} {text}"] = _accuracy(model, held_out)
    result = {
        "task": task.name,
        "accuracy": table,
        "dense_sha256": checkpoint_sha256(source),
        "machine": str(this_processor()),
        "versions": {"torch": version("torch")},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def _accuracy(model: Any, data: EncodedDataset) -> float:
    with TorchRunner(model, INPUTS) as runner:
        return round(run_rung(runner, data, batch_tokens=1024).primary, 4)


def _encoded(dataset: Dataset, source: Path) -> EncodedDataset:
    tokenizer = load_tokenizer(read_tokenizer_files(source), source=source)
    return encode(dataset, tokenizer, input_names=INPUTS, max_length=128)


if __name__ == "__main__":
    main()
