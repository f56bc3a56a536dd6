"""The command line: `python -m samples.serve_loop`."""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nxmi_export
import samples.serve_loop
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.processor import this_processor
from samples.serve_loop.clients import serve
from samples.serve_loop.load import Load
from samples.serve_loop.memory import Growth
from samples.serve_loop.table import markdown, table

RESULTS = Path(__file__).parents[1] / "results" / "serve_loop"


def main() -> int:
    """Serve, and print the figures as a table; 1 where something is wrong."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(RESULTS))
        return 0
    if arguments.artefact is None or arguments.data is None:
        parser.error("an artefact and --data are needed to serve")
    result = _served(arguments)
    print(table(result))
    written = json.dumps(result, indent=1) + "\n"
    if arguments.json:
        arguments.json.write_text(written, encoding="utf-8")
    if arguments.record:
        RESULTS.mkdir(parents=True, exist_ok=True)
        name = f"{arguments.artefact.stem}_{result['library']}.json"
        (RESULTS / name).write_text(written, encoding="utf-8")
    sound = result["memory"]["verdict"] == Growth.NONE
    return 1 if result["errors"] or result["wrong answers"] or not sound else 0


def _served(arguments: argparse.Namespace) -> dict[str, Any]:
    task = task_named(arguments.task)
    dataset = load_dataset(task, task.dev_splits[0], arguments.data)
    single = len(dataset.texts) == 1
    texts: list[Any] = list(dataset.texts[0] if single else zip(*dataset.texts, strict=True))
    with nxmi_export.load(
        arguments.artefact,
        backend=arguments.backend,
        threads=arguments.threads,
        batch_tokens=arguments.batch_tokens,
    ) as model:
        load = Load.of(model, texts, arguments.texts)
        return {
            "model": arguments.artefact.name,
            "library": str(model.backend),
            "task": task.name,
            "threads": arguments.threads,
            **serve(model, load, clients=arguments.clients, seconds=60 * arguments.minutes),
            "machine": str(this_processor()),
            "versions": {
                each: version(each) for each in (str(model.backend), "tokenizers", "numpy")
            },
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(samples.serve_loop.__doc__ or "").splitlines()[0])
    parser.add_argument("artefact", type=Path, nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--texts", type=int, default=8, help="of a request at most")
    parser.add_argument("--backend", default="onnxruntime", help="onnxruntime, openvino or auto")
    parser.add_argument("--threads", type=int, default=1, help="of one operator")
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--json", type=Path, help="a file for the result")
    parser.add_argument("--record", action="store_true", help=f"keep it in {RESULTS.name} as well")
    parser.add_argument("--print", action="store_true", dest="show", help="what was recorded")
    return parser


if __name__ == "__main__":
    sys.exit(main())
