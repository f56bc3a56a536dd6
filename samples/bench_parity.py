"""What parity's batches save next to padding every example to 128 tokens, on the same backend.

    python -m samples.bench_parity ARTEFACT --data GLUE_DIR [--task qqp] [--pairs 1000]

One onnxruntime session runs the first dev examples, by turns in the dev set's order, 32 at a time
and padded to 128 tokens, and in the batches of a parity run; reported are medians of the wall and
the processor time, and their ratios. `python -m samples.parity_table --only qqp_deploy` makes an
artefact for QQP (runs/parity/qqp_deploy.artefact), and tells what a whole run takes, with its peak
memory.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nxmi_export.artefact import CPU_MODEL, read_artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.doctor import examine
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.parity.logits import logits_of
from nxmi_export.workflow.parity import ParityRequest

PADDED, PLAIN_BATCH = 128, 32  # tokens, examples
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="qqp")
    parser.add_argument("--pairs", type=int, default=1000, help="examples of the dev set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[ParityRequest.batch_tokens])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    artefact = read_artefact(arguments.artefact)
    task = task_named(arguments.task)
    dataset = load_dataset(task, task.dev_splits[0], arguments.data).head(arguments.pairs)
    tokenizer = load_tokenizer(read_tokenizer_files(artefact.directory), source=artefact.directory)
    data = encode(dataset, tokenizer, input_names=INPUTS, max_length=PADDED)
    result = {
        "model": str(arguments.artefact),
        "task": task.name,
        **_throughput(artefact.path(CPU_MODEL), data, arguments.tokens, arguments.rounds),
        "machine": f"{examine().processor.model}, {platform.machine()}",
        "threads": torch.get_num_threads(),
        "versions": {each: version(each) for each in ("torch", "onnxruntime")},
    }
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
        plain = f"{PLAIN_BATCH} examples in order, padded to {PADDED} tokens"
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
        "examples": len(data),
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


if __name__ == "__main__":
    main()
