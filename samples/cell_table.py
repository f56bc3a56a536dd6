"""What every table of cells shares: its command line, and one result file for each cell."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["conditions", "kept", "list_names", "read_result", "table_parser"]


def table_parser(description: str | None, models: str) -> argparse.ArgumentParser:
    """The options of every table; `models` is where trained weights are kept by default."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path, default=Path(models))
    parser.add_argument("--only", nargs="+", metavar="CELL", help="names as --list prints them")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--print", action="store_true", dest="show")
    return parser


def list_names(
    names: Iterable[str], results: Path, is_done: Callable[[dict[str, Any]], bool] = bool
) -> None:
    """Print every cell's name, and which have a result that `is_done`."""
    for name in names:
        found = read_result(name, results)
        print(f"{name}{'  done' if found is not None and is_done(found) else ''}")


def read_result(name: str, results: Path) -> dict[str, Any] | None:
    """What was written of the cell of that name; None where nothing was."""
    path = results / f"{name}.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def kept(
    path: Path, asked: Mapping[str, Any], remedy: str = "delete it to run the cell again"
) -> dict[str, Any] | None:
    """The result at `path`, None where there is none; exits where it was made otherwise."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name, value in asked.items() if found.get(name) != value]
    if other:
        raise SystemExit(f"{path}: made with other {' and '.join(other)}; {remedy}")
    return found


def conditions(results: Collection[dict[str, Any] | None]) -> list[str]:
    """How many of these cells were trained, and in what; one line more for each kind of machine."""
    run = [result for result in results if result]
    kinds = Counter(
        f"{result['precision']}, OMP_NUM_THREADS={result['threads']}, {result['machine']}, "
        f"torch {result['versions']['torch']}"
        for result in run
    )
    told = [f"- {count} in {kind}" for kind, count in kinds.most_common()]
    return [f"{len(run)} of {len(results)} cells were run.", *told]
