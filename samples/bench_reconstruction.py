"""One-shot compression with and without reconstruction: the dev metric of each, nothing trained.

    make demo && python -m samples.bench_reconstruction
    python -m samples.bench_reconstruction --task sst2 --data GLUE_DIR --model DENSE_DIR

Takes a fine-tuned model, brings its encoder to each scheme by magnitude projection and by
layer-wise reconstruction, calibrates the activations on the same examples of the training set, and
scores the dev set. `output error` is the mean over layers of ‖(W − Ŵ)·X‖² / ‖W·X‖².
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import checkpoint_sha256, read_tokenizer_files
from nxmi_export.compression import calibrate, compressed_linears, insert_quantizers, project
from nxmi_export.compression.reconstruction import LinearReconstructed, reconstructed_weights
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import Dataset, load_dataset, task_named
from nxmi_export.model_facts import model_facts
from nxmi_export.parity import run_rung
from nxmi_export.processor import this_processor
from nxmi_export.recipe import Placement, Recipe, Scheme

SEED = 0
BATCH_SIZE = 32
MAX_LENGTH = 128  # tokens


def main() -> None:
    """Score every scheme both ways and print the table as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("runs/demo/dense"))
    parser.add_argument("--task", default="reviews")
    parser.add_argument("--data", type=Path, default=Path("runs/demo/reviews"))
    parser.add_argument("--schemes", nargs="+", default=["2:4", "2:4+int8", "2:4+int4"])
    parser.add_argument("--placement", type=Placement, default=Placement.SPARSE)
    parser.add_argument("--batches", type=int, default=16, help=f"of {BATCH_SIZE} examples")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    source, batches = arguments.model, arguments.batches
    task = task_named(arguments.task)
    train = load_dataset(task, "train", arguments.data)
    chosen = np.random.default_rng(SEED).permutation(len(train))[: batches * BATCH_SIZE]
    examples = _encoded(train.select(chosen), source)
    held_out = _encoded(load_dataset(task, task.dev_splits[0], arguments.data), source)
    table: dict[str, Any] = {"dense": {"metric": _metric(_loaded(source), held_out)}}
    for text in arguments.schemes:
        recipe = Recipe(default=Scheme.parse(text), placement=arguments.placement)
        for method in (_project, _reconstruct):
            model = _loaded(source)
            insert_quantizers(model, recipe)
            facts = method(model, examples, batches)
            calibrate(model, examples, batches=batches, batch_size=BATCH_SIZE)
            name = f"{text} {'magnitude' if method is _project else 'reconstruction'}"
            table[name] = {"metric": _metric(model, held_out)} | facts
    result = {
        "task": task.name,
        "metric": task.primary_metric,
        "calibration examples": len(examples),
        "results": table,
        "dense_sha256": checkpoint_sha256(source),
        "machine": str(this_processor()),
        "versions": {"torch": version("torch")},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def _project(model: PreTrainedModel, _: EncodedDataset, __: int) -> dict[str, float]:
    project(compressed_linears(model))
    return {}


def _reconstruct(model: PreTrainedModel, data: EncodedDataset, batches: int) -> dict[str, float]:
    done: list[LinearReconstructed] = []
    start = time.perf_counter()
    weights = reconstructed_weights(
        model, data, batches=batches, batch_size=BATCH_SIZE, on_linear=done.append
    )
    seconds = time.perf_counter() - start
    linears = compressed_linears(model)
    with torch.no_grad():
        for name, weight in weights.items():
            linears[name].weight.copy_(weight)
    return {
        "output error": round(float(np.mean([event.error for event in done])), 5),
        "output error of magnitude": round(
            float(np.mean([event.magnitude_error for event in done])), 5
        ),
        "seconds": round(seconds, 1),
    }


def _metric(model: PreTrainedModel, data: EncodedDataset) -> float:
    with TorchRunner(model, tuple(data.padding)) as runner:
        return round(run_rung(runner, data, batch_tokens=1024).primary, 4)


def _loaded(source: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(source)
    return model


def _encoded(dataset: Dataset, source: Path) -> EncodedDataset:
    names = model_facts(json.loads((source / "config.json").read_text("utf-8"))).input_names
    tokenizer = load_tokenizer(read_tokenizer_files(source), source=source)
    return encode(dataset, tokenizer, input_names=names, max_length=MAX_LENGTH)


if __name__ == "__main__":
    main()
