"""An ONNX file in, the same points that PyTorch has out, as far as its tensors can be told apart.

The capture names every node after its module. Points are looked up by that name, so that a rung is
compared with any other one under PyTorch's names.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
import onnx_ir as ir

from nxmi_export.backends import Feeds
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.parity.drift.point import Kind, Observations, Point
from nxmi_export.parity.graph_quantizers import open_graph
from passes.constants import constant_values
from passes.linear_layers import LinearLayer, linear_layers
from passes.provenance import module_of

__all__ = ["OnnxPoints", "tensors_of"]


class OnnxPoints:
    """The file at `path` as a rung whose values can be seen.

    With `optimize=True` every observed tensor keeps onnxruntime from fusing across it, so what runs
    is the deployed graph only as far as that allows: observe few kinds of points there, and see
    `fusion` for how far observing moves the logits.
    """

    def __init__(
        self,
        path: Path,
        points: Iterable[Point],
        *,
        optimize: bool,
        threads: int | None = None,
        name: str | None = None,
        entries: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        graph = open_graph(path).graph
        self._tensors = tensors_of(graph, points)
        outputs = {value.name for value in graph.outputs}  # of which none may be asked for twice
        names = dict.fromkeys(self._tensors.values())
        extra = tuple(name for name in names if name not in outputs)
        self._runner = OnnxRuntimeRunner(
            path, optimize=optimize, threads=threads, extra_outputs=extra, entries=entries
        )
        self.name = self._runner.name if name is None else name

    def observe(self, feeds: Feeds) -> Observations:
        """Every point of one batch that the file has a tensor for, and the logits."""
        outputs = self._runner.run(feeds)
        rows = len(outputs["logits"])
        seen: Observations = {}
        for point, tensor in self._tensors.items():
            array = outputs[tensor]
            # position embeddings are made once for all examples
            single = len(array) == 1 and rows > 1
            seen[point] = np.broadcast_to(array, (rows, *array.shape[1:])) if single else array
        seen[Point("", Kind.LOGITS)] = outputs["logits"]
        return seen

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.__exit__(kind, error, trace)


def tensors_of(graph: ir.Graph, points: Iterable[Point]) -> dict[Point, str]:
    """The tensor of each of `points` that has exactly one; logits are an output anyway.

    A module that runs n times must have n tensors, or none of its runs is told apart.
    """
    wanted = [point for point in points if point.kind not in (Kind.LOGITS, Kind.QUANTIZER)]
    runs: dict[tuple[str, Kind], int] = {}
    for point in wanted:
        runs[point.module, point.kind] = runs.get((point.module, point.kind), 0) + 1
    layers = list(linear_layers(graph))
    found = _of_linears(layers, _result)
    read = _of_linears(layers, lambda layer: layer.data)
    fixed = constant_values(graph)
    nodes: dict[str, list[ir.Node]] = {}
    for node in graph:
        if not any(value in fixed for value in node.outputs):
            nodes.setdefault(module_of(node), []).append(node)
    result = {}
    for point in wanted:
        own = nodes.get(point.module, [])
        match point.kind:
            case Kind.INPUT:
                values = read.get(point.module) or _read_by_norms(own)
            case Kind.LINEAR:
                values = found.get(point.module, [])
            case Kind.BLOCK:
                values = _leaving(nodes, point.module)
            case Kind.ATTENTION:
                values = _made_by(own, "Softmax")
            case _:
                values = _made_by(own, own[-1].op_type) if own else []
                if runs[point.module, point.kind] == 1:
                    values = values[-1:]  # a formula of several nodes: the last is the result
        if len(values) == runs[point.module, point.kind]:
            result[point] = str(values[point.run].name)
    return result


def _of_linears(
    layers: Iterable[LinearLayer], value_of: Callable[[LinearLayer], ir.Value]
) -> Mapping[str, list[ir.Value]]:
    found: dict[str, list[ir.Value]] = {}
    for layer in layers:
        found.setdefault(layer.module, []).append(value_of(layer))
    return found


def _result(layer: LinearLayer) -> ir.Value:
    return (layer.node if layer.add is None else layer.add).outputs[0]


def _read_by_norms(nodes: list[ir.Node]) -> list[ir.Value]:
    """What each LayerNormalization, or each NoNorm's Mul, reads."""
    kind = nodes[0].op_type if nodes else ""
    values = [node.inputs[0] for node in nodes if node.op_type == kind]
    return [value for value in values if value is not None]


def _made_by(nodes: list[ir.Node], op_type: str) -> list[ir.Value]:
    return [node.outputs[0] for node in nodes if node.op_type == op_type]


def _leaving(nodes: Mapping[str, list[ir.Node]], block: str) -> list[ir.Value]:
    """The float values that are made in `block` and read outside of it.

    A few nodes belong to no module (the Split of a fused linear). What only they read may be read
    within the block as well, so it counts only where nothing else leaves.
    """
    named = [
        node
        for module, members in nodes.items()
        if module == block or module.startswith(f"{block}.")
        for node in members
    ]
    inside = set(named)
    homeless = set(nodes.get("", ()))
    values = [
        value
        for node in named
        for value in node.outputs
        if value.dtype in (None, ir.DataType.FLOAT)
        and (value.is_graph_output() or any(use.node not in inside for use in value.uses()))
    ]
    certain = [
        value
        for value in values
        if value.is_graph_output() or any(use.node not in inside | homeless for use in value.uses())
    ]
    return certain or values
