"""What a parity run takes next to a plain loop that pads every example to 128 tokens.

    python -m samples.bench_parity ARTEFACT --data GLUE_DIR [--task qqp] [--pairs 1000] [--whole]

Two things are timed, and told apart. "batches": one onnxruntime session runs the first dev
examples, tokenized before, in the dev set's order, 32 at a time and padded to 128 tokens, and in
the batches of a parity run; nothing but batching differs. "whole", with `--whole`: `check_parity`
over the same examples with its default settings, from loading the models to the verdict, next to a
loop that loads the same models, tokenizes for each of the same three rungs (PyTorch compressed,
model.onnx as written, model.cpu.onnx optimized), and pads to 128. Both make PyTorch's compressed
weights once and not anew for every batch, which would flatter the run. The run replays examples,
compares weights, shapes and codes, runs probes and resamples scores besides, which the loop does
not: the ratio is what all of that costs after what batching saves.

All go by turns; reported are medians of the wall and the processor time, and their ratios.
`python -m samples.parity_table --only qqp_deploy` makes an artefact for QQP
(runs/parity/qqp_deploy.artefact), and tells the peak memory of a whole run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nxmi_export.artefact import CPU_MODEL, Artefact, read_artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.compression.layers import weights_made_once
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.parity import Stage
from nxmi_export.parity.logits import logits_of
from nxmi_export.processor import this_processor
from nxmi_export.workflow.parity import ParityRequest, check_parity
from nxmi_export.workflow.parity.ladder import Ladder

__all__ = ["batch_ways", "measured", "whole_ways"]

PADDED, PLAIN_BATCH = 128, 32  # tokens, examples
RUNGS = (Stage.COMPRESSED, Stage.WRITTEN, Stage.OPTIMIZED)  # that run a whole dev set
PLAIN = f"{PLAIN_BATCH} examples in order, padded to {PADDED} tokens"
_Way = Callable[[], object]


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="qqp")
    parser.add_argument("--pairs", type=int, default=1000, help="examples of the dev set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[ParityRequest.batch_tokens])
    parser.add_argument("--whole", action="store_true", help="time whole parity runs too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    artefact = read_artefact(arguments.artefact)
    task = task_named(arguments.task)
    request = ParityRequest(task, arguments.data, limit=arguments.pairs)
    result: dict[str, Any] = {"model": str(arguments.artefact), "task": task.name}
    with OnnxRuntimeRunner(
        artefact.path(CPU_MODEL), optimize=True, threads=torch.get_num_threads()
    ) as runner:
        data = _tokenized(artefact, request)
        result |= {"examples": len(data), "mean tokens": round(float(data.lengths.mean()), 1)}
        ways = batch_ways(runner, data, arguments.tokens)
        result["batches"] = measured(ways, PLAIN, arguments.rounds)
    if arguments.whole:
        result["whole"] = measured(whole_ways(artefact, request), PLAIN, arguments.rounds)
    result |= {
        "rounds": arguments.rounds,
        "machine": str(this_processor()),
        "threads": torch.get_num_threads(),
        "versions": {each: version(each) for each in ("torch", "onnxruntime")},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def batch_ways(
    runner: OnnxRuntimeRunner, data: EncodedDataset, budgets: Sequence[int]
) -> dict[str, _Way]:
    """One session and tokenized examples, in each way of batching; `budgets` are in tokens."""

    def run(batches: Sequence[NDArray[np.int64]], pad_to: int | None) -> None:
        logits_of(runner, data, batches, pad_to=pad_to)

    in_order = _in_order(data)
    run(in_order[:1], PADDED)  # the first run of a session allocates
    ways: dict[str, _Way] = {PLAIN: lambda: run(in_order, PADDED)}
    for tokens in budgets:
        ways[f"by length, {tokens} tokens"] = lambda tokens=tokens: run(data.bucketed(tokens), None)
    return ways


def whole_ways(artefact: Artefact, request: ParityRequest) -> dict[str, _Way]:
    """A parity run, and a loop over the rungs that run a whole dev set."""

    def plain() -> None:
        ladder = Ladder.open(artefact, request)
        for stage in RUNGS:
            data = _tokenized(artefact, request)
            with ladder.backend(stage) as runner, weights_made_once():
                logits_of(runner, data, _in_order(data), pad_to=PADDED)

    def parity() -> None:
        check_parity(artefact, request, on_progress=lambda *_: None)

    return {PLAIN: plain, "parity run": parity}


def measured(ways: Mapping[str, _Way], plain: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each way, and how many times faster it is than `plain`."""
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
        way: {
            "wall seconds": round(wall, 2),
            "processor seconds": round(processor, 2),
            "times as fast by wall": round(medians[plain][0] / wall, 2),
            "times as fast by processor": round(medians[plain][1] / processor, 2),
        }
        for way, (wall, processor) in medians.items()
    }


def _tokenized(artefact: Artefact, request: ParityRequest) -> EncodedDataset:
    task = request.task
    dataset = load_dataset(task, task.dev_splits[0], request.data_dir)
    tokenizer = load_tokenizer(read_tokenizer_files(artefact.directory), source=artefact.directory)
    return encode(
        dataset if request.limit is None else dataset.head(request.limit),
        tokenizer,
        input_names=artefact.manifest.input_names,
        max_length=min(PADDED, artefact.manifest.position_limit),
    )


def _in_order(data: EncodedDataset) -> list[NDArray[np.int64]]:
    return data.cut(PLAIN_BATCH, np.arange(len(data)))


if __name__ == "__main__":
    main()
