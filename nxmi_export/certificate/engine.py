"""An artefact's engine files in, what its engine consists of by its own build log out.

An account proves something of the plan only where engine.json has its hash. One that is bound to
nothing may be of any engine: what it refutes stands, and what it would prove is unproven.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nxmi_export.artefact import BUILD_LOG, ENGINE_FACTS, MODEL, PLAN, Artefact, sha256_of
from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    SparseEvidence,
    Verdict,
    parse_layers,
    read_layer_info,
    sparse_evidence,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import BuilderFacts, EngineFacts, FileHash
from nxmi_export.certificate.claims import Answer, Cell, answered

__all__ = ["Witness", "built_engine", "inspected_engine"]


@dataclass(frozen=True)
class Witness:
    """One account of an engine's layers: a build log, or what the inspector wrote."""

    name: str  # of the file
    layers: tuple[EngineLayer, ...]
    sparsity: SparseEvidence
    facts: EngineFacts | None  # None: the artefact has no engine
    objection: str | None  # why it speaks of another engine than one of this artefact's graph
    unbound: str | None  # why nothing says that it speaks of this plan
    places: Mapping[str, str] = field(default_factory=dict)  # of each layer, by its `line`

    @property
    def builder(self) -> BuilderFacts | None:
        """None where it is unknown, and taken for TensorRT."""
        return None if self.facts is None else self.facts.library

    @property
    def is_rtx(self) -> bool:
        """Whether the engine is known to be TensorRT-RTX's."""
        return self.builder is not None and self.builder.is_rtx

    @property
    def forbids_sparse_kernels(self) -> bool:
        """Whether it is known that no kernel that skips zeros could be chosen."""
        if self.facts is None or self.is_rtx:  # which ignores the option
            return False
        return self.facts.options.sparsity == "disable"

    @property
    def graph(self) -> str:
        """The ONNX file whose nodes the layers are named after."""
        return MODEL if self.facts is None else self.facts.graph.name

    @property
    def profiles(self) -> int:
        """How many there are, each of which has its own layers."""
        return 1 if self.facts is None else len(self.facts.profiles)

    def places_of(self, layers: tuple[EngineLayer, ...]) -> tuple[str, ...]:
        """Where each of the layers stands: "build.log line 1842"."""
        return tuple(self.places.get(layer.line, layer.line) for layer in layers)

    def vouched(self, cell: Cell) -> Cell:
        """What was read from this account; nothing is proved by one that is bound to no plan."""
        if self.unbound is None or cell.answer is not Answer.PROVED:
            return cell
        return answered(Verdict.UNPROVEN, f"{self.unbound}; it says: {cell.why}", cell.evidence)


def built_engine(artefact: Artefact) -> Witness | None:
    """The engine of the artefact by its build log; None where none was built.

    Files that the manifest does not list are none of the artefact's. Raises ArtefactError for an
    engine.json that this version does not read.
    """
    facts = EngineFacts.read(artefact)
    if facts is None:
        return None
    log = ""
    if BUILD_LOG in artefact.manifest.files:
        log = artefact.path(BUILD_LOG).read_text(encoding="utf-8", errors="replace")
    layers = parse_layers(log)
    return Witness(
        name=BUILD_LOG,
        layers=layers,
        sparsity=sparse_evidence(log, layers, facts.library),
        facts=facts,
        objection=_objection(artefact, facts),
        unbound=_unbound_log(artefact, facts),
        places=_places(log),
    )


def inspected_engine(path: Path, built: Witness | None) -> Witness:
    """The same engine by the inspector's file at `path`, which counts no sparse kernels.

    `built` is the account of the build log, where there is one. Raises UsageError for a file that
    the inspector did not write.
    """
    layers = read_layer_info(path)
    facts = None if built is None else built.facts
    return Witness(
        name=path.name,
        layers=layers,
        sparsity=sparse_evidence("", layers, None if facts is None else facts.library),
        facts=facts,
        objection=None if built is None else built.objection,
        unbound=_unbound_layers(path, facts),
    )


def _objection(artefact: Artefact, facts: EngineFacts) -> str | None:
    if facts.plan.name != PLAN or not _is_in(artefact, facts.plan):
        return f"{ENGINE_FACTS} and its log are of another plan than {PLAN}"
    if not _is_in(artefact, facts.graph):
        told = _named(facts.graph)
        return f"the engine was built from another graph: {told}, which is not the artefact's"
    for tensors in facts.graph.tensors:
        if not _is_in(artefact, tensors):
            told = _named(tensors)
            return f"the engine was built with other weights: {told}, which is not the artefact's"
    return None


def _unbound_log(artefact: Artefact, facts: EngineFacts) -> str | None:
    if BUILD_LOG not in artefact.manifest.files:
        return f"the artefact has no {BUILD_LOG}"
    if facts.log.name == BUILD_LOG and _is_in(artefact, facts.log):
        return None
    found = artefact.manifest.files[BUILD_LOG].sha256[:12]
    return (
        f"{BUILD_LOG} with SHA-256 {found}… is not the log of this build, "
        f"which {ENGINE_FACTS} has with {facts.log.sha256[:12]}…"
    )


def _unbound_layers(path: Path, facts: EngineFacts | None) -> str | None:
    if facts is None:
        return f"nothing binds {path.name} to a plan: the artefact has no engine"
    if sha256_of(path) == facts.layers.sha256:
        return None
    return (
        f"nothing binds {path.name} to {PLAN}: {ENGINE_FACTS} has no other hash of layers "
        f"than that of {facts.layers.name}"
    )


def _is_in(artefact: Artefact, file: FileHash) -> bool:
    record = artefact.manifest.files.get(file.name)
    return record is not None and record.sha256 == file.sha256


def _named(file: FileHash) -> str:
    return f"{file.name} with SHA-256 {file.sha256[:12]}…"


def _places(log: str) -> Mapping[str, str]:
    """The line of the log that each layer was read from."""
    found: dict[str, str] = {}
    # As `parse_layers` splits it.
    for number, line in enumerate(log.split("\n"), start=1):
        if ", LayerType: " in line:
            for layer in parse_layers(line):
                found.setdefault(layer.line, f"{BUILD_LOG} line {number}")
    return found
