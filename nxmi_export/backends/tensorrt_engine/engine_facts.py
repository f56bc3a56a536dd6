"""`engine.json` of an artefact in, every fact of its engine out; everyone reads it through this.

It binds what the build left to one plan: the graph with its tensors, the log and the layers each by
its hash. A document of another version, with a key missing or with one more, is refused.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nxmi_export.artefact import ENGINE_FACTS, PLAN, Artefact
from nxmi_export.backends.tensorrt_engine.library import LibraryName
from nxmi_export.backends.tensorrt_engine.options import EngineOptions, HardwareCompatibility
from nxmi_export.backends.tensorrt_engine.profile import Shape, ShapeProfile
from nxmi_export.backends.tensorrt_engine.verdict import Verdict
from nxmi_export.errors import ArtefactError

__all__ = ["ENGINE_SCHEMA", "BuilderFacts", "EngineFacts", "FileHash", "GraphFacts", "LintFacts"]

Schema: TypeAlias = Literal["nxmi-export/engine/3"]
ENGINE_SCHEMA: Schema = "nxmi-export/engine/3"
Generation: TypeAlias = Annotated[str, Field(pattern=r"^sm\d{2,3}$")]
"""Of a GPU, as "sm86" for SM 8.6."""
Told: TypeAlias = Verdict | Literal["not claimed"]
"""Of a promise that the graph may not make."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileHash(_Record):
    """A file beside engine.json, bound by its hash."""

    name: str
    sha256: str


class GraphFacts(FileHash):
    """The ONNX file that was built, and the files its tensors lie in."""

    tensors: tuple[FileHash, ...]


class PlanFacts(FileHash):
    """The engine's own file."""

    bytes: int


class BuilderFacts(_Record):
    """The library that built the engine."""

    name: LibraryName
    version: str  # a plan loads in no other

    @property
    def is_rtx(self) -> bool:
        """Whether it was TensorRT-RTX, which chooses kernels on the machine that runs them."""
        return self.name == "tensorrt_rtx"


class ProfileFacts(_Record):
    """One shape profile, each shape as (batch, sequence)."""

    min: tuple[int, int]
    opt: tuple[int, int]
    max: tuple[int, int]


class OptionFacts(_Record):
    """What was asked of the builder."""

    compute_capabilities: tuple[str, ...]
    workspace_bytes: int | None
    optimization_level: int | None
    sparsity: Literal["enable", "disable"]
    tf32: bool
    version_compatible: bool
    hardware_compatibility: HardwareCompatibility
    refit: bool
    strip_weights: bool
    profiling_verbosity: Literal["detailed"]


class IgnoredFacts(_Record):
    """An option that was asked for and changed nothing."""

    option: str
    reason: str


class LintFacts(_Record):
    """What the linter found before the build, and for which GPU generations."""

    compute_capabilities: tuple[Generation, ...] = Field(min_length=1)
    assumed: str | None  # why they are a guess, where they are
    counts: dict[str, int]  # by severity
    findings: tuple[dict[str, Any], ...]

    @property
    def capabilities(self) -> tuple[int, ...]:
        """As the linter takes them: 86 for SM 8.6."""
        return tuple(int(name.removeprefix("sm")) for name in self.compute_capabilities)


class TimingCacheFacts(_Record):
    """The kernel timings of earlier builds."""

    file: str | None
    was_read: bool
    refused: str | None


class LinearCounts(_Record):
    """Linears by what is proved of them."""

    total: int
    int8: int
    int8_output: int


class AttentionCounts(_Record):
    """Attentions by what is proved of them."""

    total: int
    int8: int


class ModuleFacts(_Record):
    """What the log shows about one module."""

    module: str
    verdict: Verdict
    reason: str


class Int8Facts(_Record):
    """What the log shows about every module that is quantized."""

    verdict: Told
    linears: LinearCounts
    attentions: AttentionCounts
    modules: tuple[ModuleFacts, ...]


class SparseFacts(_Record):
    """What the log shows about kernels that skip zeros."""

    verdict: Told
    reason: str
    eligible: int | None
    chosen: int | None


class RunFacts(_Record):
    """Whether the plan ran."""

    verdict: Verdict
    reason: str


class EngineFacts(_Record):
    """The contents of `engine.json`."""

    schema_: Schema = Field(alias="schema")
    graph: GraphFacts
    plan: PlanFacts
    log: FileHash  # of this build, its evidence
    layers: FileHash  # the same and, where a GPU was, the inspector's account of the plan
    library: BuilderFacts
    compute_capabilities: tuple[Generation, ...]  # empty: the GPU that it was built on
    inputs: tuple[str, ...]
    profiles: tuple[ProfileFacts, ...] = Field(min_length=1)
    options: OptionFacts
    ignored: tuple[IgnoredFacts, ...]
    lint: LintFacts
    timing_cache: TimingCacheFacts
    trtexec: tuple[str, ...]  # NVIDIA's own command that does the same
    seconds: float
    int8: Int8Facts
    sparse_kernels: SparseFacts
    runs: RunFacts

    @classmethod
    def read(cls, artefact: Artefact) -> "EngineFacts | None":
        """None where the artefact has no engine; files that its manifest does not list are none.

        Raises ArtefactError for a plan without its facts, facts without their plan, and a document
        that `nxmi-export build` of this version does not write.
        """
        if not {PLAN, ENGINE_FACTS} & artefact.manifest.files.keys():
            return None
        artefact.path(PLAN)
        path = artefact.path(ENGINE_FACTS)
        content = path.read_bytes()
        try:
            found = _schema_of(content)
            if found == ENGINE_SCHEMA:
                return cls.model_validate_json(content, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ArtefactError(
                path,
                expected=f"what nxmi-export build writes under the schema {ENGINE_SCHEMA}",
                found=f"{place}: {first['msg']}",
                remedy="build the engine again",
            ) from error
        raise ArtefactError(
            path,
            expected=f"the schema {ENGINE_SCHEMA}",
            found=found,
            remedy="build the engine again",
        )

    def check_own(self, artefact: Artefact) -> None:
        """Raises ArtefactError where the engine was built from other files than the artefact's."""
        for file in (self.graph, *self.graph.tensors, self.plan):
            record = artefact.manifest.files.get(file.name)
            if record is None or record.sha256 != file.sha256:
                raise ArtefactError(
                    artefact.path(ENGINE_FACTS),
                    expected=f"an engine of this artefact's {file.name}",
                    found=f"one of a {file.name} with SHA-256 {file.sha256[:12]}…, "
                    "which is another",
                    remedy="build the engine again",
                )

    def plan_to_run(self, artefact: Artefact) -> Path:
        """The plan's file; raises ArtefactError for one of other files, or without its weights.

        Everyone who runs or serves a plan asks here: without a refit it computes nothing.
        """
        self.check_own(artefact)
        path = artefact.path(PLAN)
        if self.options.strip_weights:
            raise ArtefactError(
                path,
                expected="a plan with its weights",
                found="one built with --strip-weights, which runs only after a refit",
                remedy="build it again without the option",
            )
        return path

    @property
    def longest(self) -> int:
        """The tokens of the longest input that a profile holds."""
        return max(profile.max[1] for profile in self.profiles)

    def shape_profiles(self, position_limit: int) -> tuple[ShapeProfile, ...]:
        """Those that another build should repeat; raises ShapeError beyond the position table."""
        return tuple(
            ShapeProfile(Shape(*each.min), Shape(*each.opt), Shape(*each.max), position_limit)
            for each in self.profiles
        )

    def engine_options(self) -> EngineOptions:
        """Those that another build should repeat."""
        told = self.options
        return EngineOptions(
            compute_capabilities=told.compute_capabilities,
            workspace_bytes=told.workspace_bytes,
            optimization_level=told.optimization_level,
            sparse_weights=told.sparsity == "enable",
            tf32=told.tf32,
            version_compatible=told.version_compatible,
            hardware_compatibility=told.hardware_compatibility,
            refit=told.refit,
            strip_weights=told.strip_weights,
        )

    def as_json(self) -> dict[str, Any]:
        """The document again, as plain data."""
        return self.model_dump(mode="json", by_alias=True)


def _schema_of(content: bytes) -> str:
    """What a document calls itself, or what it is instead of one."""
    try:
        facts = json.loads(content)
    except ValueError:
        return "no JSON"
    return str(facts.get("schema")) if isinstance(facts, dict) else "no mapping"
