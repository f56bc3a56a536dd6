"""An artefact or an ONNX file in, its engine and the proof of its precision out."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from nxmi_export.artefact import (
    BUILD_LOG,
    FP16_MODEL,
    INT4_MODEL,
    MODEL,
    PLAN,
    Artefact,
    changed_meanwhile,
    replace_files,
)
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, Precision, ShapeProfile
from nxmi_export.backends.tensorrt_engine.progress import OnProgress
from nxmi_export.errors import ArtefactError, EngineBuildFailed, OutputError
from nxmi_export.output_files import temporary_directory
from nxmi_export.workflow.engine_files import IN_ARTEFACT, EngineFiles
from nxmi_export.workflow.engine_report import EngineReport, QuantizedModules
from nxmi_export.workflow.make_engine import EngineOrder, make_engine

__all__ = [
    "FAILED_LOG",
    "EngineReport",
    "QuantizedModules",
    "build",
    "build_file",
]

FAILED_LOG = IN_ARTEFACT.failed_log

# The file of the artefact that is typed so.
_GRAPHS = {Precision.FP32: MODEL, Precision.FP16: FP16_MODEL, Precision.INT4: INT4_MODEL}
# What an artefact may lack: what it is for, and the option of export that writes it.
_ON_DEMAND = {
    Precision.FP16: ("which runs in float16 what is not quantized", "--fp16"),
    Precision.INT4: ("which packs weights in INT4 blocks", "--int4-blocks 64"),
}


def build(
    artefact: Artefact,
    *,
    profiles: Sequence[ShapeProfile],
    library: Library,
    options: EngineOptions,
    precision: Precision = Precision.FP32,
    on_progress: OnProgress | None = None,
) -> EngineReport:
    """Build a graph of the artefact into `model.plan`, with everything about it beside it.

    Raises as `build_engine` does, and UsageError for a graph that TensorRT would refuse; an
    earlier engine is then left as it was. The log is kept in the artefact, whatever
    `options.log_path` says: that of a failed build as `build.failed.log`.
    """
    directory = artefact.directory
    order = EngineOrder(
        graph=_graph(artefact, precision),
        plan=directory / PLAN,
        graph_to_type=_GRAPHS[precision],
        plan_to_type=PLAN,
        profiles=tuple(profiles),
        library=library,
        options=options,
        floats_are_meant=True,
    )
    with temporary_directory(directory) as workshop:
        try:
            report = make_engine(order, IN_ARTEFACT, workshop, on_progress)
        except EngineBuildFailed as error:
            raise _with_log(error, workshop / BUILD_LOG, directory / FAILED_LOG) from error
        except (OSError, OutputError) as error:
            if workshop.is_dir():
                raise
            raise changed_meanwhile(artefact) from error  # as by `export --overwrite`
        replace_files(artefact, workshop, sorted(path.name for path in workshop.iterdir()))
    _remove(directory, (FAILED_LOG,))
    return report


def build_file(
    graph: Path,
    plan: Path,
    *,
    profiles: Sequence[ShapeProfile],
    library: Library,
    options: EngineOptions,
    on_progress: OnProgress | None = None,
) -> EngineReport:
    """Build any ONNX file into `plan`, with everything about it beside it, named after the plan.

    Raises as `build` does; files of an earlier build are replaced only by those of a whole one.
    """
    names = EngineFiles.beside(plan.name)
    order = EngineOrder(
        graph=graph,
        plan=plan,
        graph_to_type=str(graph),
        plan_to_type=str(plan),
        profiles=tuple(profiles),
        library=library,
        options=options,
    )
    folder = plan.absolute().parent
    with temporary_directory(folder) as workshop:
        try:
            report = make_engine(order, names, workshop, on_progress)
        except EngineBuildFailed as error:
            raise _with_log(error, workshop / names.log, folder / names.failed_log) from error
        made = sorted(path.name for path in workshop.iterdir() if path.name != names.plan)
        plan.unlink(missing_ok=True)  # an earlier one must not stay beside the facts of this one
        for name in (*made, names.plan):  # the plan last: one that is there has its facts
            os.replace(workshop / name, folder / name)
    _remove(folder, (names.failed_log,))
    return report


def _graph(artefact: Artefact, precision: Precision) -> Path:
    name, files = _GRAPHS[precision], artefact.manifest.files
    if precision in _ON_DEMAND and name not in files:
        purpose, option = _ON_DEMAND[precision]
        raise ArtefactError(
            artefact.directory,
            expected=f"{name}, {purpose}",
            found=", ".join(sorted(each for each in files if each.endswith(".onnx"))),
            remedy=f"export the model again with {option}",
        )
    return artefact.path(name)


def _with_log(error: EngineBuildFailed, log: Path, kept: Path) -> EngineBuildFailed:
    """The same error, saying where its log is kept from now on."""
    os.replace(log, kept)
    return EngineBuildFailed(
        error.subject,
        expected=error.expected,
        found=error.found,
        remedy=f"{error.remedy}, and see the log in {kept}",
    )


def _remove(directory: Path, names: Iterable[str]) -> None:
    for name in names:
        (directory / name).unlink(missing_ok=True)
