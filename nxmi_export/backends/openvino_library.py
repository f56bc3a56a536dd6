"""OpenVINO itself: found or refused, what it must be told to compute what a graph says, refusals.

Reads no ONNX, so that whoever serves a model needs no library that does. OpenVINO's own defaults
round what the graph does not: products in bfloat16 where the processor has them, activations of
float layers to 8 bits in groups of 32. And on x86 without VNNI instructions its integer kernels
add two products in 16 bits and saturate, as onnxruntime's do; no property of it changes that, so
that products are made of floats there, of the same codes.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np

from nxmi_export.errors import CapabilityMissing

__all__ = [
    "PROPERTIES",
    "Products",
    "core",
    "find_openvino",
    "finding",
    "products",
    "properties_of",
    "refusals",
    "threads_of",
]

Products: TypeAlias = Literal["int8", "float32"]
"""What quantized products are computed in: the codes themselves, or the floats that they mean."""

PROPERTIES: Mapping[str, Any] = MappingProxyType(
    {
        "INFERENCE_PRECISION_HINT": "f32",  # bf16 or f16 where the processor is fast at it
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # 32: floats that meet stored integers are rounded
        "NUM_STREAMS": 1,  # calls that run at a time; the threads are shared out to them
        # Else each process of a launch holds the same processors.
        "ENABLE_CPU_PINNING": False,
    }
)
"""What every graph is compiled with on the CPU."""

# Without low precision transformations quantizers stay, and what lies between them is float32.
_FLOAT_PRODUCTS: Mapping[str, str] = MappingProxyType({"LP_TRANSFORMS_MODE": "NO"})
_LARGEST, _WIDTH = 127, 64  # a sum of 1 032 256, which float32 holds; 16 bits hold no two products


def find_openvino() -> ModuleType:
    """The library; raises CapabilityMissing where it does not load."""
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        raise CapabilityMissing(
            "OpenVINO",
            expected="an installation that loads",
            found=str(error),
            remedy='run `pip install "nxmi-export[openvino]"`',
        ) from error


@cache
def core() -> Any:
    """The `openvino.Core` of this process; raises CapabilityMissing as `find_openvino` does."""
    return find_openvino().Core()


def products() -> Products:
    """What this processor multiplies codes in without losing any, found by multiplying large ones.

    Raises CapabilityMissing without OpenVINO, and where it loses some either way.
    """
    find_openvino()
    return _exact_products()


def properties_of(kind: Products, threads: int | None = None, calls: int = 1) -> dict[str, Any]:
    """`PROPERTIES`, those of products in `kind`, and how many `threads` each of `calls` has.

    None leaves the number of threads to OpenVINO, which counts those of all calls together.
    """
    chosen = dict(PROPERTIES) | ({} if kind == "int8" else dict(_FLOAT_PRODUCTS))
    return (
        chosen | {"NUM_STREAMS": calls} | threads_of(None if threads is None else calls * threads)
    )


def threads_of(count: int | None) -> dict[str, Any]:
    """The property that bounds the threads of all calls; none for None, OpenVINO's own choice."""
    return {} if count is None else {"INFERENCE_NUM_THREADS": count}


def refusals(openvino: ModuleType) -> tuple[type[Exception], ...]:
    """What OpenVINO raises about a model or a batch; they share no base class below Exception."""
    frontend = openvino.frontend
    return (
        RuntimeError,
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
    )


def finding(error: Exception) -> str:
    """What OpenVINO says, without the places in its own source."""
    lines = (line.strip() for line in str(error).splitlines())
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(told or str(error).split())


@cache
def _exact_products() -> Products:
    kinds: tuple[Products, ...] = ("int8", "float32")
    for kind in kinds:
        if all(_is_exact(*probe, properties_of(kind)) for probe in _largest_products()):
            return kind
    raise CapabilityMissing(
        "OpenVINO",
        expected=f"a sum of {_WIDTH} products of {_LARGEST} and {_LARGEST} to be exact",
        found="another number, from integer kernels and without them",
        remedy="run the artefact with onnxruntime on this machine",
    )


def _largest_products() -> tuple[tuple[Any, list[Any]], ...]:
    """A linear and an attention product, each with inputs that make its sums the largest."""
    openvino = find_openvino()
    op = openvino.opset13
    x = op.parameter([-1, -1, _WIDTH], np.float32)
    codes = np.full((_WIDTH, _WIDTH), _LARGEST, np.int8)
    scale = np.ones((1, _WIDTH), np.float32)
    weight = op.multiply(op.convert(op.constant(codes), np.float32), op.constant(scale))
    linear = openvino.Model([op.matmul(_quantized(op, x), weight, False, False)], [x])
    left, right = (op.parameter([-1, -1, -1, -1], np.float32) for _ in range(2))
    product = op.matmul(_quantized(op, left), _quantized(op, right), False, False)
    attention = openvino.Model([product], [left, right])
    rows = np.full((1, 3, _WIDTH), _LARGEST, np.float32)
    heads = rows[np.newaxis]
    return (linear, [rows]), (attention, [heads, heads.swapaxes(2, 3).copy()])


def _quantized(op: Any, x: Any) -> Any:
    low, high = np.float32(-_LARGEST - 1), np.float32(_LARGEST)
    return op.fake_quantize(x, low, high, low, high, 256)


def _is_exact(model: Any, inputs: list[Any], properties: Mapping[str, Any]) -> bool:
    try:
        compiled = core().compile_model(model, "CPU", {**properties, "INFERENCE_NUM_THREADS": 1})
    except RuntimeError:  # a release without one of these properties
        return False
    (found,) = compiled.create_infer_request().infer(inputs).values()
    return bool((found == _LARGEST * _LARGEST * _WIDTH).all())
