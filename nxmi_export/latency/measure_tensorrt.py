"""Shapes of linears in, how long TensorRT takes for each on this GPU out.

Each linear is an engine of its own, from a graph typed as `model.onnx` is. Quantized ones are fed
codes, because TensorRT merges a quantizer with the kernel in front of it. Sparse kernels may be
chosen for "int8 2:4" and only there; whether they were is read from the build log.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver, find_driver
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    Library,
    Shape,
    ShapeProfile,
    Verdict,
    build_engine,
    find_library,
    open_device,
    sparse_evidence,
)
from nxmi_export.backends.tensorrt_engine.int8_layers import is_gemm, multiplies_int8
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed
from nxmi_export.latency.engine_timer import engine_timer
from nxmi_export.latency.gemm_graph import SIGNED, gemm_graph, gemm_input
from nxmi_export.latency.interleaved import OnRound, timings, worst_spread
from nxmi_export.latency.shapes import LinearShape
from nxmi_export.latency.table import KINDS, Gemm, LatencyTable

__all__ = ["ROUNDS", "build_linear", "measure_tensorrt"]

ROUNDS = 30


def measure_tensorrt(
    shapes: Sequence[LinearShape],
    rows: int,
    *,
    library: Library | None = None,
    rounds: int = ROUNDS,
    on_round: OnRound = lambda done, total: None,
    look_for_driver: Callable[[], NvidiaDriver | None] = find_driver,
) -> LatencyTable:
    """The time of one run by CUDA events, found over `rounds` as `interleaved` says.

    Raises CapabilityMissing without a GPU, a TensorRT, or a library that reaches the GPU's memory.
    """
    gpu = _require_gpu(look_for_driver())
    library = library or find_library()
    rng = np.random.default_rng(0)
    gemms = [Gemm(rows, *shape, kind) for shape in shapes for kind in KINDS]
    timers, sparse = {}, 0
    capability = gpu.compute_capability if library.is_rtx else None
    with ExitStack() as stack:
        device = open_device("timing TensorRT", look_for_driver=look_for_driver)
        stack.callback(device.close)
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for gemm in gemms:
            built = build_linear(gemm, library, folder, compute_capability=capability)
            sparse += gemm.kind == "int8 2:4" and _is_sparse(built)
            x = gemm_input((rows, gemm.inputs), gemm.kind, SIGNED, rng)
            timers[gemm] = stack.enter_context(engine_timer(device, library, built.plan, x))
        found = timings(timers, rounds, on_round)
    return LatencyTable(
        {gemm: timing.seconds for gemm, timing in found.items()},
        "measured",
        f"{library.name} on {gpu.name}",
        {
            "rows": rows,
            library.name: library.version,
            "rounds": rounds,
            "spread": worst_spread(found.values()),
            "float": "float32 in and out, TF32 allowed",
            "shapes with a sparse kernel": f"{sparse} of {len(shapes)}",
            "clocks": "as the driver sets them, not locked",
        },
    )


def build_linear(
    gemm: Gemm, library: Library, folder: Path, *, compute_capability: str | None = None
) -> BuildResult:
    """The engine of one linear, in `folder`.

    Raises EngineBuildFailed where a quantized one does not multiply INT8, for its time would be
    that of something else.
    """
    shape = LinearShape(gemm.inputs, gemm.outputs)
    name = f"{gemm.rows}x{shape} {gemm.kind}".replace(" ", "-").replace(":", "-")
    onnx_path = folder / f"{name}.onnx"
    rng = np.random.default_rng(0)
    # Open dimensions, which the engine builder asks for; the profile then fixes both.
    graph = gemm_graph(shape, gemm.kind, SIGNED, input_shape=("rows", "inputs"), rng=rng)
    onnx_path.write_bytes(graph.SerializeToString())
    fixed = Shape(gemm.rows, gemm.inputs)
    built = build_engine(
        onnx_path,
        folder / f"{name}.plan",
        profile=ShapeProfile(fixed, fixed, fixed, position_limit=gemm.inputs),
        library=library,
        options=EngineOptions(
            compute_capability=compute_capability, sparse_weights=gemm.kind == "int8 2:4"
        ),
    )
    products = [layer for layer in built.layers if is_gemm(layer)]
    if gemm.kind != "float" and not any(multiplies_int8(layer) for layer in products):
        raise EngineBuildFailed(
            f"{library.name} {library.version}: {name}",
            expected="an INT8 matrix product in the build log",
            found=", ".join(layer.name for layer in products) or "no matrix product",
            remedy="please report this with the shape",
        )
    return built


def _is_sparse(built: BuildResult) -> bool:
    return sparse_evidence(built.log, built.layers, built.library).verdict is Verdict.PROVED


def _require_gpu(driver: NvidiaDriver | None) -> Gpu:
    if driver is None or not driver.gpus:
        raise CapabilityMissing(
            "timing TensorRT",
            expected="an NVIDIA GPU with a driver",
            found="no driver that answers" if driver is None else "a driver without a GPU",
            remedy="run on a machine with one, or name a GPU to compute from its datasheet "
            "(--device a100)",
        )
    return driver.gpus[0]
