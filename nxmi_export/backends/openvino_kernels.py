"""A file and the runner that OpenVINO made of it in, which kernel multiplies each linear out.

Nothing warns where a quantized product is computed in float32 after all. The precision that the
compiled graph states is that of the stored weight, int8 under a float kernel too: what tells the
truth is the name of the kernel, which ends in the type of what it multiplies.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from nxmi_export.backends.openvino_session import OpenVinoRunner
from passes.linear_layers import LinearLayer, linear_layers

__all__ = ["LinearKernels", "linear_kernels", "products_told"]

_MASK = "attention_mask"
_PRODUCT = "FullyConnected"  # as OpenVINO calls a product with a constant
_NO_KERNEL = frozenset({"undef", "unknown"})  # one that was not chosen, or that has no name
_INTEGERS = frozenset({"i8", "u8"})  # at the end of a kernel's name, in capitals or not


@dataclass(frozen=True)
class LinearKernels:
    """One module, and what multiplies wherever the graph runs it."""

    module: str  # of PyTorch
    quantized: bool  # whether the graph multiplies codes by codes there
    products: int  # of the graph
    kernels: tuple[str, ...]  # as in "jit_gemm_i8", one for each product that was found again

    @property
    def integer(self) -> bool:
        """Whether every product is made of integers for certain."""
        return len(self.kernels) == self.products and all(map(_multiplies_integers, self.kernels))


def linear_kernels(path: Path, runner: OpenVinoRunner) -> tuple[LinearKernels, ...]:
    """Every linear of the file at `path`, which `runner` was made of, in the order of the graph.

    A block that runs repeatedly is one linear with several products. Runs a token, since kernels of
    open shapes are chosen in the first run.
    """
    runner.run({name: np.full((1, 1), name == _MASK, np.int64) for name in runner.input_names})
    layers = defaultdict[str, list[LinearLayer]](list)
    for layer in linear_layers(ir.load(path).graph):
        layers[layer.weight.constant.name or ""].append(layer)
    found = defaultdict[str, list[str]](list)
    for weight, kernel in _products(runner.compiled):
        found[weight].append(kernel)
    return tuple(
        LinearKernels(
            each[0].module, all(map(_quantized, each)), len(each), tuple(found.get(weight, ()))
        )
        for weight, each in layers.items()
    )


def products_told(linears: tuple[LinearKernels, ...]) -> str:
    """In what the quantized linears are multiplied, in a few words: "int8 products"."""
    quantized = [each for each in linears if each.quantized]
    integer = sum(each.integer for each in quantized)
    if not integer:
        return "float32 products"
    return "int8 products" if integer == len(quantized) else f"{integer} of {len(quantized)} int8"


def _products(compiled: Any) -> Iterator[tuple[str, str]]:
    """The stored weight of each product with a constant, and its kernel.

    A product goes by many names once it was fused; its weight keeps that of the file.
    """
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        if facts["layerType"].astype(str) == _PRODUCT:
            source = node.input_value(1).get_node()
            while source.get_input_size():
                source = source.input_value(0).get_node()
            yield source.get_friendly_name(), facts["primitiveType"].astype(str)


def _multiplies_integers(kernel: str) -> bool:
    name, _, type_ = kernel.rpartition("_")
    return name not in _NO_KERNEL and type_.lower() in _INTEGERS


def _quantized(layer: LinearLayer) -> bool:
    return layer.weight.is_integer and layer.input_quantizer is not None
