"""The folder of an artefact in, an engine beside its graph out, which was never built.

Its `engine.json` is read back as the product reads it: one of another schema would be refused for
that, and nothing be learnt of the fault.
"""

import json
from typing import Any

from nxmi_export.artefact import (
    BUILD_LOG,
    ENGINE_FACTS,
    MODEL,
    PLAN,
    WEIGHTS,
    Manifest,
    file_record,
    read_artefact,
)
from nxmi_export.backends.tensorrt_engine import EngineOptions
from nxmi_export.backends.tensorrt_engine.engine_facts import ENGINE_SCHEMA, EngineFacts
from samples.fault_injection.site import Site

__all__ = ["write_engine"]

_UNPROVEN = {"verdict": "unproven", "reason": "nothing was built"}
_LAYERS = "layers_model.json"


def write_engine(site: Site, **hashes: str) -> None:
    """Write a plan, a log and facts of them, whose hashes are right unless others are given."""
    for name in (PLAN, BUILD_LOG, _LAYERS):
        (site.directory / name).write_bytes(b"")
    facts = _facts(site, hashes)
    (site.directory / ENGINE_FACTS).write_text(json.dumps(facts), encoding="utf-8")
    made = (PLAN, BUILD_LOG, _LAYERS, ENGINE_FACTS)
    files = Manifest.read(site.directory).files
    site.facts(files={**files, **{name: file_record(site.directory / name) for name in made}})
    assert EngineFacts.read(read_artefact(site.directory)) is not None


def _facts(site: Site, hashes: dict[str, str]) -> dict[str, Any]:
    def bound(name: str) -> dict[str, str]:
        own = file_record(site.directory / name).sha256
        return {"name": name, "sha256": hashes.get(name, own)}

    return {
        "schema": ENGINE_SCHEMA,
        "graph": {**bound(MODEL), "tensors": [bound(WEIGHTS)]},
        "plan": {**bound(PLAN), "bytes": 0},
        "log": bound(BUILD_LOG),
        "layers": bound(_LAYERS),
        "library": {"name": "tensorrt", "version": "10.14.1"},
        "compute_capabilities": [],
        "inputs": list(Manifest.read(site.directory).input_names),
        "profiles": [{"min": [1, 1], "opt": [4, 16], "max": [8, 32]}],
        "options": EngineOptions().as_json(),
        "ignored": [],
        "lint": {
            "compute_capabilities": ["sm86"],
            "assumed": None,
            "counts": {},
            "findings": [],
        },
        "timing_cache": {"file": None, "was_read": False, "refused": None},
        "trtexec": [],
        "seconds": 0.0,
        "int8": {
            "verdict": "unproven",
            "linears": {"total": 0, "int8": 0, "int8_output": 0},
            "attentions": {"total": 0, "int8": 0},
            "modules": [],
        },
        "sparse_kernels": {**_UNPROVEN, "eligible": None, "chosen": None},
        "runs": _UNPROVEN,
    }
