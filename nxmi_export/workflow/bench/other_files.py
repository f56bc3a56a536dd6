"""Files that other tools made in, contenders out: as their users run them, and with exact products.

A library that is told nothing may answer otherwise than a file says: kernels that saturate, floats
rounded to bfloat16 or to 8 bits. Such a file is timed as it is and, where this processor can make
it answer wrongly, a second time with what makes its products exact. How far the first's logits are
from the second's says what its speed costs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from nxmi_export.artefact import sha256_of
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS
from nxmi_export.backends.onnxruntime_saturation import saturates_here
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner, rounds_floats
from nxmi_export.backends.openvino_ir import OpenVinoIrRunner, weights_of
from nxmi_export.backends.openvino_library import products, properties_of, threads_of
from nxmi_export.backends.stored_matrices import stores_int8_matrices
from nxmi_export.bench import Alone, Contender, NotRun
from nxmi_export.errors import ArtefactError, CapabilityMissing, UsageError

__all__ = ["EXACT", "other_contenders"]

_ONNXRUNTIME, _OPENVINO = (Alone(libraries=(each,)) for each in ("onnxruntime", "openvino"))
EXACT = "+exact"  # behind a file's name: its key where its products are exact


def other_contenders(path: Path, threads: int | None) -> Iterator[Contender]:
    """One for the file, and one with exact products where it may have others by default.

    Raises ArtefactError for a file that is not there, UsageError for one of neither format.
    """
    kinds: dict[str, Callable[[Path, int | None], Iterator[Contender]]] = {
        ".onnx": _of_onnxruntime,
        ".xml": _of_openvino,
    }
    if path.suffix not in kinds:
        raise UsageError(
            f"--against {path}",
            expected="an .onnx file, or an .xml of OpenVINO with its .bin beside it",
            found=f"the suffix {path.suffix!r}",
            remedy="name a file in one of these formats",
        )
    return kinds[path.suffix](path, threads)


def _of_onnxruntime(path: Path, threads: int | None) -> Iterator[Contender]:
    if not path.is_file():
        raise ArtefactError(
            path,
            expected="an ONNX model to compare with",
            found="no file",
            remedy="correct the path",
        )
    what, exact = f"onnxruntime, other file {path.name}", path.name + EXACT
    facts = {"file": path.name, "sha256": sha256_of(path)}
    twice = (_saturates() and stores_int8_matrices(path)) or rounds_floats(path)
    yield Contender(
        path.name,
        what,
        lambda: OnnxRuntimeRunner(path, optimize=True, threads=threads, products="default"),
        {**facts, "products": "default"},
        exact=exact if twice else None,
        alone=_ONNXRUNTIME,
    )
    if twice:
        yield Contender(
            exact,
            f"{what}, exact products",
            lambda: _exact_session(path, threads),
            {**facts, "products": "exact"},
            alone=_ONNXRUNTIME,
        )


def _exact_session(path: Path, threads: int | None) -> OnnxRuntimeRunner | NotRun:
    try:
        return OnnxRuntimeRunner(path, optimize=True, threads=threads, entries=EXACT_PRODUCTS)
    except ArtefactError as refusal:  # the file is sound, since it was opened by default
        # As of weights that share a zero-point, which onnxruntime then replaces twice.
        return NotRun(f"onnxruntime does not open it with exact products: {refusal.found}")


def _saturates() -> bool:
    try:
        return saturates_here()
    except CapabilityMissing:  # which the file itself will say in its place
        return False


def _of_openvino(path: Path, threads: int | None) -> Iterator[Contender]:
    weights = weights_of(path)
    what, exact = f"OpenVINO, other file {path.name}", path.name + EXACT
    facts = {"file": path.name, "sha256": sha256_of(path), "weights_sha256": sha256_of(weights)}
    yield Contender(
        path.name,
        what,
        lambda: OpenVinoIrRunner(path, properties=threads_of(threads)),
        {**facts, "products": "default"},
        exact=exact,
        alone=_OPENVINO,
    )
    yield Contender(
        exact,
        f"{what}, exact products",
        lambda: OpenVinoIrRunner(path, properties=properties_of(products(), threads)),
        {**facts, "products": "exact"},
        alone=_OPENVINO,
    )
