"""engine.json as `build` writes it, of engines that were never built."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact, file_record, read_artefact, sha256_of
from nxmi_export.backends.tensorrt_engine import EngineOptions
from nxmi_export.backends.tensorrt_engine.engine_facts import ENGINE_SCHEMA

__all__ = ["engine_document", "profiles_of", "with_engine_document"]

ABSENT = "00" * 32
UNKNOWN = {"verdict": "unproven", "reason": "nothing was built"}


def engine_document(folder: Path, **changes: Any) -> dict[str, Any]:
    """Every key, with the hashes of the files in `folder`."""
    plan = folder / "model.plan"
    facts = {
        "schema": ENGINE_SCHEMA,
        "graph": {**_bound(folder, "model.onnx"), "tensors": [_bound(folder, "model.onnx.data")]},
        "plan": {
            **_bound(folder, "model.plan"),
            "bytes": plan.stat().st_size if plan.exists() else 0,
        },
        "log": _bound(folder, "build.log"),
        "layers": _bound(folder, "layers_model.json"),
        "library": {"name": "tensorrt", "version": "10.14.1"},
        "compute_capabilities": [],
        "inputs": ["input_ids", "attention_mask", "token_type_ids"],
        "profiles": profiles_of(([1, 1], [8, 32], [16, 64])),
        "options": EngineOptions().as_json(),
        "ignored": [],
        "lint": {
            "compute_capabilities": ["sm86"],
            "assumed": None,
            "counts": {"refuse": 0, "alter": 0, "degrade": 0, "note": 0},
            "findings": [],
        },
        "timing_cache": {"file": None, "was_read": False, "refused": None},
        "trtexec": ["trtexec", "--onnx=model.onnx"],
        "seconds": 1.5,
        "int8": {
            "verdict": "unproven",
            "linears": {"total": 0, "int8": 0, "int8_output": 0},
            "attentions": {"total": 0, "int8": 0},
            "modules": [],
        },
        "sparse_kernels": {**UNKNOWN, "eligible": None, "chosen": None},
        "runs": UNKNOWN,
    }
    return {name: value for name, value in (facts | changes).items() if value is not ...}


def profiles_of(*shapes: Sequence[list[int]]) -> list[Mapping[str, list[int]]]:
    """Each profile from its min, opt and max, all as [batch, sequence]."""
    return [dict(zip(("min", "opt", "max"), each, strict=True)) for each in shapes]


def with_engine_document(artefact: Artefact, **changes: Any) -> Artefact:
    """The artefact, whose model.plan lies there already, with an engine.json about it.

    A change to `...` leaves the key out.
    """
    folder = artefact.directory
    document = engine_document(folder, **changes)
    (folder / "engine.json").write_text(json.dumps(document), encoding="utf-8")
    made = {name: file_record(folder / name) for name in ("model.plan", "engine.json")}
    files = artefact.manifest.files | made
    artefact.manifest.model_copy(update={"files": files}).write(folder)
    return read_artefact(folder)


def _bound(folder: Path, name: str) -> dict[str, str]:
    path = folder / name
    return {"name": name, "sha256": sha256_of(path) if path.exists() else ABSENT}
