"""Engine files for an exported tiny encoder, written by hand: no TensorRT 10 ran here.

The text follows what TensorRT 10 documents and prints at its most detailed level: one line a layer,
`Format/Datatype`, weights among the inputs, "_" for "." in layer names, ONNX nodes separated by
U+001E, and the counts of the `(Sparsity)` lines.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact, read_artefact, replace_files
from nxmi_export.output_files import temporary_directory
from tests.engine_documents import engine_document
from tests.pipeline.exports import LAYERS

SPARSE_KERNEL = "sm80_xmma_sparse_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x128"
DENSE_KERNEL = "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x64"
FLOAT_KERNEL = "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x16"
PRODUCTS = 4 * LAYERS  # of linears, query, key and value being one
ENGINE = ("model.plan", "build.log", "layers_model.json", "engine.json")


@dataclass(frozen=True)
class Log:
    """What a build log says; as it is, everything that the `sparse` placement promises."""

    kernel: str = SPARSE_KERNEL
    output: str = "Int8"
    found: int | None = PRODUCTS
    chosen: int | None = PRODUCTS
    merged: bool = True  # query, key and value
    fused: bool = True  # attention
    dense: tuple[str, ...] = ()  # modules with another kernel
    in_float: tuple[str, ...] = ()  # modules that multiply floats
    absent: tuple[str, ...] = ()  # modules that are not listed
    foreign: str = ""  # a node of no graph, as one more product

    @property
    def text(self) -> str:
        """The whole log."""
        lines = [] if self.found is None else [_counted("Found", self.found, "eligible to use")]
        lines += [] if self.chosen is None else [_counted("Chose", self.chosen, "using")]
        return "\n".join([*lines, *self._layers(), ""])

    def _layers(self) -> Iterator[str]:
        for index in range(LAYERS):
            block = f"bert.encoder.layer.{index}"
            attention = f"{block}.attention.self"
            qkv = [f"{attention}.{name}" for name in ("value", "key", "query")]
            for modules in [qkv] if self.merged else [[name] for name in qkv]:
                yield from self._linear(*modules)
            yield from self._attention(attention)
            for name in ("attention.output.dense", "intermediate.dense", "output.dense"):
                yield from self._linear(f"{block}.{name}")
        yield _layer(("classifier/Gemm",), "gemm", ("Float", "Float"), "Float", FLOAT_KERNEL)
        if self.foreign:
            yield _layer((self.foreign,), "gemm", ("Int8", "Int8"), "Int8", self.kernel)

    def _linear(self, *modules: str) -> Iterator[str]:
        if set(modules) & set(self.absent):
            return
        floats = bool(set(modules) & set(self.in_float))
        types = ("Float", "Float") if floats else ("Int8", "Int8")
        kernel = DENSE_KERNEL if set(modules) & set(self.dense) else self.kernel
        nodes = tuple(f"{module}/MatMul" for module in modules)
        yield _layer(nodes, "gemm", types, self.output, FLOAT_KERNEL if floats else kernel)

    def _attention(self, module: str) -> Iterator[str]:
        nodes = (f"{module}/MatMul", f"{module}/MatMul_2")
        if self.fused:
            name = "_gemm_mha_v2_0xcf66"
            yield _layer(nodes, "kgen", ("Int8", "Int8", "Int8"), "Int8", name, name=name)
            return
        for node in nodes:
            yield _layer((node,), "gemm", ("Int8", "Int8"), "Float", DENSE_KERNEL)


def with_engine(
    artefact: Artefact,
    log: str,
    *,
    library: tuple[str, str] = ("tensorrt", "10.14.1"),
    layers: str = "{}",
    **changes: Any,
) -> Artefact:
    """The artefact with a plan, this log and an engine.json about them, as `build` leaves it.

    `layers` is the text of layers_model.json, `changes` are keys of engine.json.
    """
    with temporary_directory(artefact.directory) as workshop:
        (workshop / "model.plan").write_bytes(b"a plan")
        (workshop / "build.log").write_text(log, encoding="utf-8")
        (workshop / "layers_model.json").write_text(layers, encoding="utf-8")
        graph = engine_document(artefact.directory)["graph"]
        named = {"name": library[0], "version": library[1]}
        facts = engine_document(workshop, **{"graph": graph, "library": named} | changes)
        (workshop / "engine.json").write_text(json.dumps(facts), encoding="utf-8")
        replace_files(artefact, workshop, ENGINE)
    return read_artefact(artefact.directory)


def inspector_json(log: Log, path: Path, *, release: int) -> Path:
    """The same layers as the inspector of TensorRT 10 or 11 is documented to describe them."""
    layers = [_as_json(line, release) for line in log.text.split("\n") if "LayerType" in line]
    tensors: dict[str, Any] = {"Bindings": ["input_ids", "logits"]}
    if release >= 11:
        tensors = {"I/O Tensors": [{"Name": "input_ids", "IOMode": "Input", "DataType": "Int64"}]}
    path.write_text(json.dumps({"Layers": layers, **tensors}), encoding="utf-8")
    return path


def _as_json(line: str, release: int) -> dict[str, Any]:
    name = line.split("Name: ", 1)[1].split(", LayerType")[0]
    kind = line.split("LayerType: ", 1)[1].split(",")[0]
    inputs, outputs = line.split("Inputs: ")[1].split("Outputs: ")
    metadata = line.split("Metadata: ")[1]
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [_tensor(each, release) for each in inputs.split("Format/Datatype: ")[1:]],
        "Outputs": [
            _tensor(each, release)
            for each in outputs.split("TacticName")[0].split("Format/Datatype: ")[1:]
        ],
        "TacticName": line.split("TacticName: ")[1].split(",")[0],
        "StreamId": 0,
        "Metadata": metadata,
    }


def _tensor(text: str, release: int) -> dict[str, Any]:
    datatype = text.split(" ")[0]
    tensor: dict[str, Any] = {"Name": "t", "Location": "Device", "Dimensions": [-1, 64]}
    if release >= 11:
        return tensor | {"Datatype": datatype, "Format": "Row major linear format (kLINEAR)"}
    return tensor | {"Format/Datatype": f"Row major {datatype} format"}


def _counted(verb: str, count: int, words: str) -> str:
    return (
        f"[11/28/2026-10:32:57] [I] [TRT] (Sparsity) {verb} {count} layer(s) {words} sparse tactics"
    )


def _layer(
    nodes: tuple[str, ...],
    kind: str,
    inputs: tuple[str, ...],
    output: str,
    tactic: str,
    name: str | None = None,
) -> str:
    title = name or "+".join(nodes).replace(".", "_")
    operands = ", ".join(
        f"{{ Name: x{at}, Dimensions: [-1,64], Format/Datatype: {datatype} }}"
        for at, datatype in enumerate(inputs)
    )
    metadata = "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes)
    return (
        f"[11/28/2026-10:32:57] [V] [TRT] Name: {title}_myl0_1, LayerType: {kind}, "
        f"Inputs: [ {operands}], Outputs: [ {{ Name: y, Dimensions: [-1,64], "
        f"Format/Datatype: {output} }}], TacticName: {tactic}, StreamId: 0, Metadata: {metadata}"
    )
