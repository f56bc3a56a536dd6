"""One ONNX file as written and one as optimized in, whether ties alone tell them apart out.

Neither is forced here: onnxruntime cannot be made to continue from given codes. But up to and
including the first quantizer whose codes differ, in order of execution, both sides of an example
started from equal integers. What differs there must be rounding ties, as between PyTorch and ONNX;
behind it nothing is provable for that example, and other examples show other quantizers.

Codes are integers that fused kernels produce too, so reading them blocks fewer fusions than reading
floats would. That it moves something is measured: `perturbation`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UsageError
from nxmi_export.parity.drift.cause import Attribution, Cause, FusionEvidence, TieEvidence
from nxmi_export.parity.drift.plain import plain
from nxmi_export.parity.drift.point import Kind, Point, real_values
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.judge import CodeDifference, allowed_gaps
from nxmi_export.parity.noise import LogitNoise

__all__ = ["FusionCheck", "check_fusions"]

SCHEMA = "nxmi-export/fusion/1"
_Sides = tuple[GraphQuantizer, GraphQuantizer]


@dataclass(frozen=True)
class FusionCheck:
    """What the first differing quantizer of every example says."""

    examples: int
    equal: int  # examples without a differing code
    tipped: int  # examples that part at rounding ties
    fused: int  # examples that part where no tie explains it
    perturbation: float  # max |Δlogit| of the optimized graph because its codes are read
    attribution: Attribution | None  # of the first that no tie explains, else of a tie; None: equal

    def as_json(self) -> dict[str, Any]:
        """Plain data under a schema; a number that is NaN or infinite becomes null."""
        result: dict[str, Any] = plain({"schema": SCHEMA, **asdict(self)})
        return result


def check_fusions(
    model: nn.Module,
    written: Path,
    optimized: Path,
    data: EncodedDataset,
    *,
    batch_size: int,
    order: NDArray[np.int64] | None = None,
    threads: int | None = None,
    entries: Mapping[str, str] = MappingProxyType({}),
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> FusionCheck:
    """Run `written` unoptimized and `optimized` with onnxruntime's fusions.

    `model` is the one both were exported from; `entries` configure the session of `optimized`.
    Memory is one batch. Raises ArtefactError for a file of another model, UsageError without
    examples.
    """
    order = data.by_length() if order is None else order
    if not len(order):
        raise UsageError(
            f"the fusions of {optimized}",
            expected="examples",
            found="none",
            remedy="give at least one",
        )
    sides = _sides(model, written, optimized)
    before = [name for one, _ in sides.values() for name in (one.value, one.codes)]
    after = tuple(dict.fromkeys(other.codes for _, other in sides.values()))
    found = _Found(sides, LogitNoise.of_model(model))
    with (
        OnnxRuntimeRunner(
            written, optimize=False, threads=threads, extra_outputs=tuple(dict.fromkeys(before))
        ) as reference,
        OnnxRuntimeRunner(
            optimized, optimize=True, threads=threads, extra_outputs=after, entries=entries
        ) as candidate,
        OnnxRuntimeRunner(optimized, optimize=True, threads=threads, entries=entries) as deployed,
    ):
        for batch in data.batches(batch_size, order=order):
            observed = candidate.run(batch.feeds)
            found.add(
                reference.run(batch.feeds),
                observed,
                batch.feeds["attention_mask"],
                batch.indices,
            )
            found.perturbed(observed["logits"], deployed.run(batch.feeds)["logits"])
            on_batch(found.examples, len(order))
    return found.summary()


def _sides(model: nn.Module, written: Path, optimized: Path) -> Mapping[Point, _Sides]:
    """Both files' quantizers of each value, in the order in which `written` runs them."""
    graph = open_graph(written).graph
    pairs = pair_quantizers(model, graph).require(written)
    others = pair_quantizers(model, open_graph(optimized).graph).require(optimized)
    made = {value.name: i for i, node in enumerate(graph) for value in node.outputs}
    sides = {
        Point(module, Kind.QUANTIZER, run): (node, others[module][run])
        for module, nodes in pairs.items()
        for run, node in enumerate(nodes)
    }
    return dict(sorted(sides.items(), key=lambda each: made[each[1][0].codes]))


class _Found:
    """Counts over batches, the first tie, and the first difference that is none."""

    def __init__(self, sides: Mapping[Point, _Sides], noise: LogitNoise) -> None:
        self._sides, self._noise = sides, noise
        self.examples = self._tipped = self._fused = self._ties = self._codes = 0
        self._perturbation = 0.0
        self._tie: tuple[int, CodeDifference] | None = None
        self._fusion: FusionEvidence | None = None

    def add(
        self,
        before: Outputs,
        after: Outputs,
        mask: NDArray[np.int64],
        examples: NDArray[np.int64],
    ) -> None:
        """Judge every example of one batch."""
        self.examples += len(examples)
        parted = np.zeros(len(examples), bool)
        for point, (one, other) in self._sides.items():
            codes = [
                outputs[node.codes].astype(np.int16) - np.int16(node.zero_point)
                for outputs, node in ((before, one), (after, other))
            ]
            real = real_values(point, codes[0].shape, mask)
            differ = (codes[0] != codes[1]) & real
            with np.errstate(over="ignore", invalid="ignore"):
                ratios = np.asarray(before[one.value] / one.step, np.float32)
            self._codes += int(np.count_nonzero(real[~parted]))
            for row in np.flatnonzero(differ.reshape(len(differ), -1).any(axis=1) & ~parted):
                parted[row] = True
                both = codes[0][row], codes[1][row]
                shown = np.where(real[row], ratios[row], 0)
                self._judge(point, shown, both, np.argwhere(differ[row]), int(examples[row]))
        for equal in np.flatnonzero(~parted).tolist():
            self._judge_logits(before["logits"], after["logits"], equal, int(examples[equal]))

    def perturbed(self, observed: NDArray[Any], deployed: NDArray[Any]) -> None:
        """Note how far apart the logits are that reading codes leaves, and the deployed ones."""
        gap = np.abs(observed.astype(np.float64) - deployed).max()
        self._perturbation = float(np.fmax(self._perturbation, gap))

    def summary(self) -> FusionCheck:
        """The counts, and the cause."""
        attribution = None
        if self._fusion is not None:
            attribution = _fused(self._fusion)
        elif self._tie is not None:
            evidence = TieEvidence(*self._tie, self._ties, self._codes)
            attribution = _tipped(evidence)
        equal = self.examples - self._tipped - self._fused
        return FusionCheck(
            self.examples, equal, self._tipped, self._fused, self._perturbation, attribution
        )

    def _judge(
        self,
        point: Point,
        ratios: NDArray[np.float32],
        codes: tuple[NDArray[np.int16], NDArray[np.int16]],
        places: NDArray[np.intp],
        example: int,
    ) -> None:
        at = tuple(places.T)
        noise = allowed_gaps(ratios, self._noise.widest)[at]
        lower = np.minimum(codes[0][at], codes[1][at]).astype(np.float64)
        steps = np.abs(codes[0][at].astype(np.int32) - codes[1][at])
        distances = np.abs(ratios[at] - (lower + 0.5))
        wrong = ~((steps == 1) & (distances <= noise))
        if not wrong.any():
            self._tipped += 1
            self._ties += len(places)
            self._tie = self._tie or (example, _difference(point, ratios, codes, places[0]))
            return
        self._fused += 1
        beyond = np.maximum(distances, steps - 1) / noise
        worst = int(np.argmax(np.where(wrong, beyond, -1)))
        place = tuple(int(i) for i in places[worst])
        self._fusion = self._fusion or FusionEvidence(
            module=point.module,
            example=example,
            position=place,
            written=float(codes[0][place]),
            optimized=float(codes[1][place]),
            distance=float(distances[worst]),
            explained=float(noise[worst]),
        )

    def _judge_logits(
        self, before: NDArray[Any], after: NDArray[Any], row: int, example: int
    ) -> None:
        """From equal codes, the rest of the network must give equal logits up to noise."""
        gaps = np.abs(after[row].astype(np.float64) - before[row])
        at, noise = int(gaps.argmax()), self._noise.of(before[row])
        if gaps[at] <= noise:
            return
        self._fused += 1
        values = float(before[row, at]), float(after[row, at])
        found = FusionEvidence("", example, (at,), *values, float(gaps[at]), noise)
        self._fusion = self._fusion or found


def _difference(
    point: Point,
    ratios: NDArray[np.float32],
    codes: tuple[NDArray[np.int16], NDArray[np.int16]],
    where: NDArray[np.intp],
) -> CodeDifference:
    """The pre-rounding ratio of the optimized side is not observable, so NaN stands for it."""
    place = tuple(int(i) for i in where)
    return CodeDifference(
        point.module,
        place,
        (float(ratios[place]), float("nan")),
        (int(codes[0][place]), int(codes[1][place])),
    )


def _tipped(evidence: TieEvidence) -> Attribution:
    first = evidence.difference
    return Attribution(
        Cause.ROUNDING_TIE,
        first.module,
        evidence,
        f"{first.module} at {list(first.position)} of example {evidence.example} is "
        f"{first.ratios[0]!s} steps as written, at the tie between the codes {first.codes[0]} and "
        f"{first.codes[1]}; where examples part, all differing codes are at ties.",
    )


def _fused(evidence: FusionEvidence) -> Attribution:
    what = evidence.module or "the logits"
    unit = "steps from the tie between them" if evidence.module else "apart"
    return Attribution(
        Cause.FUSION,
        evidence.module,
        evidence,
        f"From equal codes before it, {what} at {list(evidence.position)} of example "
        f"{evidence.example} is {evidence.written:g} as written and {evidence.optimized:g} "
        f"optimized, {evidence.distance:.2g} {unit} where summation order accounts for "
        f"{evidence.explained:.2g}.",
    )
