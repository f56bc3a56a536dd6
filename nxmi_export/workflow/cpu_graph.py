"""A folder with `model.onnx` in, `model.cpu.onnx` out, in the form that is fastest here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir
from packaging.version import Version

import passes
from nxmi_export.artefact import CPU_MODEL, MODEL
from nxmi_export.artefact.manifest import RefusedWay, Tuning
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS
from nxmi_export.backends.onnxruntime_saturation import keeps_sums
from nxmi_export.bench.session_tuning import tune_session
from nxmi_export.errors import LoweringFailed
from nxmi_export.lowering import LoweredGraph, lower, onnxruntime_passes

__all__ = ["TuningRequest", "write_cpu_graph"]

PORTABLE, ATTENTION, PRODUCTS = "portable", "attention", "products"
BOTH = f"{ATTENTION}+{PRODUCTS}"
_BUILT_ON = {PRODUCTS: PORTABLE, BOTH: ATTENTION}
_FORMS = "model.cpu.{}.onnx"  # while they are timed
_HAS_ATTENTION = Version("1.24")  # of onnxruntime


@dataclass(frozen=True)
class TuningRequest:
    """Whose graphs are timed, and where timings are kept."""

    vocabulary: int
    position_limit: int
    cache: Path | None = None  # a folder of earlier timings; None keeps none


def write_cpu_graph(
    folder: Path,
    patterns: Mapping[str, tuple[int, int]],
    request: TuningRequest | None,
    *,
    work_dir: Path,
    on_stage: Callable[[str], None],
) -> tuple[LoweredGraph, Tuning | None]:
    """The graph that was written, and what was measured; with None the portable one, untimed.

    Raises LoweringFailed as `lower` does, CapabilityMissing where this processor loses sums of
    integer products whatever onnxruntime is told.
    """
    on_stage("lowering for onnxruntime")
    portable = _write(folder, CPU_MODEL, onnxruntime_passes(patterns), work_dir)
    if request is None:
        return portable, None
    others, refused = _other_forms(folder, patterns)
    written = {PORTABLE: portable, **others}
    graphs = {name: folder / _FORMS.format(name) for name in written}
    graphs[PORTABLE] = folder / CPU_MODEL
    on_stage("timing graphs and fusions of onnxruntime")
    tuning = tune_session(
        graphs,
        vocabulary=request.vocabulary,
        position_limit=request.position_limit,
        built_on=_BUILT_ON,
        cache=request.cache,
    )
    chosen = graphs.pop(tuning.graph)
    if tuning.graph != PORTABLE:
        chosen.replace(graphs.pop(PORTABLE))
    for name in graphs.keys() - {PORTABLE}:
        graphs[name].unlink()
    told = tuning.model_copy(update={"refused": (*refused, *tuning.refused)})
    return written[tuning.graph], told


def _other_forms(
    folder: Path, patterns: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, LoweredGraph], list[RefusedWay]]:
    """Each in a file of its own; only those that this release runs, exactly, and that differ.

    None of them is needed, so that one that cannot be made is left out, with the reason.
    """
    attention = Version(version("onnxruntime")) >= _HAS_ATTENTION
    exact = keeps_sums({}) or keeps_sums(EXACT_PRODUCTS)
    steps = {
        ATTENTION: onnxruntime_passes(patterns, fused_attention=True) if attention else (),
        PRODUCTS: onnxruntime_passes(patterns, integer_products=True) if exact else (),
        BOTH: onnxruntime_passes(patterns, fused_attention=True, integer_products=True),
    }
    forms: dict[str, LoweredGraph] = {}
    refused: list[RefusedWay] = []
    for name, each in steps.items():
        if not each or (name == BOTH and not {ATTENTION, PRODUCTS} <= forms.keys()):
            continue
        file = _FORMS.format(name)
        try:
            graph = _write(folder, file, each, work_dir=None)
        except LoweringFailed as error:
            refused.append(RefusedWay(graph=name, options={}, reason=str(error)))
            continue
        if graph.ledger.records[-1].changes:
            forms[name] = graph
        else:
            (folder / file).unlink()
    return forms, refused


def _write(
    folder: Path, name: str, steps: tuple[passes.GraphPass, ...], work_dir: Path | None
) -> LoweredGraph:
    # Read back, so that the tensors stay on disk and all files share them.
    graph = lower(ir.load(folder / MODEL), steps, work_dir=work_dir)
    ir.save(graph.model, folder / name)
    return graph
