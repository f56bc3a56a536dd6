"""A PyTorch model and its ONNX file in, integer parity by module name out.

`stored_integers` says for every linear and quantizer how many stored integers and scales were
compared and which differ first. `activation_codes` counts, for every activation quantizer, the
codes that real examples get on both sides, each running freely.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.errors import ArtefactError
from nxmi_export.parity.drift.point import Kind, Point, real_values
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.layer_weights import Mismatch
from nxmi_export.parity.replay import Values, logits_with_visits
from nxmi_export.parity.weights import weight_parity

__all__ = ["FirstCode", "QuantizerCodes", "StoredIntegers", "activation_codes", "stored_integers"]


@dataclass(frozen=True)
class StoredIntegers:
    """One linear or activation quantizer, compared bit for bit."""

    module: str
    codes: int  # compared weights; 0 for a quantizer and for a float linear
    scales: int
    mismatches: tuple[Mismatch, ...]  # each with the first index that differs, and their number

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.mismatches


@dataclass(frozen=True)
class FirstCode:
    """The first code that differs: the lowest example, then the lowest position in it."""

    example: int  # into the dataset
    position: tuple[int, ...]  # (token, channel), (head, query, key)
    reference: int
    candidate: int


@dataclass(frozen=True)
class QuantizerCodes:
    """Counts of one quantizer's codes on real tokens."""

    point: Point
    equal: int
    off_by_one: int
    worse: int
    first: FirstCode | None

    @property
    def total(self) -> int:
        """All codes compared."""
        return self.equal + self.off_by_one + self.worse

    @property
    def rates(self) -> tuple[float, float, float]:
        """The shares of equal codes, of those off by one, and of worse ones; NaN for no code."""
        counts = (self.equal, self.off_by_one, self.worse)
        equal, off, worse = (n / self.total if self.total else float("nan") for n in counts)
        return equal, off, worse


def stored_integers(model: nn.Module, path: Path) -> tuple[StoredIntegers, ...]:
    """Every linear and activation quantizer of the model, then what the file alone has.

    Raises ArtefactError for a file that cannot be read.
    """
    differing: dict[str, list[Mismatch]] = {}
    for mismatch in weight_parity(model, path).mismatches:
        differing.setdefault(mismatch.module, []).append(mismatch)
    found = []
    for name, module in model.named_modules():
        mismatches = tuple(differing.pop(name, ()))
        if isinstance(module, nn.Linear):
            quantizer = module.weight_quantizer if isinstance(module, CompressedLinear) else None
            codes = 0 if quantizer is None else module.weight.numel()
            scales = 0 if quantizer is None else quantizer.scale.numel()
            found.append(StoredIntegers(name, codes, scales, mismatches))
        elif isinstance(module, ActivationQuantizer):
            found.append(StoredIntegers(name, 0, module.scale.numel(), mismatches))
        elif mismatches:
            found.append(StoredIntegers(name, 0, 0, mismatches))
    found += (StoredIntegers(name, 0, 0, tuple(rest)) for name, rest in differing.items())
    return tuple(found)


def activation_codes(
    model: nn.Module,
    path: Path,
    data: EncodedDataset,
    *,
    batch_size: int,
    order: NDArray[np.int64] | None = None,
    threads: int | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[QuantizerCodes, ...]:
    """Run PyTorch and the file as written freely over the examples `order` (default: all).

    One entry per quantizer and run, in order of execution; padding is left out, and one batch's
    codes are held. Raises ArtefactError for a file that is not this model's.
    """
    order = data.by_length() if order is None else order
    pairs = pair_quantizers(model, open_graph(path).graph).require(path)
    counted: dict[Point, QuantizerCodes] = {}
    tensors = tuple(dict.fromkeys(node.codes for nodes in pairs.values() for node in nodes))
    done = 0
    with OnnxRuntimeRunner(path, optimize=False, threads=threads, extra_outputs=tensors) as runner:
        for batch in data.batches(batch_size, order=order):
            compared = _Compared(pairs, runner.run(batch.feeds), batch, path)
            logits_with_visits(model, batch.feeds, compared.visit)
            for point, each in compared.found.items():
                counted[point] = _joined(counted.get(point), each)
            done += len(batch.indices)
            on_batch(done, len(order))
    return tuple(counted.values())


class _Compared:
    """The counts of one batch."""

    def __init__(
        self,
        pairs: Mapping[str, tuple[GraphQuantizer, ...]],
        outputs: Outputs,
        batch: Batch,
        path: Path,
    ) -> None:
        self._pairs, self._outputs, self._batch, self._path = pairs, outputs, batch, path
        self._read = Values()
        self.found: dict[Point, QuantizerCodes] = {}

    def visit(self, module: str, quantizer: ActivationQuantizer, x: Tensor) -> None:
        """Compare one quantizer; one that is shared is called by each reader, with one value."""
        nodes, run = self._pairs[module], self._read.index_of(module, x)
        point = Point(module, Kind.QUANTIZER, run)
        if point in self.found:
            return
        if run >= len(nodes):
            raise ArtefactError(
                self._path,
                expected=f"{module} once for every value that the PyTorch model quantizes there",
                found=f"{len(nodes)} of them",
                remedy="export the model again from this checkpoint",
            )
        found = self._outputs[nodes[run].codes].astype(np.int16) - np.int16(nodes[run].zero_point)
        expected = quantizer.codes(x).cpu().numpy().astype(np.int16)
        real = real_values(point, found.shape, self._batch.feeds["attention_mask"])
        steps = np.where(real, np.abs(expected - found), 0)
        off_by_one = int(np.count_nonzero(steps == 1))
        worse = int(np.count_nonzero(steps > 1))
        equal = int(np.count_nonzero(real)) - off_by_one - worse
        first = self._first(np.argwhere(steps), expected, found)
        self.found[point] = QuantizerCodes(point, equal, off_by_one, worse, first)

    def _first(
        self, places: NDArray[np.intp], expected: NDArray[np.int16], found: NDArray[np.int16]
    ) -> FirstCode | None:
        if not len(places):
            return None
        examples = self._batch.indices[places[:, 0]]
        at = tuple(int(i) for i in places[int(np.argmin(examples))])  # of equals the first
        return FirstCode(int(examples.min()), at[1:], int(expected[at]), int(found[at]))


def _joined(known: QuantizerCodes | None, new: QuantizerCodes) -> QuantizerCodes:
    if known is None:
        return new
    firsts = [each.first for each in (known, new) if each.first is not None]
    return QuantizerCodes(
        known.point,
        known.equal + new.equal,
        known.off_by_one + new.off_by_one,
        known.worse + new.worse,
        min(firsts, key=lambda each: (each.example, each.position), default=None),
    )
