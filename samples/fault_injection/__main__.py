"""Plant every fault, see what the product says of it, or print what was found.

    python -m samples.fault_injection              all of it, some minutes; writes the results
    python -m samples.fault_injection --print      the table, in Markdown
    python -m samples.fault_injection --artefact model.artefact --task sst2 --data GLUE -o FILE

Faults are planted in artefacts of a two-layer BERT of three placements, or in one that exists, of
a BERT; of that, the faults that its placement has a place for. Verdicts come from `check_parity`
with the gate's defaults, in process, on a dev set. A fault is named where the first cause that the
product's own document or error states is the one that was planted, module included. Artefacts
without a fault are judged in the same run, which is void where one does not pass; rows are bound to
the code that made them.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nxmi_export._version import __version__
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from samples.fault_injection.controls import controls_of, void_reasons
from samples.fault_injection.fault import Fault
from samples.fault_injection.faults import FAULTS
from samples.fault_injection.good import SmallProjects
from samples.fault_injection.projects import Given, Projects, Unavailable
from samples.fault_injection.row import row_of
from samples.fault_injection.source import digest_of_code
from samples.fault_injection.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "fault_injection.json"
SCHEMA = "nxmi-export/fault-injection/2"
_LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxruntime", "numpy")


def main() -> None:
    """Run or print; exits with 1 where an artefact without a fault did not pass."""
    arguments = _arguments()
    if not arguments.show:
        beside = arguments.only and arguments.output.is_file()
        if beside:  # told before minutes of work
            check_alike(json.loads(arguments.output.read_text(encoding="utf-8")), _origin())
        with tempfile.TemporaryDirectory() as folder:
            kept = arguments.folder or Path(folder)
            results = measure(_projects(arguments, kept), Path(folder), arguments.only)
        if beside:
            results = joined(json.loads(arguments.output.read_text(encoding="utf-8")), results)
        with atomic_file(arguments.output) as temporary:
            text = json.dumps(results, indent=1, ensure_ascii=False)
            temporary.write_text(f"{text}\n", encoding="utf-8")
    stored = json.loads(arguments.output.read_text(encoding="utf-8"))
    if stored.get("schema") != SCHEMA:
        raise SystemExit(f"{arguments.output}: of another schema; run all of it again")
    print(markdown(stored, digest_of_code()))
    if void_reasons(stored["controls"], stored["faults"]):
        raise SystemExit(1)


def measure(projects: Projects, folder: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """What becomes of every fault, or of those that `only` names by family or name.

    Artefacts without a fault come first, one for each kind and check that the faults have.
    """
    origin = _origin()
    chosen = [each for each in FAULTS if not only or each.family in only or each.name in only]
    controls, spent = _rows(controls_of(chosen), projects, folder)
    rows, seconds = _rows(chosen, projects, folder)
    return {
        **origin,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "processor_seconds": round(spent + seconds, 1),  # of planting and judging
        "controls": controls,
        "faults": rows,
    }


def _rows(
    faults: Iterable[Fault], projects: Projects, folder: Path
) -> tuple[list[dict[str, Any]], float]:
    """Those that `projects` has an artefact for, and the processor's seconds."""
    rows, seconds = [], 0.0
    for fault in faults:
        try:
            projects.good(fault.base)  # exported before the clock starts
            began = time.process_time()
            rows.append(row_of(fault, projects, folder))
            seconds += time.process_time() - began
        except Unavailable as reason:
            print(f"{fault.name}: left out, for lack of {reason}", file=sys.stderr, flush=True)
            continue
        print(f"{fault.family}: {_told(rows[-1])}", file=sys.stderr, flush=True)
    return rows, seconds


def joined(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new rows among the stored ones; SystemExit where those are of other code or versions."""
    check_alike(stored, new)
    rows = {row["name"]: row for row in (*stored["faults"], *new["faults"])}
    controls = {row["name"]: row for row in (*stored["controls"], *new["controls"])}
    return {
        **stored,
        "controls": [controls[c.name] for c in controls_of(FAULTS) if c.name in controls],
        "faults": [rows[fault.name] for fault in FAULTS if fault.name in rows],
    }


def check_alike(stored: dict[str, Any], new: dict[str, Any]) -> None:
    """SystemExit where both are not of the same schema, code and versions."""
    for what in ("schema", "code", "versions"):
        if stored.get(what) != new[what]:
            raise SystemExit(f"the stored rows are of another {what}; run all of them again")


def _origin() -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "code": digest_of_code(),
        "versions": {"nxmi-export": __version__} | {name: version(name) for name in _LIBRARIES},
    }


def _told(row: dict[str, Any]) -> str:
    said = ["named"] if row["named"] else [row["answer"], *map(str, row["causes"][:1])]
    said += [] if row["named"] else row["messages"]
    return f"{row['name']}: {'; '.join(said)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--print", action="store_true", dest="show")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FAMILY_OR_FAULT",
        help="run these; the output keeps its other rows",
    )
    parser.add_argument("--folder", type=Path, help="where good artefacts are kept for another run")
    parser.add_argument("--artefact", type=Path, help="of a BERT, instead of the small ones")
    parser.add_argument("--another", type=Path, help="an artefact of the same shapes")
    parser.add_argument("--task", type=task_named)
    parser.add_argument("--data", type=Path, help="the folder of GLUE")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    given = (arguments.artefact, arguments.task, arguments.data)
    if any(given) and not all(given):
        parser.error("--artefact, --task and --data go together")
    return arguments


def _projects(arguments: argparse.Namespace, folder: Path) -> Projects:
    if arguments.artefact is None:
        return SmallProjects(folder)
    return Given(arguments.artefact, arguments.task, arguments.data, arguments.another)


if __name__ == "__main__":
    main()
