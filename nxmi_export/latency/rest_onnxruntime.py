"""A captured model in, what onnxruntime spends outside its encoder's linears out.

onnxruntime's own profile says how long every operator of a run took. Left out are the products
with a weight of the encoder, and the additions of their biases; what remains are attention, norms,
activations, embeddings and the head, by operator. A bias that was fused into one of them stays, so
a little of it is counted twice. Quantizing changes little of the rest: on CPUs attention stays
float, and the quantizers of its linears are counted with them.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from nxmi_export.errors import CapabilityMissing
from nxmi_export.latency.shapes import LinearShape

__all__ = ["rest_onnxruntime"]

RUNS = 12
WARM_UP = 3  # runs that do not count

_ERRORS_ONLY = 3  # onnxruntime's log severity
_MICRO = 1e-6
_PRODUCTS = {"FusedMatMul", "Gemm", "MatMul"}


def rest_onnxruntime(
    model: ir.Model,
    feeds: Mapping[str, npt.NDArray[np.int64]],
    shapes: Sequence[LinearShape],
    *,
    threads: int | None = None,
    runs: int = RUNS,
) -> dict[str, float]:
    """Seconds of one forward pass by operator, each the first tenth of its times over `runs`.

    Raises CapabilityMissing where the profile shows no product of `shapes`, for then it cannot be
    told from the rest.
    """
    events = _profile(model, feeds, threads, runs + WARM_UP)
    linears = {shape for shape in shapes if any(_multiplies(event, shape) for event in events)}
    if missing := sorted(set(shapes) - linears):
        raise CapabilityMissing(
            f"onnxruntime {onnxruntime.__version__}: its profile",
            expected=f"products with weights of {', '.join(map(str, shapes))}",
            found=f"none with {', '.join(map(str, missing))}",
            remedy="give --shapes instead of the model; its table then has no rest",
        )
    times: dict[str, list[float]] = {}
    for number, run in enumerate(_by_run(events, runs + WARM_UP)):
        spent: dict[str, float] = defaultdict(float)
        for event in run:
            if not _belongs_to_linear(event, linears):
                spent[event["args"]["op_name"]] += event["dur"] * _MICRO
        for operator, seconds in spent.items() if number >= WARM_UP else ():
            times.setdefault(operator, []).append(seconds)
    tenths = {
        operator: statistics.quantiles(each, n=10, method="inclusive")[0]
        for operator, each in times.items()
    }
    # An operator under the profile's resolution of a microsecond has no time to speak of.
    return {operator: seconds for operator, seconds in sorted(tenths.items()) if seconds > 0}


def _profile(
    model: ir.Model, feeds: Mapping[str, npt.NDArray[np.int64]], threads: int | None, runs: int
) -> list[dict[str, Any]]:
    """The kernel events of all runs, in order of time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.enable_profiling = True
    if threads is not None:
        options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="model.data")  # larger models exceed protobuf's 2 GB
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(runs):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = (each for each in events if each["cat"] == "Node" and "op_name" in each["args"])
    return sorted(
        (each for each in kernels if each["name"].endswith("_kernel_time")),
        key=lambda event: float(event["ts"]),
    )


def _by_run(events: Sequence[dict[str, Any]], runs: int) -> list[Sequence[dict[str, Any]]]:
    """Every run executes the same nodes in the same order."""
    length, odd = divmod(len(events), runs)
    assert not odd
    return [events[length * run : length * (run + 1)] for run in range(runs)]


def _belongs_to_linear(event: Mapping[str, Any], linears: set[LinearShape]) -> bool:
    if any(_multiplies(event, shape) for shape in linears):
        return True
    biases = [[shape.outputs] for shape in linears]
    inputs = _shapes(event, "input_type_shape")
    return event["args"]["op_name"] == "Add" and any(each in biases for each in inputs)


def _multiplies(event: Mapping[str, Any], shape: LinearShape) -> bool:
    """By a weight of that shape.

    The first operand has batch, sequence and K, which tells it from the pooler's (batch and K) and
    from attention's, which has heads. The second was repacked at load and is then not listed.
    """
    if event["args"]["op_name"] not in _PRODUCTS:
        return False
    x, *weight = _shapes(event, "input_type_shape")[:2]
    (y,) = _shapes(event, "output_type_shape")
    return len(x) == 3 and (x[-1], y[-1]) == shape and weight in ([], [list(shape)])


def _shapes(event: Mapping[str, Any], which: str) -> list[list[int]]:
    return [each for typed in event["args"][which] for each in typed.values()]
