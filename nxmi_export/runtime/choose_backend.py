"""What `bench` and `parity` stored beside an artefact in, which library to run it with out.

A faster one is taken where both speak for it: times of these files from this processor, and a
report of these files that passed with it on this processor, both of the release of OpenVINO that is
installed. What cannot be read speaks for nothing.
The reason is kept, for a log to say.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nxmi_export.artefact_files import BENCH, CERTIFICATE
from nxmi_export.backends.names import Backend
from nxmi_export.backends.openvino_library import products
from nxmi_export.errors import CapabilityMissing
from nxmi_export.processor import this_processor
from nxmi_export.runtime.served_files import ServedFiles

__all__ = ["BENCH_SCHEMA", "PARITY_SCHEMA", "Chosen", "choose_backend"]

# Those of `nxmi_export.bench` and `nxmi_export.parity`, which a server does without.
BENCH_SCHEMA = "nxmi-export/bench/3"
PARITY_SCHEMA = "nxmi-export/parity-run/4"

_ABSENT = object()


@dataclass(frozen=True)
class Chosen:
    """A library, and why it."""

    backend: Backend
    reason: str


def choose_backend(served: ServedFiles, threads: int | None) -> Chosen:
    """The fastest library whose speed and answers are known; onnxruntime where that is unknown.

    `threads` are those that `load` is asked for, for which alone times of as many speak.
    """
    bench = _read(served.directory / BENCH)
    if not _is_of_these_models(bench, served):
        return Chosen(Backend.ONNXRUNTIME, f"no {BENCH} of these files is stored")
    speed = _speed_of_openvino(bench)
    if speed is None:
        return Chosen(Backend.ONNXRUNTIME, f"{BENCH} has no times of OpenVINO beside onnxruntime")
    if not speed > 1:
        told = f"OpenVINO is {speed:.2f} times as fast as onnxruntime in {BENCH}"
        return Chosen(Backend.ONNXRUNTIME, told)
    report = next(_reports_of_openvino(served, _at(bench, "environment")), None)
    if report is None:
        told = "no parity report of these files passed with OpenVINO where it was timed"
        return Chosen(Backend.ONNXRUNTIME, told)
    other = _other_machine(bench, threads)
    if other is not None:
        return Chosen(Backend.ONNXRUNTIME, other)
    told = f"OpenVINO is {speed:.2f} times as fast as onnxruntime in {BENCH}, and passed {report}"
    return Chosen(Backend.OPENVINO, told)


def _other_machine(bench: Any, threads: int | None) -> str | None:
    """Why its times do not speak for this process; None where they do."""
    if _at(bench, "environment", "processor") != str(this_processor()):
        return f"{BENCH} was measured on another processor than {this_processor()}"
    asked = _at(bench, "settings", "threads")  # words where it was asked for none
    if (asked if isinstance(asked, int) else None) != threads:
        than = f"{threads}" if threads else "the library's own choice"
        return f"{BENCH} was measured with another number of threads than {than}"
    for library in Backend:
        try:
            release = version(library)
        except PackageNotFoundError:
            continue  # which `products` says, with what to do, or the session
        if _at(bench, "environment", library) != release:
            return f"{BENCH} was measured with another {library} than {release}"
    try:
        here = products()
    except CapabilityMissing as missing:
        return str(missing)
    there = _at(bench, "contenders", "openvino", "products")
    if here != there:
        return f"OpenVINO was timed with {there} products, and takes {here} ones on this processor"
    return None


def _speed_of_openvino(bench: Any) -> float | None:
    """Against onnxruntime: geometric mean of all that both were timed on; None for nothing."""
    ratios = []
    for workload in (*_list(bench, "workloads"), *_list(bench, "texts")):
        one, other = (
            _at(workload, "results", each, "call", "p50")
            for each in (Backend.ONNXRUNTIME, Backend.OPENVINO)
        )
        if _is_time(one) and _is_time(other):
            ratios.append(math.log(one / other))
    return math.exp(sum(ratios) / len(ratios)) if ratios else None


def _is_of_these_models(bench: Any, served: ServedFiles) -> bool:
    now = {name: each for name, each in served.hashes.items() if name.startswith("model.")}
    return bool(_at(bench, "schema") == BENCH_SCHEMA and _at(bench, "artefact", "files") == now)


def _reports_of_openvino(served: ServedFiles, environment: Any) -> Iterator[str]:
    """The names of reports that vouch for it, in its release and on the processor of the times."""
    now = {name: each for name, each in served.hashes.items() if name != CERTIFICATE}
    for path in sorted(served.directory.glob("parity-*.json")):
        report = _read(path)
        files = _at(report, "artefact")
        if (
            _at(report, "schema") == PARITY_SCHEMA
            and _at(report, "ok") is True
            and _at(report, "facts") == served.facts_sha256
            and isinstance(report, Mapping)
            and report.get("limit", _ABSENT) is None  # whole dev sets
            and report.get("allowances") == []
            and isinstance(files, Mapping)
            and {name: each for name, each in files.items() if name != CERTIFICATE} == now
            and (splits := _list(report, "splits"))
            and all(_ran_whole(split, environment) for split in splits)
        ):
            yield path.name


def _ran_whole(split: Any, environment: Any) -> bool:
    examples = _at(split, "dataset", "examples")
    return (
        _at(split, "ok") is True
        and _at(split, "failures") == []
        and isinstance(examples, int)
        and examples > 0
        and _at(split, "rungs", Backend.OPENVINO, "examples") == examples
        and all(
            isinstance(there := _at(environment, key), str)
            and _at(split, "environment", key) == there
            for key in ("processor", Backend.OPENVINO)
        )
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # it then speaks for nothing


def _at(document: Any, *keys: str) -> Any:
    """What lies below these keys; None where one is missing."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _list(document: Any, key: str) -> list[Any]:
    found = _at(document, key)
    return found if isinstance(found, list) else []


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value > 0
