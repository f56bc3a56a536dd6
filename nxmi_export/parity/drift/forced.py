"""Batches and an ONNX file in, PyTorch replayed from its codes: every point judged on equal inputs.

As `tie_replay` judges the quantizers of a changed prediction, this judges the values between them
too, over any number of examples: linears, norms, activation functions, attention probabilities,
blocks and logits. What is beyond the bound at the first of them arose there, or between it and the
point before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.encoding import Batch
from nxmi_export.errors import ArtefactError
from nxmi_export.parity.drift.excess import Excess, excess, quantizer_excess
from nxmi_export.parity.drift.onnx_points import tensors_of
from nxmi_export.parity.drift.point import Kind, Point, real_values
from nxmi_export.parity.drift.torch_points import watched
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.judge import CodeDifference, Side, judge
from nxmi_export.parity.noise import LogitNoise
from nxmi_export.parity.replay import Values, logits_with_visits

__all__ = ["ForcedReplay", "Seen"]

_LOGITS = Point("", Kind.LOGITS)


@dataclass
class Seen:
    """What replays found so far; its size does not depend on how many there were."""

    worst: dict[Point, Excess] = field(default_factory=dict)  # by `times`
    codes: int = 0  # real ones that were compared
    ties: int = 0  # of them: differ, and lie at a rounding tie
    first_tie: tuple[int, CodeDifference] | None = None  # example and difference

    def note(self, found: Excess) -> None:
        """Keep `found` where nothing further beyond its bound is known of its point."""
        known = self.worst.get(found.point)
        if known is None or found.times > known.times:
            self.worst[found.point] = found


class ForcedReplay:
    """Replays batches of one file through the model that it was exported from.

    Memory is one batch's observed values, as float32 and codes. Raises ArtefactError for a file
    that is not this model's.
    """

    def __init__(self, model: nn.Module, path: Path, *, threads: int | None = None) -> None:
        graph = open_graph(path).graph
        self._model, self._path = model.eval(), path
        self._quantizers = pair_quantizers(model, graph).require(path)
        self._graph, self._noise = graph, LogitNoise.of_model(model)
        self._threads = threads
        self._runner: OnnxRuntimeRunner | None = None
        self._tensors: dict[Point, str] = {}
        self._watched: list[Point] = []  # in PyTorch's order of execution
        self._makers: dict[Point, ir.Node | None] = {}
        self.order: dict[Point, int] = {}  # place in the graph, which is an order of execution
        self.seen = Seen()

    def add(self, batch: Batch) -> None:
        """Run `batch` on both sides and take in what is found."""
        judged = self._run(batch)
        for found in judged.found:
            self.seen.note(replace(found, example=int(batch.indices[found.example])))
        self.seen.codes += judged.codes
        self.seen.ties += judged.ties
        if self.seen.first_tie is None and judged.first_tie is not None:
            row, difference = judged.first_tie
            self.seen.first_tie = int(batch.indices[row]), difference

    def both_sides(self, batch: Batch, point: Point) -> tuple[NDArray[Any], NDArray[Any]]:
        """What PyTorch and the file have at a float point that the file shows, from equal codes.

        Nothing is taken in.
        """
        return self._run(batch, point).kept[point]

    def first_beyond(self, times: float = 1.0) -> Excess | None:
        """The worst of the first point, in order of execution, that rounding does not explain.

        `times` is how much coarser the file rounds than float32.
        """
        beyond = [each for each in self.seen.worst.values() if each.times > times]
        return min(beyond, key=lambda each: self.order[each.point], default=None)

    def maker(self, point: Point) -> ir.Node | None:
        """The node that makes the value of `point`, or what the quantizer of `point` reads."""
        return self._makers.get(point)

    def absent_before(self, point: Point) -> tuple[Point, ...]:
        """What PyTorch computes between `point` and the point before it that the file shows."""
        if point not in self._watched:
            return ()
        absent: list[Point] = []
        for each in reversed(self._watched[: self._watched.index(point)]):
            if each in self._tensors:
                break
            absent.append(each)
        return tuple(reversed(absent))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            self._runner.__exit__(kind, error, trace)

    def _run(self, batch: Batch, wanted: Point | None = None) -> "_Judged":
        """One batch on both sides; the values at `wanted` are kept."""
        runner = self._runner or self._open(batch)
        outputs = runner.run(batch.feeds)
        mask = batch.feeds["attention_mask"]
        judged = _Judged(self._quantizers, self._tensors, outputs, mask, self._noise, self._path)
        judged.wanted = wanted
        with watched(self._model, judged.see):
            logits = logits_with_visits(self._model, batch.feeds, judged.visit)
        judged.see(_LOGITS, logits)
        return judged

    def _open(self, batch: Batch) -> OnnxRuntimeRunner:
        """A session that shows all tensors, once the points of the model are known."""
        points: list[Point] = []
        with watched(self._model, lambda point, _: points.append(point)):
            first = {name: ids[:1] for name, ids in batch.feeds.items()}
            logits_with_visits(self._model, first, lambda *_: None)
        self._tensors = tensors_of(self._graph, points)
        self._watched = [*points, _LOGITS]
        made = {value.name: i for i, node in enumerate(self._graph) for value in node.outputs}
        producers = {value.name: node for node in self._graph for value in node.outputs}
        self.order = {point: made.get(tensor, -1) for point, tensor in self._tensors.items()}
        for module, nodes in self._quantizers.items():
            for run, node in enumerate(nodes):
                self.order[Point(module, Kind.QUANTIZER, run)] = made[node.codes]
                self._makers[Point(module, Kind.QUANTIZER, run)] = producers.get(node.value)
        self.order[_LOGITS] = len(made)
        self._tensors[_LOGITS] = "logits"
        self._makers |= {point: producers.get(name) for point, name in self._tensors.items()}
        outputs = {value.name for value in self._graph.outputs}
        read = (each for nodes in self._quantizers.values() for each in nodes)
        names = [name for each in read for name in (each.value, each.codes)]
        names += self._tensors.values()
        extra = tuple(name for name in dict.fromkeys(names) if name not in outputs)
        self._runner = OnnxRuntimeRunner(
            self._path, optimize=False, threads=self._threads, extra_outputs=extra
        )
        return self._runner


class _Judged:
    """The points and quantizers of one batch, as PyTorch's hooks meet them."""

    def __init__(
        self,
        quantizers: Mapping[str, tuple[GraphQuantizer, ...]],
        tensors: Mapping[Point, str],
        outputs: Outputs,
        mask: NDArray[np.int64],
        noise: LogitNoise,
        path: Path,
    ) -> None:
        self._quantizers, self._tensors, self._outputs = quantizers, tensors, outputs
        self._mask, self._noise, self._path = mask, noise, path
        self._read = Values()
        self._done: set[Point] = set()
        self.found: list[Excess] = []  # `example` counts within the batch
        self.wanted: Point | None = None  # the point whose values are kept
        self.kept: dict[Point, tuple[NDArray[Any], NDArray[Any]]] = {}
        self.codes = self.ties = 0
        self.first_tie: tuple[int, CodeDifference] | None = None

    def see(self, point: Point, value: NDArray[Any]) -> None:
        """Hold a float value against the file's."""
        if point not in self._tensors:
            return
        found = self._outputs[self._tensors[point]]
        if found.shape[1:] != value.shape[1:]:
            self._refuse(str(point), value.shape, found.shape)
        found = np.broadcast_to(found, value.shape)  # position embeddings have one example
        if point == self.wanted:
            self.kept[point] = value, found
        real = real_values(point, value.shape, self._mask)
        self.found += excess(point, value, found, real, self._noise)

    def visit(self, module: str, quantizer: ActivationQuantizer, x: Tensor) -> Tensor | None:
        """Judge one quantizer as decision 16 does, and let the file's value flow on."""
        nodes, run = self._quantizers[module], self._read.index_of(module, x)
        point = Point(module, Kind.QUANTIZER, run)
        if run >= len(nodes):
            self._refuse(str(point), "a quantizer", "none of that run")
        node = nodes[run]
        codes = self._outputs[node.codes].astype(np.int16) - np.int16(node.zero_point)
        if codes.shape != tuple(x.shape):
            self._refuse(str(point), tuple(x.shape), codes.shape)
        if point not in self._done:  # the readers of one value call their quantizer one by one
            self._done.add(point)
            self._judge(point, quantizer, x, codes)
        forced = codes.astype(np.float32) * node.step
        return torch.from_numpy(forced).to(device=x.device, dtype=x.dtype)

    def _judge(
        self, point: Point, quantizer: ActivationQuantizer, x: Tensor, codes: NDArray[np.int16]
    ) -> None:
        node = self._quantizers[point.module][point.run]
        real = real_values(point, codes.shape, self._mask)
        with np.errstate(over="ignore", invalid="ignore"):
            ratios = np.asarray(self._outputs[node.value] / node.step, dtype=np.float32)
        expected = (x / quantizer.scale).float().cpu().numpy()
        reference = expected, quantizer.codes(x).cpu().numpy().astype(np.int16)
        self.codes += int(np.count_nonzero(real))
        for row, where in enumerate(real):
            # What padding holds is nobody's business: there both sides are 0.
            before = Side(*(np.where(where, each[row], 0) for each in reference))
            after = Side(*(np.where(where, each[row], 0) for each in (ratios, codes)))
            judgement = judge(point.module, before, after, self._noise.widest)
            if judgement.objection is not None:
                found = quantizer_excess(point, before, after, self._noise.widest)
                self.found.append(replace(found, example=row))
            elif judgement.first is not None:
                self.ties += judgement.differing
                self.first_tie = self.first_tie or (row, judgement.first)

    def _refuse(self, subject: str, expected: object, found: object) -> None:
        raise ArtefactError(
            self._path,
            expected=f"{expected} for {subject}, as in the PyTorch model",
            found=str(found),
            remedy="export the model again from this checkpoint",
        )
