"""An ONNX file or an artefact in, what TensorRT would refuse or spoil out; mended if asked."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from nxmi_export.artefact import FP16_MODEL, INT4_MODEL, MANIFEST, MODEL, read_artefact
from nxmi_export.errors import ArtefactError, OutputError, UsageError
from nxmi_export.output_files import temporary_directory
from nxmi_export.workflow.read_graph import read_graph
from passes import PassError
from passes.lint import EXACT_FIXES, ROUNDING_FIXES, Finding, Mended, Severity, lint, mend

__all__ = ["LintReport", "LintRequest", "LintedGraph", "lint_graph"]

SCHEMA = "nxmi-export/lint/2"
_ENGINE_GRAPHS = (MODEL, FP16_MODEL, INT4_MODEL)  # what `build` takes of an artefact
# Protocol buffers end at 2 GiB; a file with its tensors inside must stay below, with some room.
_LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class LintRequest:
    """What to look at, what it is to be built for, and where a mended copy goes."""

    subject: Path  # an ONNX file, or an artefact
    sm: int = 86
    sequence: int | None = None  # tokens of the longest input
    fixed: Path | None = None  # where to write the mended graph; None mends nothing
    requantize: bool = False  # mend also what cannot be mended without rounding anew


@dataclass(frozen=True)
class LintedGraph:
    """One file that an engine can be built from, and what was found in it."""

    name: str
    findings: tuple[Finding, ...]

    def as_json(self) -> list[dict[str, str]]:
        """Its findings, each with its name."""
        return [{"graph": self.name, **finding.as_json()} for finding in self.findings]


@dataclass(frozen=True)
class LintReport:
    """The findings in every graph, or in the mended copy, and what the fixes did."""

    subject: Path
    sm: int
    graphs: tuple[LintedGraph, ...]  # the mended one alone where there is one
    before: LintedGraph | None  # the graph that was mended, as it was
    fixed: Path | None
    mended: Mended | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all graphs, one after the other."""
        return tuple(finding for graph in self.graphs for finding in graph.findings)

    @property
    def is_ready(self) -> bool:
        """Whether nothing is left that TensorRT refuses, alters or degrades."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    def counts(self) -> dict[str, int]:
        """Findings by severity, worst first, zero included."""
        counted = Counter(finding.severity for finding in self.findings)
        return {str(severity): counted[severity] for severity in Severity}

    def as_json(self) -> dict[str, Any]:
        """Plain data with a versioned schema."""
        return {
            "schema": SCHEMA,
            "subject": str(self.subject),
            "compute_capability": f"sm{self.sm}",
            "ready": self.is_ready,
            "counts": self.counts(),
            "graphs": [graph.name for graph in self.graphs],
            "findings": [finding for graph in self.graphs for finding in graph.as_json()],
            "fixed": None if self.fixed is None else str(self.fixed),
            "findings_before": None if self.before is None else self.before.as_json(),
            "fixes": None if self.mended is None else self.mended.ledger.as_json(),
            "fixes_not_run": None if self.mended is None else dict(self.mended.not_run),
        }


def lint_graph(request: LintRequest) -> LintReport:
    """Read every graph, find what TensorRT would make of it, and write a mended copy where asked.

    Of an artefact that is every graph that an engine can be built from; `model.onnx` is mended.
    Raises ArtefactError for what is no graph, UsageError for one that is too broken to mend,
    OutputError for an output path in use; nothing is written then.
    """
    paths = _graph_paths(request.subject)
    if request.fixed is None:
        graphs = tuple(_linted(path.name, read_graph(path), request) for path in paths)
        return LintReport(request.subject, request.sm, graphs, None, None, None)
    if request.fixed.exists():
        raise OutputError(
            request.fixed,
            expected="an unused output path",
            found="a file of that name",
            remedy="choose another with -o, or delete it",
        )
    path = paths[0]
    model = read_graph(path)
    before = _linted(path.name, model, request)
    mended = _mend(path, model, requantize=request.requantize)
    after = _linted(request.fixed.name, mended.model, request)
    _write(mended.model, request.fixed)
    return LintReport(request.subject, request.sm, (after,), before, request.fixed, mended)


def _graph_paths(subject: Path) -> tuple[Path, ...]:
    if (subject / MANIFEST).is_file():
        artefact = read_artefact(subject)
        files = artefact.manifest.files
        return tuple(artefact.path(name) for name in _ENGINE_GRAPHS if name in {MODEL, *files})
    if subject.is_file():
        return (subject,)
    raise ArtefactError(
        subject,
        expected="an ONNX file or an artefact",
        found="a folder without a manifest" if subject.is_dir() else "no file",
        remedy="correct the path",
    )


def _linted(name: str, model: ir.Model, request: LintRequest) -> LintedGraph:
    return LintedGraph(name, lint(model, sm=request.sm, sequence=request.sequence))


def _mend(path: Path, model: ir.Model, *, requantize: bool) -> Mended:
    try:
        return mend(model, (*ROUNDING_FIXES, *EXACT_FIXES) if requantize else EXACT_FIXES)
    except PassError as error:
        raise UsageError(
            path, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


def _write(model: ir.Model, path: Path) -> None:
    """Write the model whole or not at all, its tensors beside it where they are large."""
    path = path.absolute()
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    data = f"{path.name}.data" if size > _LARGEST_FILE else None
    if data is None:
        _bring_in_tensors(model)
    with temporary_directory(path.parent) as workshop:
        ir.save(model, workshop / path.name, external_data=data)
        # The graph last: a file that is there is whole.
        for name in (data, path.name):
            if name is not None:
                os.replace(workshop / name, path.parent / name)


def _bring_in_tensors(model: ir.Model) -> None:
    """Hold what lies in other files, to which the copy would refer from its own folder."""
    for value in (value for graph in model.graphs() for value in graph.initializers.values()):
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            # Copied: the rules may still hold views of the mapped file, which then stays open.
            numbers = tensor.numpy().copy()
            value.const_value = ir.Tensor(numbers, dtype=tensor.dtype, name=tensor.name)
