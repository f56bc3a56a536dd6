"""The command line: `python -m samples.serve_loop`."""

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nxmi_export
import samples.serve_loop
from nxmi_export.doctor import examine
from nxmi_export.glue import load_dataset, task_named
from samples.serve_loop.clients import serve
from samples.serve_loop.load import Load
from samples.serve_loop.table import table


def main() -> int:
    """Serve, and print the figures as a table; 1 where something is wrong."""
    arguments = _parser().parse_args()
    task = task_named(arguments.task)
    dataset = load_dataset(task, task.dev_splits[0], arguments.data)
    single = len(dataset.texts) == 1
    texts: list[Any] = list(dataset.texts[0] if single else zip(*dataset.texts, strict=True))
    with nxmi_export.load(
        arguments.artefact, threads=arguments.threads, batch_tokens=arguments.batch_tokens
    ) as model:
        load = Load.of(model, texts, arguments.texts)
        result = {
            "model": str(arguments.artefact),
            "task": task.name,
            "threads": arguments.threads,
            **serve(model, load, clients=arguments.clients, seconds=60 * arguments.minutes),
            "machine": f"{examine().processor.model}, {platform.machine()}",
            "versions": {each: version(each) for each in ("onnxruntime", "tokenizers", "numpy")},
        }
    print(table(result))
    if arguments.json:
        arguments.json.write_text(f"{json.dumps(result, indent=1)}\n", encoding="utf-8")
    return 1 if result["errors"] or result["wrong answers"] or result["memory"]["grew"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(samples.serve_loop.__doc__ or "").splitlines()[0])
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--texts", type=int, default=8, help="of a request at most")
    parser.add_argument("--threads", type=int, default=1, help="of one operator")
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
