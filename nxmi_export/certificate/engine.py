"""An artefact's engine files in, what its engine consists of by its own build log out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nxmi_export.artefact import BUILD_LOG, ENGINE_FACTS, MODEL, PLAN, Artefact
from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    SparseEvidence,
    parse_layers,
    read_layer_info,
    sparse_evidence,
)
from nxmi_export.errors import ArtefactError

__all__ = ["Builder", "Witness", "built_engine", "inspected_engine"]

_RTX = "tensorrt_rtx"
_NOTHING: Mapping[str, str] = MappingProxyType({})


class _Facts(BaseModel):
    """What is read of engine.json; other keys are left to their readers."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Builder(_Facts):
    """The library that built an engine."""

    name: str
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether it was TensorRT-RTX, which chooses kernels on the machine that runs them."""
        return self.name == _RTX


class _File(_Facts):
    name: str
    sha256: str


class _EngineFacts(_Facts):
    library: Builder
    plan: _File
    graph: _File | None = None  # the ONNX file; engines of before it was recorded are of MODEL
    profiles: tuple[Any, ...] = (None,)  # one where they were not recorded yet


@dataclass(frozen=True)
class Witness:
    """One account of an engine's layers: a build log, or what the inspector wrote."""

    name: str  # of the file
    layers: tuple[EngineLayer, ...]
    sparsity: SparseEvidence
    builder: Builder | None  # None: unknown, taken for TensorRT
    graph: str  # the ONNX file whose nodes the layers are named after
    objection: str | None  # why it speaks of another engine than one of this artefact's graph
    places: Mapping[str, str]  # of each layer, by its `line`
    profiles: int = 1  # each of which has its own layers

    @property
    def is_rtx(self) -> bool:
        """Whether the engine is known to be TensorRT-RTX's."""
        return self.builder is not None and self.builder.is_rtx

    def places_of(self, layers: tuple[EngineLayer, ...]) -> tuple[str, ...]:
        """Where each of the layers stands: "build.log line 1842"."""
        return tuple(self.places.get(layer.line, layer.line) for layer in layers)


def built_engine(artefact: Artefact) -> Witness | None:
    """The engine of the artefact by its build log; None where none was built.

    Files that the manifest does not list are none of the artefact's. Raises ArtefactError for an
    engine.json that cannot be read.
    """
    if not {PLAN, BUILD_LOG, ENGINE_FACTS} <= artefact.manifest.files.keys():
        return None
    facts = _read_facts(artefact.path(ENGINE_FACTS))
    log = artefact.path(BUILD_LOG).read_text(encoding="utf-8", errors="replace")
    layers = parse_layers(log)
    return Witness(
        name=BUILD_LOG,
        layers=layers,
        sparsity=sparse_evidence(log, layers, facts.library),
        builder=facts.library,
        graph=MODEL if facts.graph is None else facts.graph.name,
        objection=_objection(artefact, facts),
        places=_places(log),
        profiles=len(facts.profiles),
    )


def inspected_engine(path: Path, built: Witness | None) -> Witness:
    """The same engine by the inspector's file at `path`, which counts no sparse kernels.

    `built` is the account of the build log, where there is one. Raises UsageError for a file that
    the inspector did not write.
    """
    layers = read_layer_info(path)
    builder = None if built is None else built.builder
    return Witness(
        name=path.name,
        layers=layers,
        sparsity=sparse_evidence("", layers, builder),
        builder=builder,
        graph=MODEL if built is None else built.graph,
        objection=None if built is None else built.objection,
        places=_NOTHING,
        profiles=1 if built is None else built.profiles,
    )


def _read_facts(path: Path) -> _EngineFacts:
    try:
        facts: Any = json.loads(path.read_text(encoding="utf-8"))
        return _EngineFacts.model_validate(facts)
    except (ValueError, ValidationError) as error:
        raise ArtefactError(
            path,
            expected="what nxmi-export build wrote of the engine",
            found="a file that this version cannot read",
            remedy="build the engine again",
        ) from error


def _objection(artefact: Artefact, facts: _EngineFacts) -> str | None:
    files = artefact.manifest.files
    if facts.plan.name != PLAN or files[PLAN].sha256 != facts.plan.sha256:
        return f"{ENGINE_FACTS} and its log are of another plan than {PLAN}"
    graph = facts.graph
    if graph is None or (graph.name in files and files[graph.name].sha256 == graph.sha256):
        return None
    told = f"{graph.name} with SHA-256 {graph.sha256[:12]}…"
    return f"the engine was built from another graph: {told}, which is not the artefact's"


def _places(log: str) -> Mapping[str, str]:
    """The line of the log that each layer was read from."""
    found: dict[str, str] = {}
    # As `parse_layers` splits it.
    for number, line in enumerate(log.split("\n"), start=1):
        if ", LayerType: " in line:
            for layer in parse_layers(line):
                found.setdefault(layer.line, f"{BUILD_LOG} line {number}")
    return found
