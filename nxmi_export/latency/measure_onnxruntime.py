"""Shapes of linears in, how long onnxruntime takes for each on this CPU out.

Each linear is a graph of its own, lowered as `model.cpu.onnx` is: a float32 value in, quantized
to uint8 there. So a quantized linear pays for quantizing its input (query, key and value share
theirs in a model, which is then a little faster than the sum), one with INT8 out also for that.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime

from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS, FLOAT_PRODUCTS, needed_here
from nxmi_export.errors import CapabilityMissing, UsageError
from nxmi_export.latency.gemm_graph import UNSIGNED, gemm_graph, gemm_input
from nxmi_export.latency.interleaved import OnRound, Timer, timings, worst_spread
from nxmi_export.latency.shapes import LinearShape
from nxmi_export.latency.table import INT8_OUT, KINDS, Gemm, Kind, LatencyTable
from nxmi_export.processor import this_processor

__all__ = ["CHOSEN_THREADS", "ROUNDS", "measure_onnxruntime"]

CHOSEN_THREADS = "chosen by onnxruntime"  # what a table says where no number was asked for
ROUNDS = 30

# What multiplies integers; anything else under a quantized linear is float arithmetic in disguise.
_INTEGER_PRODUCTS = {"MatMulIntegerToFloat", "MatMulInteger", "QGemm", "QLinearMatMul"}
_FLOAT_PRODUCTS = {"FusedMatMul", "Gemm", "MatMul"}
_ERRORS_ONLY = 3  # onnxruntime's log severity


def measure_onnxruntime(
    shapes: Sequence[LinearShape],
    rows: int,
    *,
    threads: int | None = None,
    rounds: int = ROUNDS,
    kinds: Sequence[Kind] = KINDS,
    on_round: OnRound = lambda done, total: None,
) -> LatencyTable:
    """The time of one call, found over `rounds` as `interleaved` says, less that of an empty call.

    `threads` bounds the threads of a linear, None leaves the choice to onnxruntime. The 2:4 weights
    are timed like the others: this library does not skip their zeros. Raises CapabilityMissing
    where it multiplies floats instead of codes, UsageError for linears too small to time and for
    more rows than memory holds.
    """
    rng = np.random.default_rng(0)
    gemms = [Gemm(rows, *shape, kind) for shape in shapes for kind in kinds]
    timers: dict[Gemm | None, Timer] = {gemm: _timer(gemm, threads, rng) for gemm in gemms}
    timers[None] = _empty_timer(threads)
    found = timings(timers, rounds, on_round)
    empty = found[None].seconds
    return LatencyTable(
        {gemm: _net(gemm, found[gemm].seconds, empty) for gemm in gemms},
        "measured",
        f"onnxruntime on {this_processor()}",
        {
            "rows": rows,
            "onnxruntime": onnxruntime.__version__,
            "threads": threads or CHOSEN_THREADS,
            "rounds": rounds,
            "seconds of an empty call, subtracted": empty,
            "spread": worst_spread(found[gemm] for gemm in gemms),
            "float": "float32",
        },
    )


def _timer(gemm: Gemm, threads: int | None, rng: np.random.Generator) -> Timer:
    shape = LinearShape(gemm.inputs, gemm.outputs)
    # Both dimensions open, as in exported models: with fixed ones onnxruntime makes a Gemm of
    # MatMul and Add, and that Gemm stays in float32.
    model = gemm_graph(
        shape, gemm.kind, UNSIGNED, input_shape=("batch", "sequence", gemm.inputs), rng=rng
    )
    session = _session(model, threads, gemm.kind)
    y_type = np.uint8 if gemm.kind in INT8_OUT else np.float32
    try:
        x = gemm_input((1, gemm.rows, gemm.inputs), gemm.kind, UNSIGNED, rng)
        y = np.zeros((1, gemm.rows, gemm.outputs), y_type)
    except (MemoryError, ValueError) as error:
        raise UsageError(
            f"linears at {gemm.rows} rows (batch x sequence)",
            expected="inputs and outputs that memory holds",
            found=str(error) if isinstance(error, MemoryError) else "more than can be addressed",
            remedy="lower the batch or the sequence",
        ) from error
    return _run_timer(session, x, y)


def _empty_timer(threads: int | None) -> Timer:
    """What every call pays before and after its linear."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> empty (float[1] x) => (float[1] y)'
        "{ y = Identity(x) }"
    )
    one = np.zeros(1, np.float32)
    return _run_timer(_open(model, _options(threads)), one, one.copy())


def _run_timer(session: Any, x: Any, y: Any) -> Timer:
    # Bound once, so that no call copies or allocates its input and output.
    binding = session.io_binding()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in (x, y)]
    binding.bind_ortvalue_input("x", values[0])
    binding.bind_ortvalue_output("y", values[1])

    def run() -> float:
        begin = time.perf_counter()
        session.run_with_iobinding(binding)
        return time.perf_counter() - begin

    return run


def _session(model: onnx.ModelProto, threads: int | None, kind: Kind) -> Any:
    """A session whose optimized graph really multiplies what `kind` says."""
    options = _options(threads)
    with TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        session = _open(model, options)
        operators = [node.op_type for node in onnx.load(optimized).graph.node]
    wanted = _FLOAT_PRODUCTS if kind == "float" else _INTEGER_PRODUCTS
    if not wanted.intersection(operators):
        raise CapabilityMissing(
            f"onnxruntime {onnxruntime.__version__}: a linear as {kind!r}",
            expected=f"one of the operators {', '.join(sorted(wanted))} in the optimized graph",
            found=", ".join(operators),
            remedy="use a release that fuses QuantizeLinear and DequantizeLinear into them",
        )
    return session


def _options(threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    # Else the threads of the linear before spin on the processors that this one needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # As a deployed model runs.
    for key, value in needed_here({**EXACT_PRODUCTS, **FLOAT_PRODUCTS}).items():
        options.add_session_config_entry(key, value)
    return options


def _open(model: onnx.ModelProto, options: Any) -> Any:
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _net(gemm: Gemm, seconds: float, empty: float) -> float:
    if seconds <= empty:
        raise UsageError(
            f"linear of {gemm.rows} rows, {gemm.inputs} inputs and {gemm.outputs} outputs",
            expected="one that takes longer than an empty call",
            found=f"{seconds:.2e} s as {gemm.kind!r}, an empty call {empty:.2e} s",
            remedy="raise the batch or the sequence",
        )
    return seconds - empty
