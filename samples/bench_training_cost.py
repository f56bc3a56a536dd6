"""What ADMM and quantization cost in training: seconds per step and peak memory against without.

    python -m samples.bench_training_cost --data GLUE_DIR [--task mrpc] [--json FILE]

MiniLM on real sentences, batch 32. Each kind of training runs in a process of its own (for its peak
memory, which that of a compiler's own processes is no part of); processes alternate over several
rounds, because other work on the machine slows all of them alike for a while. Reported are medians,
and their ratios to plain fine-tuning. Where a machine is shared, set OMP_NUM_THREADS=1 and read the
processor's seconds.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.compression import RunOptions, compress, fine_tune
from nxmi_export.compression.progress import Progress, StepDone
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.processor import this_processor
from nxmi_export.recipe import DistillationSettings, Recipe, Scheme, preset
from samples.fine_tune import INPUTS, minilm_directory

MAX_LENGTH = 128  # tokens
BATCH = 32
WARM_UP = 3  # steps that fill caches and allocate the optimizer's state, the first compiles
COMPILED = ", compiled"
# The first is what the others are compared with: it runs the same attention as they do.
KINDS = (
    "fine-tuning",
    "fine-tuning, sdpa attention",
    f"fine-tuning{COMPILED}",
    "admm",
    "admm+qat, fixed scales",
    "admm+qat",
    f"admm+qat{COMPILED}",
    "deploy",
    f"deploy{COMPILED}",
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="bf16")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--kind", choices=KINDS, help="measure one kind in this process")
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(_measure(arguments)))
        return
    result = _table(arguments)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def _table(arguments: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind in KINDS:
            figures[kind].append(_in_process(kind, arguments))
    medians = {
        kind: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for kind, runs in figures.items()
    }
    plain = medians[KINDS[0]]
    return {
        "model": "MiniLM-L6 (384 wide), embeddings frozen",
        "task": arguments.task,
        "batch": BATCH,
        "precision": arguments.precision,
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        "medians": medians,
        "ratios": {
            kind: {key: round(median[key] / plain[key], 3) for key in plain}
            for kind, median in medians.items()
        },
        "machine": f"{this_processor()}; {torch.get_num_threads()} threads",
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
    }


def _in_process(kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    names = ("data", "task", "precision", "steps")
    options = [f"--{name}={getattr(arguments, name)}" for name in names]
    command = [sys.executable, "-m", "samples.bench_training_cost", *options, f"--kind={kind}"]
    with TemporaryDirectory() as cache:  # what another process has compiled is compiled anew
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        out = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    figures: dict[str, float] = json.loads(out)
    return figures


def _measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of the median step and the process's peak memory."""
    source = minilm_directory()
    model, data = _model(source, arguments), _examples(source, arguments)
    loaded = _peak()
    times: list[tuple[float, float]] = []
    began = time.perf_counter()

    def on_progress(progress: Progress) -> None:
        nonlocal began
        if isinstance(progress, StepDone):
            times.append((time.perf_counter(), time.process_time()))
        elif not times:
            began = time.perf_counter()  # of a compiled run: compiling, right before its first step

    recipe = _recipe(arguments.kind.removesuffix(COMPILED))
    training = recipe.training.model_copy(update={"epochs": 1, "batch_size": BATCH})
    recipe = recipe.model_copy(update={"training": training})
    compiled = arguments.kind.endswith(COMPILED)
    options = RunOptions(precision=arguments.precision, compiled=compiled)
    if arguments.kind.startswith("fine-tuning"):
        fine_tune(model, data, training, options, on_progress=on_progress)
    else:
        compress(model, data, recipe, options, on_progress=on_progress)
    steps = list(itertools.pairwise(times))[WARM_UP - 1 :]
    wall, processor = (
        statistics.median(after[clock] - before[clock] for before, after in steps)
        for clock in (0, 1)
    )
    compiling = {"seconds_of_compiling": times[0][0] - began - wall} if compiled else {}
    return {
        **compiling,
        "seconds_per_step": wall,
        "processor_seconds_per_step": processor,
        "peak_mb": _peak(),
        "peak_mb_of_training": _peak() - loaded,  # beyond the libraries and the dense model
    }


def _recipe(kind: str) -> Recipe:
    """ADMM to the last step, so that every measured step has the penalty and no mask."""
    deploy = preset("deploy")
    sparsity = deploy.sparsity.model_copy(update={"recovery": 0.0})
    changes: dict[str, Any] = {"sparsity": sparsity}
    if kind != "deploy":
        changes["distillation"] = DistillationSettings(logits=0.0, hidden=0.0)
    if kind == "admm":
        changes["default"] = Scheme.parse("2:4")
    if kind == "admm+qat, fixed scales":
        changes["weights"] = deploy.weights.model_copy(update={"learned": False})
        changes["activations"] = deploy.activations.model_copy(update={"learned": False})
    return deploy.model_copy(update=changes)


def _model(source: Path, arguments: argparse.Namespace) -> PreTrainedModel:
    torch.manual_seed(0)  # the head is drawn at random
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=task_named(arguments.task).num_outputs,
        attn_implementation="sdpa" if "sdpa" in arguments.kind else "eager",
    )
    return model


def _examples(source: Path, arguments: argparse.Namespace) -> EncodedDataset:
    dataset = load_dataset(task_named(arguments.task), "train", arguments.data)
    return encode(
        dataset.head(BATCH * (arguments.steps + WARM_UP)),
        load_tokenizer(read_tokenizer_files(source), source=source),
        input_names=INPUTS,
        max_length=MAX_LENGTH,
    )


def _peak() -> float:
    """The peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
