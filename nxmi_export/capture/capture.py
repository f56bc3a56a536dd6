"""A PyTorch task model in, a `CapturedGraph` out: ONNX nodes, each naming its PyTorch module."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn

from nxmi_export.capture.translate import TRANSLATIONS
from passes import MODULE_KEY

__all__ = ["OPSET", "CapturedGraph", "capture"]

OPSET = 20  # has Gelu; newer opsets are not read by every TensorRT and onnxruntime in use
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_WRAPPED = "model"


@dataclass(frozen=True)
class CapturedGraph:
    """The traced model; every node's metadata names its module under `MODULE_KEY`.

    Inputs are int64 (batch, sequence), both dynamic; the output "logits" is float32
    (batch, labels).
    """

    model: ir.Model
    input_names: tuple[str, ...]
    position_limit: int  # the longest sequence the position table allows


def capture(
    model: nn.Module, *, input_names: tuple[str, ...], position_limit: int
) -> CapturedGraph:
    """Trace `model` (in eval mode, eager attention) with dynamic batch and sequence.

    Quantized weights and embeddings are not copied: the graph's initializers are the model's own
    tensors. The exporter stores the weights of dense linears transposed, which copies those.
    """
    example = tuple(_example(name) for name in input_names)
    dynamic = {
        0: torch.export.Dim("batch"),
        1: torch.export.Dim("sequence", max=position_limit),
    }
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            _Logits(model, input_names).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=["logits"],
            dynamic_shapes=((dynamic,) * len(example),),
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props[MODULE_KEY] = _module_of(node)
    return CapturedGraph(program.model, input_names, position_limit)


class _Logits(nn.Module):
    """The positional tensors-in, tensor-out form that the exporter wants."""

    def __init__(self, model: nn.Module, input_names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.input_names = input_names

    def forward(self, *inputs: Tensor) -> Tensor:
        feeds = dict(zip(self.input_names, inputs, strict=True))
        return self.model(**feeds).logits  # type: ignore[no-any-return]


def _example(name: str) -> Tensor:
    # Sizes of 0 and 1 would be baked in as constants by the tracer.
    make = torch.ones if name == "attention_mask" else torch.zeros
    return make(2, 2, dtype=torch.int64)


def _module_of(node: ir.Node) -> str:
    """The innermost module in the scopes; the last scope is the traced operation itself.

    "" for what belongs to no module: the sizes of the inputs, and the model's own operations.
    """
    text = node.metadata_props.get(_SCOPES_KEY, "[]")
    scopes = [part.strip(" '\"") for part in text.strip("[]").split(",")][:-1]
    modules = [scope for scope in scopes if scope.split(".")[0] == _WRAPPED]
    return modules[-1].removeprefix(_WRAPPED).removeprefix(".") if modules else ""


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence notices of the exporter that a user can do nothing about."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # "torchvision is not installed"
    try:
        with warnings.catch_warnings():
            # one line for every further input that shares the batch and sequence axes
            warnings.filterwarnings("ignore", message="# The axis name: .* will not be used")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            yield
    finally:
        registration.setLevel(level)
