"""An order in, the files of a whole engine in a workshop out: lint, build, judge, write."""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

import passes
from nxmi_export.artefact import sha256_of
from nxmi_export.backends.nvidia_driver import NvidiaDriver, find_driver
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    Library,
    ShapeProfile,
    build_engine,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import FileHash, GraphFacts
from nxmi_export.backends.tensorrt_engine.layer_info import inspect_plan, layer_info
from nxmi_export.backends.tensorrt_engine.progress import OnProgress
from nxmi_export.backends.tensorrt_engine.trtexec import TrtexecFiles, trtexec_command
from nxmi_export.errors import OutputError
from nxmi_export.output_files import atomic_file
from nxmi_export.workflow.engine_files import IN_ARTEFACT, EngineFiles
from nxmi_export.workflow.engine_report import (
    EngineReport,
    QuantizedModules,
    coverage_of,
    sparsity_of,
)
from nxmi_export.workflow.interruptible import interruptible
from nxmi_export.workflow.lint_gate import lint_before_build, lint_targets
from nxmi_export.workflow.read_graph import read_graph

__all__ = ["EngineOrder", "make_engine"]


@dataclass(frozen=True)
class EngineOrder:
    """What to build from what, and how."""

    graph: Path
    plan: Path  # where it will lie in the end
    graph_to_type: str  # as NVIDIA's command is to name it
    plan_to_type: str
    profiles: tuple[ShapeProfile, ...]
    library: Library
    options: EngineOptions
    floats_are_meant: bool = False  # a recipe said which linears are left in float


def make_engine(
    order: EngineOrder,
    names: EngineFiles,
    workshop: Path,
    on_progress: OnProgress | None,
    look_for_driver: Callable[[], NvidiaDriver | None] = find_driver,
) -> EngineReport:
    """Write every file of `names` that this library has something to put in.

    The linter comes first: what TensorRT would refuse costs no build.
    """
    driver = look_for_driver()
    model = read_graph(order.graph)
    targets = lint_targets(order.library, order.options, driver)
    findings = lint_before_build(model, order.graph, targets, order.profiles)
    modules = QuantizedModules.of(model, floats_are_meant=order.floats_are_meant)
    asked, cache = _timing_cache(order, names)
    with interruptible(on_progress) as heard:
        result = build_engine(
            order.graph,
            workshop / names.plan,
            profiles=order.profiles,
            library=order.library,
            options=replace(order.options, timing_cache=cache, log_path=workshop / names.log),
            on_progress=heard,
        )
    kept = _keep_timings(result, asked, workshop / names.timing_cache)
    inspection = inspect_plan(result.plan, order.library, driver)
    layers = workshop / names.layers
    _write_json(layers, layer_info(result.layers, _modules(model), inspection))
    report = EngineReport(
        result=replace(result, plan=order.plan),
        files=names,
        graph=_graph_facts(order.graph, model),
        log=_hash_of(workshop / names.log),
        layers=_hash_of(layers),
        targets=targets,
        findings=findings,
        modules=modules,
        coverage=coverage_of(result, modules),
        sparsity=sparsity_of(result),
        trtexec=_command(order, names, result, kept),
        timing_cache=None if kept is None else kept.name,
    )
    _write_json(workshop / names.facts, report.as_json())
    line = shlex.join(report.trtexec)
    (workshop / names.trtexec).write_text(f"{line}\n", encoding="utf-8")
    return report


def _graph_facts(path: Path, model: ir.Model) -> GraphFacts:
    """The file and those that its tensors lie in: the same graph may come with other weights."""
    tensors = (value.const_value for g in model.graphs() for value in g.initializers.values())
    places = {str(each.location) for each in tensors if isinstance(each, ir.ExternalTensor)}
    files = tuple(_hash_of(path.parent / place, place) for place in sorted(places))
    return GraphFacts(name=path.name, sha256=sha256_of(path), tensors=files)


def _hash_of(path: Path, name: str | None = None) -> FileHash:
    return FileHash(name=name or path.name, sha256=sha256_of(path))


def _timing_cache(order: EngineOrder, names: EngineFiles) -> tuple[Path | None, Path | None]:
    """The file that was asked for, and the one to read: that, or the one of the build before."""
    asked = order.options.timing_cache
    if asked is not None and not asked.absolute().parent.is_dir():
        raise OutputError(
            asked,
            expected="a timing cache in a folder that exists",
            found="no such folder",
            remedy="create it or correct the path",
        )
    if asked is None and order.library.is_rtx:
        return None, None
    return asked, asked or order.plan.absolute().parent / names.timing_cache


def _keep_timings(result: BuildResult, asked: Path | None, default: Path) -> Path | None:
    """Write what the library measured; a file that was named and refused is not overwritten."""
    cache = result.timing_cache
    if cache.content is None or (asked is not None and cache.refused is not None):
        return None
    target = asked or default
    with atomic_file(target) as temporary:
        temporary.write_bytes(cache.content)
    return target


def _command(
    order: EngineOrder, names: EngineFiles, result: BuildResult, cache: Path | None
) -> tuple[str, ...]:
    folder = Path(order.plan_to_type).parent
    asked = order.options.timing_cache
    if asked is not None and names == IN_ARTEFACT:
        asked = asked.absolute()  # the command is run inside the artefact
    return trtexec_command(
        TrtexecFiles(
            graph=order.graph_to_type,
            plan=order.plan_to_type,
            layers=str(folder / names.layers),
            timing_cache=None if cache is None else str(asked or folder / cache.name),
        ),
        () if result.is_fixed else result.profiles,
        result.input_names,
        replace(order.options, compute_capabilities=result.compute_capabilities),
        order.library,
    )


def _modules(model: ir.Model) -> dict[str, str]:
    """Node → module, for every node that has both names."""
    found = {str(node.name): passes.module_of(node) for node in model.graph if node.name}
    return {node: module for node, module in found.items() if module}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
