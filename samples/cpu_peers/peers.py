"""A model's name in, the files that other tools made of it out, or why there are none.

Files are kept, and made again where what they were made with is another now: a requirement, the
release of onnxruntime, the processor that optimum chooses its settings by.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from nxmi_export.output_files import atomic_directory
from nxmi_export.processor import this_processor
from samples.cpu_peers.environment import python_of
from samples.cpu_peers.models import TASK, TEXTS, calibration_of, dense_of, onnx_of
from samples.cpu_peers.place import HERE, Failed, Place, run_program

__all__ = ["PEERS", "Made", "Peer", "made_by"]

_MADE = "made.json"  # beside the files


@dataclass(frozen=True)
class Peer:
    """One tool, and what of its own it runs on."""

    name: str
    runs_on: Literal["onnxruntime", "openvino"]
    files: tuple[str, ...]
    requirements: str | None  # a file beside this one; None: what this project runs with


@dataclass(frozen=True)
class Made:
    """What a tool made, and with what; or why it made nothing."""

    files: tuple[Path, ...]
    facts: Mapping[str, str]
    not_run: str | None = None


PEERS = (
    Peer("onnxruntime", "onnxruntime", ("quantize_dynamic.onnx", "quantize_static.onnx"), None),
    Peer(
        "optimum",
        "onnxruntime",
        ("optimum_dynamic.onnx", "optimum_static.onnx"),
        "requirements-optimum.txt",
    ),
    Peer("nncf", "openvino", ("nncf.xml",), "requirements-nncf.txt"),
)


def made_by(peer: Peer, model: str, place: Place) -> Made:
    """Its files of that model, made where they are not there; a failure is a reason."""
    facts = _facts(peer)
    folder = place.models / f"{model}-{peer.name}"
    try:
        if not _is_made(folder, facts):
            python = _python(peer, place)
            with atomic_directory(folder, replaceable=_is_ours) as made:
                run_program(*_command(peer, python, model, place, made))
                (made / _MADE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    except Failed as failure:
        return Made((), facts, str(failure))
    return Made(tuple(folder / name for name in peer.files), facts)


def _facts(peer: Peer) -> dict[str, str]:
    if peer.requirements is None:
        versions = f"onnxruntime=={version('onnxruntime')}"
    else:
        lines = (HERE / peer.requirements).read_text(encoding="utf-8").splitlines()
        versions = ", ".join(line for line in lines if "==" in line and not line.startswith("#"))
    chosen = {"processor": _processor()} if peer.name == "optimum" else {}
    return {"with": versions, "calibration": f"{TEXTS} texts of {TASK}", **chosen}


def _is_made(folder: Path, facts: Mapping[str, str]) -> bool:
    path = folder / _MADE
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == facts


def _is_ours(folder: Path) -> bool:
    return (folder / _MADE).is_file()


def _python(peer: Peer, place: Place) -> Path:
    if peer.requirements is None:
        return Path(sys.executable)
    return python_of(HERE / peer.requirements, place.models / "environments" / peer.name)


def _command(peer: Peer, python: Path, model: str, place: Place, made: Path) -> tuple[object, ...]:
    calibration = calibration_of(place).resolve()
    if peer.name == "onnxruntime":
        program = ("-m", "samples.cpu_peers.make_onnxruntime")
        return (python, *program, onnx_of(model, place), calibration, made)
    program = (HERE / f"make_{peer.name}.py",)
    if peer.name == "nncf":
        return (python, *program, onnx_of(model, place), calibration, made / peer.files[0])
    dense = dense_of(model, place)
    return (python, *program, dense, calibration, made, "--processor", _processor())


def _processor() -> str:
    """Which of optimum's settings are for this one: with VNNI instructions, or without."""
    return "avx512_vnni" if "avx512_vnni" in this_processor().int8_instructions else "avx2"
