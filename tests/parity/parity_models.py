"""Tiny encoders with their ONNX files, datasets made of random tokens, and a fake runner."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertForSequenceClassification

from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.capture import capture
from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.sparsity import magnitude_masks
from nxmi_export.encoding import EncodedDataset, TokenRows
from nxmi_export.glue import Dataset, task_named
from nxmi_export.lowering import lower, onnxruntime_passes, tensorrt_passes
from nxmi_export.parity import RungResult, run_rung
from nxmi_export.recipe import Recipe
from passes import LinearLayer, linear_layers, module_of

VOCABULARY, POSITIONS, BATCH = 96, 32, 8
BATCH_TOKENS = 160
INPUTS = ("input_ids", "attention_mask", "token_type_ids")

EMBEDDINGS = "bert.embeddings.LayerNorm.output_quantizer"
LAYER = "bert.encoder.layer.{}"
QUERY, KEY = (LAYER.format(0) + f".attention.self.{part}" for part in ("query", "key"))
DOWN = LAYER.format(1) + ".output.dense"


@dataclass(frozen=True)
class Exported:
    """A compressed model, and the files made from it."""

    model: BertForSequenceClassification
    captured: Path  # before any pass
    path: Path  # model.onnx
    cpu_path: Path  # model.cpu.onnx


def export(recipe: Recipe, directory: Path) -> Exported:
    """Seeded random weights, projected and calibrated; two layers of width 32."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,  # of 0.02, every logit would be the same
    )
    model = BertForSequenceClassification._from_config(config, attn_implementation="eager").eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # new ones are zero, which a lost bias would not change
            torch.nn.init.normal_(parameter, std=0.1)
    insert_quantizers(model, recipe)
    linears = compressed_linears(model)
    for name, mask in magnitude_masks(linears).items():
        linears[name].weight.data.mul_(mask)
    calibrate(model, encoded(), batches=2, batch_size=BATCH)
    graph = capture(model, input_names=INPUTS, position_limit=POSITIONS).model
    patterns = {
        name: (linear.scheme.pattern.keep, linear.scheme.pattern.group)
        for name, linear in linears.items()
        if linear.scheme.pattern is not None
    }
    files = Exported(model, *(directory / f"{n}.onnx" for n in ("captured", "model", "cpu")))
    ir.save(graph, files.captured)
    lower(graph, tensorrt_passes(patterns))
    ir.save(graph, files.path)
    lower(graph, onnxruntime_passes(patterns))
    ir.save(graph, files.cpu_path)
    return files


def edited(path: Path, directory: Path, edit: Callable[[ir.Model], None]) -> Path:
    """A copy of the ONNX file with one thing changed."""
    model = ir.load(path)
    edit(model)
    target = directory / "edited.onnx"
    ir.save(model, target)
    return target


def layer_of(model: ir.Model, module: str) -> LinearLayer:
    (layer,) = (each for each in linear_layers(model.graph) if each.module == module)
    return layer


def node_of(model: ir.Model, module: str, op_type: str) -> ir.Node:
    (node,) = (n for n in model.graph if n.op_type == op_type and module_of(n) == module)
    return node


def replace_constant(
    node: ir.Node, index: int, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    """Give `node` alone another constant: initializers may have several readers."""
    value = node.inputs[index]
    assert value is not None
    assert value.const_value is not None
    array = np.asarray(change(value.const_value.numpy().copy()))
    name = f"{value.name}_changed_for_{node.name}"
    new = ir.Value(name=name, const_value=ir.Tensor(array, name=name), shape=value.shape)
    new.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    assert node.graph is not None
    node.graph.register_initializer(new)
    node.replace_input_with(index, new)


def rescale(module: str, factor: float) -> Callable[[ir.Model], None]:
    """An edit that multiplies the scale of one activation, consistently in Q and DQ."""

    def edit(model: ir.Model) -> None:
        quantize = node_of(model, module, "QuantizeLinear")
        for node in (quantize, *(use.node for use in quantize.outputs[0].uses())):
            replace_constant(node, 1, lambda scale: scale * np.float32(factor))

    return edit


def encoded(examples: int = 40, task: str = "sst2") -> EncodedDataset:
    """Random tokens of random lengths, with random labels."""
    random = np.random.default_rng(0)
    rows = []
    for length in random.integers(4, 20, examples):
        ids = random.integers(1, VOCABULARY, length)
        ones, zeros = np.ones(length, np.int64), np.zeros(length, np.int64)
        rows.append(dict(zip(INPUTS, (ids, ones, zeros), strict=True)))
    return EncodedDataset(
        dataset(examples, task), TokenRows.of(rows, INPUTS), dict.fromkeys(INPUTS, 0)
    )


def dataset(examples: int, task: str = "sst2") -> Dataset:
    facts = task_named(task)
    labels = np.arange(examples) % 2
    return Dataset(
        facts,
        "validation",
        tuple(tuple(f"{c} {i}" for i in range(examples)) for c in facts.text_columns),
        labels * 2.5 if facts.is_regression else labels,
        np.arange(examples) + 100,
        "made up",
        "0" * 64,
    )


class FakeRunner:
    """Gives the logits it was made with; an example is known by its first token."""

    input_names = ("input_ids",)

    def __init__(self, logits: object, name: str = "fake") -> None:
        self.logits = np.asarray(logits, np.float32)
        self.name = name
        self.batches: list[tuple[int, ...]] = []  # shapes

    def run(self, feeds: Feeds) -> Outputs:
        self.batches.append(feeds["input_ids"].shape)
        return {"logits": self.logits[feeds["input_ids"][:, 0]]}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def numbered(examples: int, task: str = "sst2") -> EncodedDataset:
    """Example i is the token i, 8 - i times but at least once: by length, the order is another."""
    rows = [{"input_ids": np.full(max(8 - i, 1), i)} for i in range(examples)]
    return EncodedDataset(
        dataset(examples, task), TokenRows.of(rows, ("input_ids",)), {"input_ids": 0}
    )


def rung(logits: object, *, name: str = "fake", task: str = "sst2") -> RungResult:
    rows = np.asarray(logits, np.float32)
    return run_rung(FakeRunner(rows, name), numbered(len(rows), task), batch_tokens=16)


def torch_rung(model: torch.nn.Module, data: EncodedDataset) -> RungResult:
    return run_rung(TorchRunner(model, INPUTS), data, batch_tokens=BATCH_TOKENS)


def onnx_rung(path: Path, data: EncodedDataset) -> RungResult:
    with OnnxRuntimeRunner(path, optimize=False, threads=1) as runner:
        return run_rung(runner, data, batch_tokens=BATCH_TOKENS)
