"""An ONNX file in, a `Runner` that executes it with onnxruntime on the CPU out.

Reading quantizer codes needs tensors that are not outputs. They become outputs without a second
copy of the weights: in protobuf's wire format the concatenation of two messages is their merge
(repeated fields append), so the file's bytes followed by a `ModelProto` that holds nothing but
outputs is the same model with more outputs. Peak memory is the file's bytes once, on top of what
onnxruntime needs anyway; weights in external files are not read here at all.
"""

import importlib
import re
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from nxmi_export.backends.onnxruntime_options import (
    EXACT_PRODUCTS,
    FLOAT_PRODUCTS,
    multiply_exactly,
)
from nxmi_export.backends.runner import Feeds, Outputs, check_feeds
from nxmi_export.errors import ArtefactError, CapabilityMissing, ShapeError, UsageError
from passes.constants import constant, readers
from passes.errors import InvariantViolated, RefusedGraph
from passes.quantizer_invariants import weight_zero_points_are_their_own
from passes.quantizers import is_dequantize

__all__ = ["OnnxRuntimeRunner", "exact_options"]

# Lets a model given as bytes find its external weights beside the file it came from.
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_ERRORS_ONLY = 3  # onnxruntime's log severity; refusals reach the caller as exceptions.


class OnnxRuntimeRunner:
    """Runs the graph at `path`.

    `optimize=False` executes the graph node by node as it is written (the reference for parity);
    `optimize=True` allows every fusion of onnxruntime. `threads` bounds the threads of one
    operator, None leaves the choice to onnxruntime. `extra_outputs` names internal tensors to
    return with the outputs in their own types (int8 for quantizer codes); each one also
    keeps onnxruntime from fusing across it, so read codes with `optimize=False`. Where the file
    allows it, integer sums are exact on every CPU (`OwnZeroPoints`).

    Raises ArtefactError for a missing or damaged file, UsageError for an unknown tensor,
    CapabilityMissing without onnxruntime.
    """

    def __init__(
        self,
        path: Path,
        *,
        optimize: bool,
        threads: int | None = None,
        extra_outputs: tuple[str, ...] = (),
    ) -> None:
        ort = _onnxruntime()
        if not path.is_file():
            raise ArtefactError(
                path,
                expected="an ONNX model",
                found="no file",
                remedy="export the model first or correct the path",
            )
        options = _session_options(ort, path, optimize=optimize, threads=threads)
        self._session: Any | None = _open(ort, path, options, extra_outputs)
        self._refusals = _refusals(ort)
        self.name = f"onnxruntime {'optimized' if optimize else 'as written'}"
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch, extra outputs included.

        Raises ShapeError for a batch on which the graph fails, as it does beyond the last position.
        """
        check_feeds(self, feeds)
        if self._session is None:
            # Like a read from a closed file: the caller's mistake, not a user's.
            raise ValueError(f"{self.name}: run() after the runner was closed")
        try:
            arrays = self._session.run(self.output_names, dict(feeds))
        except self._refusals as error:
            raise _unfit(self.name, feeds, error) from error
        return dict(zip(self.output_names, arrays, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None


def _unfit(name: str, feeds: Feeds, error: Exception) -> ShapeError:
    shapes = ", ".join(f"{key} {'×'.join(map(str, each.shape))}" for key, each in feeds.items())
    return ShapeError(
        f"{name}: a batch of {shapes}",
        expected="as many tokens as the model has positions, and ids of its vocabulary",
        found=" ".join(str(error).split()),
        remedy="shorten the batch to position_limit in manifest.json, or encode it again",
    )


def _onnxruntime() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise CapabilityMissing(
            "onnxruntime",
            expected="an installation that loads",
            found=str(error),
            remedy="run `pip install onnxruntime`",
        ) from error


def _session_options(ort: ModuleType, path: Path, *, optimize: bool, threads: int | None) -> Any:
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry(_EXTERNAL_FOLDER, str(path.parent.resolve()))
    if optimize:
        multiply_exactly(options, exact_options(path))
    # Else its threads spin on after a run, on the processors of whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def exact_options(path: Path) -> dict[str, str]:
    """The entries with which onnxruntime 1.32 computes the products that the file states.

    Whoever opens the file by other means sets them too. A file that cannot be read needs none: it
    is for the session to refuse.
    """
    try:
        model = ir.load(path)
    except (OSError, DecodeError):
        return {}
    stored = [
        node for node in model.graph if is_dequantize(node) and constant(node.inputs[0]) is not None
    ]
    integers = EXACT_PRODUCTS if _sums_can_be_exact(model, stored) else {}
    floats = FLOAT_PRODUCTS if any(map(_multiplies_floats, stored)) else {}
    return {**integers, **floats}


def _sums_can_be_exact(model: ir.Model, stored: list[ir.Node]) -> bool:
    # It fails where a zero-point is shared or absent, and where several products read one weight,
    # as in a block that runs repeatedly.
    try:
        weight_zero_points_are_their_own.check(model)
    except (InvariantViolated, RefusedGraph):
        return False
    return all(len(node.outputs[0].uses()) == 1 for node in stored)


def _multiplies_floats(stored: ir.Node) -> bool:
    for reader in readers(stored.outputs[0]):
        others = [value for value in reader.inputs[:2] if value is not stored.outputs[0]]
        if reader.op_type in _PRODUCTS and any(
            value is None or not is_dequantize(value.producer()) for value in others
        ):
            return True
    return False


def _open(ort: ModuleType, path: Path, options: Any, extra_outputs: tuple[str, ...]) -> Any:
    """A session over the file, or over its bytes with more outputs appended."""
    model = path.read_bytes() + _more_outputs(extra_outputs) if extra_outputs else str(path)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _refusals(ort) as error:
        unknown = re.search(r"Graph output \((.*?)\) does not exist", str(error))
        if unknown:
            raise UsageError(
                f"{path}: extra output {unknown.group(1)!r}",
                expected="the name of a tensor in the graph",
                found="none of that name",
                remedy="take the name from the graph as it was lowered",
            ) from error
        _check_external_files(path)
        raise ArtefactError(
            path,
            expected="a model that onnxruntime can load",
            found=" ".join(str(error).split()),
            remedy="export it again, or update onnxruntime where it names an unknown operator",
        ) from error


def _check_external_files(path: Path) -> None:
    """Refuse a file of weights that is gone or ends before the tensors that `path` reads from it.

    onnxruntime names the tensor and not the file.
    """
    try:
        values = list(ir.load(path).graph.initializers.values())
    except (OSError, DecodeError):
        return  # then it is the graph that cannot be read
    ends: dict[Path, int] = {}
    for value in values:
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            place = Path(tensor.path)
            end = (tensor.offset or 0) + (tensor.length or 0)
            ends[place] = max(ends.get(place, 0), end)
    for place, end in ends.items():
        size = place.stat().st_size if place.is_file() else None
        if size is None or size < end:
            raise ArtefactError(
                place,
                expected=f"a file of at least {end} bytes, which {path.name} reads",
                found="no file" if size is None else f"{size} bytes",
                remedy="restore the file, or export the model again",
            )


def _more_outputs(names: tuple[str, ...]) -> bytes:
    """A serialized model that holds nothing but graph outputs, their types left to inference."""
    import onnx

    patch = onnx.ModelProto()
    patch.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bytes(patch.SerializeToString())


def _refusals(ort: ModuleType) -> tuple[type[Exception], ...]:
    """What onnxruntime raises about a model; its exceptions share no base class below Exception."""
    states = ort.capi.onnxruntime_pybind11_state
    return (
        states.Fail,
        states.InvalidArgument,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.NoModel,
        states.NoSuchFile,
        states.NotImplemented,
        states.RuntimeException,
    )
