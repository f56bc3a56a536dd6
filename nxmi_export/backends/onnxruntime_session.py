"""An ONNX file in, a `Runner` that executes it with onnxruntime on the CPU out.

Reading quantizer codes needs tensors that are not outputs. They become outputs without a second
copy of the weights: in protobuf's wire format the concatenation of two messages is their merge
(repeated fields append), so the file's bytes followed by a `ModelProto` that holds nothing but
outputs is the same model with more outputs. Peak memory is the file's bytes once, on top of what
onnxruntime needs anyway; weights in external files are not read here at all.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any, Literal, Self, TypeAlias

import onnx_ir as ir

from nxmi_export.backends.onnxruntime_library import (
    find_onnxruntime,
    open_session,
    refusals,
    unloadable,
)
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS, FLOAT_PRODUCTS, session_options
from nxmi_export.backends.onnxruntime_refusal import unfit_batch
from nxmi_export.backends.runner import Feeds, Outputs, check_feeds
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.unreadable_graph import UNREADABLE_GRAPH
from passes.constants import constant, readers
from passes.errors import InvariantViolated, RefusedGraph
from passes.quantizer_invariants import weight_zero_points_are_their_own
from passes.quantizers import is_dequantize
from passes.spell_out_products import has_products, spell_out_products

__all__ = ["OnnxRuntimeRunner", "Products", "exact_options", "rounds_floats"]

Products: TypeAlias = Literal["exact", "default"]
"""Those that the file states, or whatever onnxruntime makes of them on this processor."""

_PRODUCTS = frozenset({"Gemm", "MatMul"})


class OnnxRuntimeRunner:
    """Runs the graph at `path`.

    `optimize=False` executes the graph node by node as it is written (the reference for parity),
    integer products in standard operators (`spell_out_products`); `optimize=True` allows every
    fusion of onnxruntime. `threads` bounds the threads of one
    operator, None leaves the choice to onnxruntime. `extra_outputs` names internal tensors to
    return with the outputs in their own types (int8 for quantizer codes); each one also
    keeps onnxruntime from fusing across it, so read codes with `optimize=False`. Where the file
    allows it, integer sums are exact on every CPU (`OwnZeroPoints`). `entries` configure an
    optimized session further; none takes that away, unless `products` are the "default" ones, as
    everybody has them who tells onnxruntime nothing.

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
        entries: Mapping[str, str] = MappingProxyType({}),
        products: Products = "exact",
    ) -> None:
        ort = find_onnxruntime()
        if not path.is_file():
            raise ArtefactError(
                path,
                expected="an ONNX model",
                found="no file",
                remedy="export the model first or correct the path",
            )
        options = session_options(
            ort,
            path.parent,
            optimize=optimize,
            threads=threads,
            entries=_entries(path, entries, products) if optimize else {},
        )
        written = None if optimize else _spelled_out(path)
        self._session: Any | None = _open(ort, path, options, extra_outputs, written)
        self._refusals = refusals(ort)
        self._path = path
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
            raise unfit_batch(self._path, self.name, feeds, error) from error
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


def exact_options(path: Path) -> dict[str, str]:
    """The entries with which onnxruntime 1.32 computes the products that the file states anywhere.

    `session_options` leaves out those that this processor does not need. Whoever opens the file by
    other means sets them too. A file that cannot be read needs none: it is for the session to
    refuse.
    """
    try:
        model = spell_out_products(ir.load(path))
    except UNREADABLE_GRAPH:
        return {}
    stored = [
        node for node in model.graph if is_dequantize(node) and constant(node.inputs[0]) is not None
    ]
    integers = EXACT_PRODUCTS if _sums_can_be_exact(model, stored) else {}
    floats = FLOAT_PRODUCTS if any(map(_multiplies_floats, stored)) else {}
    return {**integers, **floats}


def rounds_floats(path: Path) -> bool:
    """Whether onnxruntime by default rounds floats of the file that meet stored integers."""
    return FLOAT_PRODUCTS.items() <= exact_options(path).items()


def _entries(path: Path, entries: Mapping[str, str], products: Products) -> dict[str, str]:
    return {**entries, **(exact_options(path) if products == "exact" else {})}


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


def _spelled_out(path: Path) -> bytes | None:
    """The file with its integer products in standard operators; None where it has none."""
    try:
        model = ir.load(path)
    except UNREADABLE_GRAPH:
        return None  # then it is for the session to refuse
    if not has_products(model):
        return None
    return bytes(ir.to_proto(spell_out_products(model)).SerializeToString())


def _open(
    ort: ModuleType,
    path: Path,
    options: Any,
    extra_outputs: tuple[str, ...],
    written: bytes | None,
) -> Any:
    """A session over the file or `written` in its place, or over bytes with outputs appended."""
    model: str | bytes = str(path) if written is None else written
    if extra_outputs:
        model = (written or path.read_bytes()) + _more_outputs(extra_outputs)
    try:
        return open_session(ort, model, options)
    except refusals(ort) as error:
        unknown = re.search(r"Graph output \((.*?)\) does not exist", str(error))
        if unknown:
            raise UsageError(
                f"{path}: extra output {unknown.group(1)!r}",
                expected="the name of a tensor in the graph",
                found="none of that name",
                remedy="take the name from the graph as it was lowered",
            ) from error
        _check_external_files(path)
        raise unloadable(path, error) from error


def _check_external_files(path: Path) -> None:
    """Refuse a file of weights that is gone or ends before the tensors that `path` reads from it.

    onnxruntime names the tensor and not the file.
    """
    try:
        values = list(ir.load(path).graph.initializers.values())
    except UNREADABLE_GRAPH:
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
