"""A candidate in, how far it is from the dense model on a slice of the training set out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import InvalidDataset
from nxmi_export.glue import predict, primary, score
from nxmi_export.glue.tasks import Task
from nxmi_export.recipe import Scheme
from nxmi_export.search.early_stopping import Outcomes, Stop
from nxmi_export.search.superset import Superset

__all__ = [
    "Logits",
    "Score",
    "Scorer",
    "ScoringOptions",
    "dense_logits",
    "divergences",
    "expected_divergences",
]

Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Logits = NDArray[np.float64]  # (examples, outputs) in the order of the slice and of the task


_EVERYWHERE = 0.1  # of the weight, spread evenly


@dataclass(frozen=True)
class ScoringOptions:
    """How candidates are scored, the same for all of them.

    `order` gives for each label of the task the model's output; None: they agree.
    """

    chunk: int = 8  # examples between two looks at the stop at least; see `_places`
    batch_size: int = 32  # examples that run together at most, neighbours in length within a chunk
    seed: int = 0  # of the order of the examples
    precision: Literal["fp32", "bf16"] = "fp32"
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Score:
    """Means over the slice, of which `examples` were scored; `metric` only where those are all.

    `divergence`: KL(dense ‖ candidate) of the class probabilities, in nats, or the squared
    difference of a regression's outputs. Where the candidate was given up, an estimate from what
    was seen (Des Raj, 1956), too high on average, as what looks bad is what is given up; nothing
    is ranked by it. `metric`: the task's primary metric.
    """

    examples: int
    divergence: float
    metric: float | None
    stopped: bool


class Scorer:
    """Scores one candidate after the other on one slice.

    The examples come in one random order, in chunks. Neither the order nor which examples run in
    one batch depends on the candidate, so equal candidates have equal scores, in any process.
    """

    def __init__(
        self,
        superset: Superset,
        data: EncodedDataset,
        reference: Logits,
        options: ScoringOptions,
        weights: FloatArray | None = None,
    ) -> None:
        """Score on the slice `data`, whose labels are in the task's order.

        `reference` are the logits of the dense model there, as `dense_logits` gives them. The next
        example is always drawn from those left with chances in proportion to `weights`, positive
        and by example; None: equal ones, which a metric's stop needs.
        """
        self._superset, self._reference, self._options = superset, reference, options
        self._task, self._labels = data.dataset.task, data.dataset.labels
        self._chunks = _chunks(data, superset.model.device, options, weights)

    @property
    def positions(self) -> Int64Array:
        """The random order, (examples,) into the slice."""
        return np.concatenate([chunk.examples for chunk in self._chunks])

    def score(self, schemes: Mapping[str, Scheme], stop: Stop | None = None) -> Score:
        """Score the candidate with these schemes by linear until `stop` says that it is enough.

        `stopped` says that it did; not behind the last chunk, where the score is exact. Raises
        DataError for logits that are not finite.
        """
        self._superset.use(schemes)
        seen: list[Outcomes] = []
        stopped = False
        for chunk in self._chunks:
            seen.append(self._outcomes(chunk))
            enough = stop is not None and stop.add(seen[-1])
            stopped = enough and chunk is not self._chunks[-1]
            if stopped:
                break
        return self._summary(seen, stopped=stopped)

    def logits(self, schemes: Mapping[str, Scheme], examples: int | None = None) -> Logits:
        """The candidate's logits for `positions[:examples]`, by default all of them.

        Whole chunks run, so that an example's logits do not depend on how many are asked for.
        Raises DataError for logits that are not finite.
        """
        self._superset.use(schemes)
        wanted = len(self._labels) if examples is None else min(examples, len(self._labels))
        rows: list[Logits] = []
        for chunk in self._chunks:
            if sum(map(len, rows)) >= wanted:
                break
            rows.append(_logits(self._superset, chunk, self._options))
            predict(self._task, rows[-1])  # refuses what is not finite
        return np.concatenate(rows)[:wanted]

    def distances(self, schemes: Mapping[str, Scheme]) -> FloatArray:
        """How far the candidate is from the dense model on each example of the slice."""
        found, positions = np.empty(len(self._reference)), self.positions
        found[positions] = divergences(self._task, self._reference[positions], self.logits(schemes))
        return found

    def _outcomes(self, chunk: "_Chunk") -> Outcomes:
        logits = _logits(self._superset, chunk, self._options)
        predictions = predict(self._task, logits)  # refuses what is not finite
        reference = self._reference[chunk.examples]
        distances = divergences(self._task, reference, logits)
        return Outcomes(chunk.examples, chunk.chances, distances, predictions)

    def _summary(self, seen: list[Outcomes], *, stopped: bool) -> Score:
        examples = np.concatenate([each.examples for each in seen])
        distances = np.concatenate([each.divergences for each in seen])
        metric = None
        if len(examples) < len(self._labels):
            chances = np.concatenate([each.chances for each in seen])
            before = np.cumsum(distances) - distances
            divergence = float(np.mean(before + distances / chances)) / len(self._labels)
        else:
            divergence = math.fsum(distances) / len(self._labels)  # in whatever order
            predictions = np.concatenate([each.predictions for each in seen])
            scores = score(self._task, predictions, self._labels[examples])
            metric = primary(self._task, scores)
        return Score(len(examples), divergence, metric, stopped)


def dense_logits(superset: Superset, data: EncodedDataset, options: ScoringOptions) -> Logits:
    """The logits of the dense model in the order of `data`, whatever `options` say in float32.

    Where the recipe's tables are INT8 so are the dense model's, as all candidates share them: what
    the choices for linears cost then adds up from nothing.
    """
    superset.use({})
    in_full = replace(options, precision="fp32")
    logits = np.empty((len(data), data.dataset.task.num_outputs), np.float64)
    for chunk in _chunks(data, superset.model.device, options, None):
        logits[chunk.examples] = _logits(superset, chunk, in_full)
    return logits


def expected_divergences(pilots: Sequence[FloatArray]) -> FloatArray:
    """How much any candidate may be expected to diverge on each example, 1 on average, (examples,).

    Candidates differ in how far they go, and much less in where: examples near the decision, or of
    rare words, are hard for all of them. So the distances of each of `pilots` tell something of
    every other one. Never below a tenth, in case that an example is hard for others only.
    """
    found = [distances / distances.mean() for distances in pilots if distances.any()]
    if not found:  # no pilot diverges anywhere
        return np.ones(len(pilots[0]))
    weights: FloatArray = _EVERYWHERE + (1 - _EVERYWHERE) * np.mean(found, axis=0)
    return weights


def divergences(task: Task, reference: Logits, logits: Logits) -> NDArray[np.float64]:
    """How far each row of `logits` is from `reference`, (examples,), as `Score` defines it."""
    if task.is_regression:
        return np.square(logits[:, 0] - reference[:, 0])
    log_p, log_q = log_softmax(reference, axis=1), log_softmax(logits, axis=1)
    distance: NDArray[np.float64] = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
    return np.maximum(distance, 0.0)  # rounding leaves -1e-17 where the two agree


@dataclass(frozen=True, eq=False)
class _Chunk:
    examples: Int64Array  # into the slice, in the random order
    chances: FloatArray  # of each, when it was drawn
    batches: tuple[tuple[Int64Array, Mapping[str, Tensor]], ...]  # positions in it, and feeds


def _chunks(
    data: EncodedDataset,
    device: torch.device,
    options: ScoringOptions,
    weights: FloatArray | None,
) -> tuple[_Chunk, ...]:
    if not len(data):
        raise InvalidDataset(
            f"{data.dataset.task.name} {data.dataset.split}",
            expected="examples to score on",
            found="none",
            remedy="choose a larger slice",
        )
    weights = np.ones(len(data)) if weights is None else weights
    # The first of exponential waiting times comes from each with a chance in proportion to its
    # rate, and so does the next of those left (Efraimidis and Spirakis, 2006).
    waiting = np.random.default_rng(options.seed).exponential(size=len(data)) / weights
    order = np.argsort(waiting, kind="stable")
    drawn = weights[order]
    chances = drawn / np.cumsum(drawn[::-1])[::-1]
    return tuple(
        _Chunk(order[each], chances[each], _batches(data, order[each], device, options.batch_size))
        for each in _places(len(order), options.chunk)
    )


def _places(examples: int, chunk: int) -> Iterator[slice]:
    """Where each chunk lies: as many as a quarter of those before it, and never less than `chunk`.

    Most candidates are given up within the first few. Those that need more cost little beyond what
    they need, and run in large batches.
    """
    start = 0
    while start < examples:
        end = start + max(chunk, start // 4)
        yield slice(start, end)
        start = end


def _batches(
    data: EncodedDataset, examples: Int64Array, device: torch.device, batch_size: int
) -> tuple[tuple[Int64Array, Mapping[str, Tensor]], ...]:
    by_length = np.argsort(data.lengths[examples], kind="stable")
    batches = []
    for start in range(0, len(by_length), batch_size):
        places = by_length[start : start + batch_size]
        feeds = data.padded(examples[places], None)
        on_device = {name: torch.from_numpy(array).to(device) for name, array in feeds.items()}
        batches.append((places, on_device))
    return tuple(batches)


@torch.inference_mode()
def _logits(superset: Superset, chunk: _Chunk, options: ScoringOptions) -> Logits:
    """Float64 (chunk, outputs) in the chunk's own order, the outputs in that of the task."""
    rows: dict[int, NDArray[np.float64]] = {}
    device = superset.model.device.type
    with torch.autocast(device, torch.bfloat16, enabled=options.precision == "bf16"):
        for places, feeds in chunk.batches:
            logits = superset.model(**feeds).logits.double().cpu().numpy()
            rows.update(zip(places.tolist(), logits, strict=True))
    found = np.stack([rows[place] for place in range(len(rows))])
    return found if options.order is None else found[:, list(options.order)]
