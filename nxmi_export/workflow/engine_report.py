"""A finished build and what its graph promised in, what is proved of the engine out."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

import passes
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    Int8Coverage,
    ModuleEvidence,
    ProductNodes,
    SparseEvidence,
    Verdict,
    int8_coverage,
    sparse_evidence,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import ENGINE_SCHEMA, FileHash, GraphFacts
from nxmi_export.backends.tensorrt_engine.graph_products import product_modules, shared_input_nodes
from nxmi_export.workflow.engine_files import EngineFiles
from nxmi_export.workflow.lint_gate import LintTargets
from passes.constants import constant, constant_values
from passes.lint import Finding, Severity
from passes.lint.reading import Reading, has_pairs, is_int8
from passes.lint.unfold import unfold
from passes.quantizers import is_dequantize, is_quantize

__all__ = ["EngineReport", "Promised", "QuantizedModules", "coverage_of", "sparsity_of"]

_SOFTMAX = ".softmax_quantizer"
_LEFT_OUT = "in float in a graph that rounds activations, and no recipe says that it is to be"


@dataclass(frozen=True)
class QuantizedModules:
    """What an engine must run in INT8, by module name, and the products of the graph."""

    linears: tuple[str, ...]
    attentions: tuple[str, ...]
    products: ProductNodes  # one of no module that is to run in INT8 goes by its own name
    weights_alone: bool  # the graph quantizes weights and rounds no activation
    two_of_four: bool  # the stored numbers of a linear that is to run in INT8 are 2:4
    left_out: tuple[str, ...] = ()  # linears over every token, in float, and nobody says why

    @classmethod
    def of(cls, model: ir.Model, *, floats_are_meant: bool = False) -> "QuantizedModules":
        """The quantized linears and attentions of a graph; `floats_are_meant` by a recipe.

        A linear that no module is recorded for, as in the files of other tools, goes by the name
        of its node; attentions are known by their modules alone. A graph that quantizes weights and
        no activation promises no INT8 product: its codes are there to be small.
        """
        model = unfold(model)
        graph = model.graph
        fixed = constant_values(graph)
        rounds = any(
            is_quantize(node) and not (node.inputs[0] in fixed or constant(node.inputs[0]))
            for node in graph
        )
        quantized = [
            layer
            for layer in passes.linear_layers(graph)
            if (layer.weight.is_integer and rounds) or is_int8(layer)
        ]
        linears = {layer.node.name: _name_of(layer) for layer in quantized}
        softmax = (passes.module_of(node) for node in graph if node.op_type == "QuantizeLinear")
        attentions = {name.removesuffix(_SOFTMAX) for name in softmax if name.endswith(_SOFTMAX)}
        products = {
            node.name: passes.module_of(node)
            for node in passes.attention_matmuls(graph)
            if passes.module_of(node) in attentions
        }
        others = {name: name for name in product_modules(model)}
        known = {str(name): told for name, told in (others | linears | products).items() if name}
        nodes = ProductNodes(known, shared_input_nodes(model))
        multiplied = {layer.node for layer in quantized}
        floats = [each for each in Reading(model).token_layers if each.node not in multiplied]
        return cls(
            tuple(dict.fromkeys(linears.values())),
            tuple(sorted(attentions)),
            nodes,
            weights_alone=not rounds and any(is_dequantize(node) for node in graph),
            two_of_four=any(has_pairs(each, each.weight.reduction_axis) for each in quantized),
            left_out=tuple(dict.fromkeys(map(_name_of, floats)))
            if rounds and not floats_are_meant
            else (),
        )


@dataclass(frozen=True)
class Promised:
    """What is known of something that a graph promises of its engine."""

    verdict: Verdict | None  # None: it does not promise that
    reason: str  # empty where the modules tell

    @property
    def told(self) -> str:
        """The verdict in words."""
        return self.verdict or "not claimed"


@dataclass(frozen=True)
class EngineReport:
    """One build and what its log proves."""

    result: BuildResult
    files: EngineFiles
    graph: GraphFacts
    log: FileHash
    layers: FileHash
    targets: LintTargets
    findings: tuple[Finding, ...]  # of the linter; none that TensorRT refuses, or nothing was built
    modules: QuantizedModules
    coverage: Int8Coverage
    sparsity: SparseEvidence
    trtexec: tuple[str, ...]  # NVIDIA's own command that does the same
    timing_cache: str | None  # the file that the timings were written to

    @property
    def int8(self) -> Promised:
        """Whether what the graph quantizes is multiplied in INT8, if it promises that."""
        if self.modules.weights_alone:
            return Promised(None, "the graph quantizes weights alone")
        return Promised(self.coverage.verdict, "")

    @property
    def sparse_kernels(self) -> Promised:
        """Whether 2:4 zeros are skipped, if the graph has any in an INT8 product."""
        if not self.modules.two_of_four:
            return Promised(None, "no INT8 product of the graph has 2:4 weights")
        if not self.result.options.sparse_weights:
            return Promised(None, "--sparsity disable forbids them")
        return Promised(self.sparsity.verdict, self.sparsity.reason)

    @property
    def refuted(self) -> bool:
        """Whether the log shows that something promised is not so."""
        return Verdict.REFUTED in (self.int8.verdict, self.sparse_kernels.verdict)

    @property
    def proved(self) -> bool:
        """Whether the log shows that everything promised is so."""
        return {self.int8.verdict, self.sparse_kernels.verdict} <= {Verdict.PROVED, None}

    @property
    def degraded(self) -> tuple[Finding, ...]:
        """What builds, but slower or as something else than was meant."""
        return tuple(each for each in self.findings if each.severity is Severity.DEGRADE)

    def as_json(self) -> dict[str, Any]:
        """Plain data for `engine.json`, which `EngineFacts` reads back."""
        result = self.result
        counts = Counter(finding.severity for finding in self.findings)
        return {
            "schema": ENGINE_SCHEMA,
            "graph": self.graph.model_dump(mode="json"),
            "plan": {"name": result.plan.name, "bytes": result.size_bytes, "sha256": result.sha256},
            "log": self.log.model_dump(),
            "layers": self.layers.model_dump(),
            "library": {"name": result.library.name, "version": result.library.version},
            "compute_capabilities": list(result.compute_capabilities),
            "inputs": list(result.input_names),
            "profiles": [profile.as_json() for profile in result.profiles],
            "options": result.options.as_json(),
            "ignored": [each.as_json() for each in result.ignored],
            "lint": {
                **self.targets.as_json(),
                "counts": {str(severity): counts[severity] for severity in Severity},
                "findings": [finding.as_json() for finding in self.findings],
            },
            "timing_cache": {
                "file": self.timing_cache,
                "was_read": result.timing_cache.was_read,
                "refused": result.timing_cache.refused,
            },
            "trtexec": list(self.trtexec),
            "seconds": round(result.seconds, 3),
            "int8": {**self.coverage.as_json(), "verdict": self.int8.told},
            "sparse_kernels": {
                "verdict": self.sparse_kernels.told,
                "reason": self.sparse_kernels.reason,
                "eligible": self.sparsity.eligible,
                "chosen": self.sparsity.chosen,
            },
            "runs": {"verdict": Verdict.UNPROVEN, "reason": "the plan was not run on a GPU"},
        }


def coverage_of(result: BuildResult, modules: QuantizedModules) -> Int8Coverage:
    """How much of what the graph quantizes the engine runs in INT8.

    A linear that it leaves out counts as well, unproven: it may have been forgotten.
    """
    found = int8_coverage(
        result.layers,
        modules.products,
        linears=modules.linears,
        attentions=modules.attentions,
        profiles=len(result.profiles),
    )
    left_out = tuple(
        ModuleEvidence(name, Verdict.UNPROVEN, _LEFT_OUT, False, (), False)
        for name in modules.left_out
    )
    return replace(found, linears=(*found.linears, *left_out))


def sparsity_of(result: BuildResult) -> SparseEvidence:
    """Whether kernels that skip 2:4 zeros were chosen."""
    return sparse_evidence(result.log, result.layers, result.library)


def _name_of(layer: passes.LinearLayer) -> str:
    return layer.module or str(layer.node.name or layer.node.outputs[0].name)
