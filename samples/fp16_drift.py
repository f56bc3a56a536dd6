"""What float16 changes: model.fp16.onnx against model.onnx on a dev set, logit by logit.

    nxmi-export model.pt --fp16
    python -m samples.fp16_drift model.artefact --task mrpc --data GLUE_DIR

Both run on onnxruntime, node by node as they are written, so that every difference comes from the
types of the graph. onnxruntime computes some float16 operators in float32 and rounds; an engine
that keeps sums in float32, as fused attention does, drifts no more.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nxmi_export.artefact import FP16_MODEL, MODEL, Artefact, read_artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import encode, load_tokenizer
from nxmi_export.glue import Task, load_dataset, task_named
from nxmi_export.parity import RungResult, compare, run_rung
from nxmi_export.workflow.task_head import InTaskOrder, label_order

__all__ = ["drift", "main"]

_MAX_LENGTH = 128  # tokens
_BATCH_TOKENS = 2048


def main() -> None:
    """Print the table of every dev split and write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="examples a split; default: all")
    parser.add_argument("--json", type=Path, help="default: samples/results/fp16_drift/TASK.json")
    arguments = parser.parse_args()
    task = task_named(arguments.task)
    result = drift(read_artefact(arguments.artefact), task, arguments.data, arguments.limit)
    Console().print(_table(result))
    path = arguments.json or Path(__file__).parent / "results" / "fp16_drift" / f"{task.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(result, indent=1)}\n", encoding="utf-8")


def drift(artefact: Artefact, task: Task, data: Path, limit: int | None) -> dict[str, Any]:
    """Both graphs over every dev split of `task`; raises ArtefactError without `FP16_MODEL`."""
    manifest = artefact.manifest
    tokenizer = load_tokenizer(read_tokenizer_files(artefact.directory), source=artefact.directory)
    order = label_order(str(artefact.directory), manifest.labels, task)
    splits = {}
    for split in task.dev_splits:
        dataset = load_dataset(task, split, data)
        encoded = encode(
            dataset if limit is None else dataset.head(limit),
            tokenizer,
            input_names=manifest.input_names,
            max_length=min(_MAX_LENGTH, manifest.position_limit),
        )
        rungs = []
        for name in (MODEL, FP16_MODEL):
            with OnnxRuntimeRunner(artefact.path(name), optimize=False) as backend:
                runner = InTaskOrder(backend, order, name)
                rungs.append(run_rung(runner, encoded, batch_tokens=_BATCH_TOKENS))
        splits[split] = _split(*rungs)
    recipe = manifest.recipe or {}
    return {
        "task": task.name,
        "placement": recipe.get("placement"),
        "files": {name: manifest.files[name].sha256 for name in (MODEL, FP16_MODEL)},
        "splits": splits,
        "versions": {name: version(name) for name in ("onnxruntime", "numpy")},
    }


def _split(reference: RungResult, candidate: RungResult) -> dict[str, Any]:
    comparison = compare(reference, candidate)
    gaps = candidate.logits.astype(np.float64) - reference.logits
    return {
        "examples": comparison.examples,
        "scores": {MODEL: dict(reference.scores), FP16_MODEL: dict(candidate.scores)},
        "largest_logit_gap": comparison.largest_logit_gap,
        "rms_logit_gap": float(np.sqrt(np.mean(gaps**2))),
        "rms_logit": float(np.sqrt(np.mean(reference.logits.astype(np.float64) ** 2))),
        "changed": [
            {"id": each.id, "margin_before": each.margin_before, "margin_after": each.margin_after}
            for each in comparison.changes
        ],
    }


def _table(result: dict[str, Any]) -> Table:
    title = f"{result['task']}, placement {result['placement']}: {MODEL} to {FP16_MODEL}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, split in result["splits"].items():
        before, after = split["scores"][MODEL], split["scores"][FP16_MODEL]
        table.add_row(name, f"{split['examples']} examples")
        for metric, value in before.items():
            table.add_row(metric, f"{value:.4f} → {after[metric]:.4f}")
        gaps = f"{split['largest_logit_gap']:.4f} at most, {split['rms_logit_gap']:.4f} RMS"
        table.add_row("logits moved by", f"{gaps}; they are {split['rms_logit']:.3f} RMS")
        table.add_row("changed predictions", str(len(split["changed"])), end_section=True)
    return table


if __name__ == "__main__":
    main()
