"""A scorer and a space in, what each scheme costs on each group alone out.

The dense model with one group changed is run on the first examples of the slice. What several
changes cost together is predicted as the sum, to which the curvature adds how they interact.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from nxmi_export.glue import Task
from nxmi_export.glue.dataset import Dataset, LabelArray
from nxmi_export.search.fisher import Curvature
from nxmi_export.search.score import Logits, Scorer, divergences
from nxmi_export.search.space import Candidate, SearchSpace, schemes_of
from nxmi_export.search.variants import DENSE

__all__ = ["Probe", "Prober", "Sensitivities", "Sensitivity", "probes"]


class Probe(NamedTuple):
    """One group under one scheme, all else dense or as a prober has it."""

    group: str
    scheme: str


class Sensitivity(NamedTuple):
    """What a probe costs.

    `divergence` is the mean from the dense outputs, as `Score` has it; `loss` the mean rise of the
    cross-entropy in nats, or of a regression's squared error, which is negative where the change
    helps.
    """

    divergence: float
    loss: float


def probes(space: SearchSpace) -> tuple[Probe, ...]:
    """Every option of every group but `dense`, which costs nothing."""
    return tuple(
        Probe(group.name, text)
        for group in space.groups
        for text, scheme in group.by_text.items()
        if scheme != DENSE
    )


class Prober:
    """Measures probes of one space on the first examples of the scorer's random order."""

    def __init__(
        self, scorer: Scorer, space: SearchSpace, data: Dataset, reference: Logits, examples: int
    ) -> None:
        """`data` is the slice and `reference` the dense logits, as the scorer has them."""
        self._space = space
        self._scorer, self._task = scorer, data.task
        self._groups = {group.name: group for group in space.groups}
        first = scorer.positions[:examples]
        self._reference, self._labels = reference[first], data.labels[first]

    def measure(self, probe: Probe, around: Candidate | None = None) -> Sensitivity:
        """Run the dense model, or the candidate `around`, with this one change.

        Both means are against the dense model. Raises DataError for logits that are not finite.
        """
        group = self._groups[probe.group]
        schemes = {} if around is None else schemes_of(self._space, around)
        schemes |= dict.fromkeys(group.linears, group.by_text[probe.scheme])
        logits = self._scorer.logits(schemes, len(self._labels))
        before, after = (
            _losses(self._task, each, self._labels) for each in (self._reference, logits)
        )
        changed = divergences(self._task, self._reference, logits)
        return Sensitivity(float(changed.mean()), float((after - before).mean()))


@dataclass(frozen=True)
class Sensitivities:
    """All probes of a space, and the curvature that joins them."""

    space: SearchSpace
    measured: Mapping[Probe, Sensitivity]
    curvature: Curvature = field(repr=False)

    @property
    def losses(self) -> dict[tuple[str, str], float]:
        """The divergence by linear and scheme, as `solve` takes it; that of `dense` is 0.

        The linears of a group share its divergence equally.
        """
        return {
            (linear, text): self.of(group.name, text) / len(group.linears)
            for group in self.space.groups
            for text in group.by_text
            for linear in group.linears
        }

    def of(self, group: str, text: str) -> float:
        """The divergence of one group under the scheme `text`."""
        return 0.0 if text == str(DENSE) else self.measured[Probe(group, text)].divergence

    def additive(self, candidate: Candidate) -> float:
        """The divergence of `candidate` if changes did not interact."""
        return math.fsum(self.of(*change) for change in self._changes(candidate))

    def with_interactions(self, candidate: Candidate) -> float:
        """As `additive`, plus what changes do to each other; they may cancel, to 0 at most."""
        interaction = self.curvature.interaction(self._changes(candidate))
        return max(0.0, self.additive(candidate) + interaction)

    def _changes(self, candidate: Candidate) -> tuple[tuple[str, str], ...]:
        names = (group.name for group in self.space.groups)
        return tuple(zip(names, candidate.schemes, strict=True))


def _losses(task: Task, logits: Logits, labels: LabelArray) -> NDArray[np.float64]:
    """Per example the cross-entropy in nats, or the squared error."""
    if task.is_regression:
        return np.asarray((logits[:, 0] - labels) ** 2, np.float64)
    rows = np.arange(len(labels))
    return np.asarray(-log_softmax(logits, axis=1)[rows, labels.astype(np.int64)])
