"""An artefact in, the same artefact with an engine and the proof of its precision out."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

import passes
from nxmi_export.artefact import (
    BUILD_LOG,
    ENGINE_FACTS,
    MODEL,
    PLAN,
    Artefact,
    replace_files,
)
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    Int8Coverage,
    Library,
    ShapeProfile,
    SparseEvidence,
    Verdict,
    build_engine,
    int8_coverage,
    sparse_evidence,
)
from nxmi_export.backends.tensorrt_engine.progress import OnProgress
from nxmi_export.errors import EngineBuildFailed
from nxmi_export.output_files import temporary_directory
from nxmi_export.workflow.interruptible import interruptible

__all__ = [
    "BUILD_LOG",
    "ENGINE_FACTS",
    "FAILED_LOG",
    "PLAN",
    "EngineReport",
    "QuantizedModules",
    "build",
]

FAILED_LOG = "build.failed.log"  # of the latest build if it failed; never in the manifest
_WRITTEN = (PLAN, BUILD_LOG, ENGINE_FACTS)
SCHEMA = "nxmi-export/engine/1"
_SOFTMAX = ".softmax_quantizer"


@dataclass(frozen=True)
class EngineReport:
    """One build and what its log proves."""

    result: BuildResult
    coverage: Int8Coverage
    sparsity: SparseEvidence
    graph: str  # the file of the artefact that was built

    @property
    def refuted(self) -> bool:
        """Whether the log shows that something promised is not so."""
        return self.coverage.verdict is Verdict.REFUTED or self.sparsity.verdict is Verdict.REFUTED

    @property
    def proved(self) -> bool:
        """Whether the log shows that everything promised is so."""
        return self.coverage.verdict is self.sparsity.verdict is Verdict.PROVED

    def as_json(self) -> dict[str, Any]:
        """Plain data for `engine.json`."""
        result = self.result
        return {
            "schema": SCHEMA,
            "graph": self.graph,
            "plan": {"name": result.plan.name, "bytes": result.size_bytes, "sha256": result.sha256},
            "library": {"name": result.library.name, "version": result.library.version},
            "compute_capability": result.compute_capability,
            "shapes": str(result.profile),
            "seconds": round(result.seconds, 3),
            "int8": self.coverage.as_json(),
            "sparse_kernels": {
                "verdict": self.sparsity.verdict,
                "reason": self.sparsity.reason,
                "eligible": self.sparsity.eligible,
                "chosen": self.sparsity.chosen,
            },
            "runs": {"verdict": Verdict.UNPROVEN, "reason": "the plan was not run on a GPU"},
        }


@dataclass(frozen=True)
class QuantizedModules:
    """What an engine must run in INT8, by module name, and the graph nodes to look for."""

    linears: tuple[str, ...]
    attentions: tuple[str, ...]
    node_modules: Mapping[str, str]  # node name → module name

    @classmethod
    def read(cls, onnx_path: Path) -> "QuantizedModules":
        """Read the stored-integer linears and quantized attentions of a lowered graph."""
        graph = ir.load(onnx_path).graph
        linears = {
            layer.node.name: layer.module
            for layer in passes.linear_layers(graph)
            if layer.weight.is_integer
        }
        softmax = (passes.module_of(node) for node in graph if node.op_type == "QuantizeLinear")
        attentions = {name.removesuffix(_SOFTMAX) for name in softmax if name.endswith(_SOFTMAX)}
        products = {
            node.name: passes.module_of(node)
            for node in passes.attention_matmuls(graph)
            if passes.module_of(node) in attentions
        }
        nodes = {name: module for name, module in (linears | products).items() if name}
        return cls(tuple(dict.fromkeys(linears.values())), tuple(sorted(attentions)), nodes)


def build(
    artefact: Artefact,
    *,
    profile: ShapeProfile,
    library: Library,
    options: EngineOptions,
    on_progress: OnProgress | None = None,
    graph: str = MODEL,
) -> EngineReport:
    """Build `graph` into `model.plan`, with `engine.json` and `build.log` beside it.

    `graph` is `model.onnx` or, of an artefact that was exported with it, `model.fp16.onnx`.
    Raises as `build_engine` does; an earlier engine is then left as it was. The log is kept in the
    artefact, whatever `options.log_path` says: that of a failed build as `build.failed.log`.
    """
    directory = artefact.directory
    source = artefact.path(graph)
    modules = QuantizedModules.read(source)
    with temporary_directory(directory) as workshop:
        try:
            with interruptible(on_progress) as heard:
                result = build_engine(
                    source,
                    workshop / PLAN,
                    profile=profile,
                    library=library,
                    options=replace(options, log_path=workshop / BUILD_LOG),
                    on_progress=heard,
                )
        except EngineBuildFailed as error:
            raise _with_log(error, workshop / BUILD_LOG, directory / FAILED_LOG) from error
        report = _report(replace(result, plan=directory / PLAN), modules, graph)
        facts = json.dumps(report.as_json(), indent=1)
        (workshop / ENGINE_FACTS).write_text(f"{facts}\n", encoding="utf-8")
        replace_files(artefact, workshop, _WRITTEN)
        (directory / FAILED_LOG).unlink(missing_ok=True)
    return report


def _with_log(error: EngineBuildFailed, log: Path, kept: Path) -> EngineBuildFailed:
    """The same error, saying where its log is kept from now on."""
    os.replace(log, kept)
    return EngineBuildFailed(
        error.subject,
        expected=error.expected,
        found=error.found,
        remedy=f"{error.remedy}, and see the log in {kept}",
    )


def _report(result: BuildResult, modules: QuantizedModules, graph: str) -> EngineReport:
    coverage = int8_coverage(
        result.layers,
        module_of=modules.node_modules,
        linears=modules.linears,
        attentions=modules.attentions,
    )
    return EngineReport(
        result, coverage, sparse_evidence(result.log, result.layers, result.library), graph
    )
