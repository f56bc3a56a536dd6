"""Scores in, which candidates are the best so far out, and what another has to reach to join them.

Why few errors are spent on giving up early: a candidate is given up when it is shown, at an error
probability δ that holds at all times at once, to be worse than the `keep`-th best complete score.
That score is never better than the one of the true `keep`-th best, so only the `keep` true members
can be lost by mistake, each with a probability of at most δ, whatever the number of candidates. The
wealth of `early_stopping.MeanStop` falls as its threshold rises, so this holds for thresholds that
were themselves found on the same examples.

That needs members that do not depend on these examples. Where later candidates lie around the best
complete score so far, they do depend, by whether that best was lost. As long as no such centre was,
every centre is the true best of the candidates before it, which no bar excludes either, and all
candidates are those that scoring everything would have led to. So by the union bound it is enough
that none of `keep` members and as many centres as there are is lost: δ = error / (keep + centres).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nxmi_export.glue import Task
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.search.early_stopping import MeanStop, MetricStop, Stop
from nxmi_export.search.score import Score
from nxmi_export.search.space import Candidate

__all__ = ["Objective", "Selection"]

Objective = Literal["divergence", "metric"]


@dataclass(frozen=True)
class Selection:
    """How candidates are compared, how many are kept, and how sure one must be to drop another.

    "divergence" prefers the least; "metric" the highest, and among equals the least divergence.
    `error` bounds the probability that any of the `keep` best is dropped, of all candidates that
    there are when nothing is. `centres` says how often the best so far decides which those are.
    """

    objective: Objective
    keep: int
    error: float
    centres: int = 0

    def best(self, scores: Mapping[Candidate, Score]) -> tuple[Candidate, ...]:
        """The `keep` best of the complete scores, best first; equals by their schemes."""
        return self.ordered(scores)[: self.keep]

    def ordered(self, scores: Mapping[Candidate, Score]) -> tuple[Candidate, ...]:
        """All with a complete score, best first."""
        complete = (each for each, score in scores.items() if not score.stopped)
        return tuple(sorted(complete, key=lambda each: (self.cost(scores[each]), each)))

    def cost(self, score: Score) -> tuple[float, float]:
        """What sorts complete scores, best first; a metric that is no number comes last."""
        if self.objective == "divergence":
            return score.divergence, 0.0
        metric = score.metric
        assert metric is not None
        return (math.inf if math.isnan(metric) else -metric), score.divergence

    def bar(self, scores: Mapping[Candidate, Score]) -> Score | None:
        """The score to beat, that of the `keep`-th best; None while there are fewer."""
        best = self.best(scores)
        return scores[best[-1]] if len(best) == self.keep else None

    def stop(self, bar: Score | None, task: Task, labels: LabelArray) -> Stop | None:
        """What gives up a candidate that cannot get past `bar`; None where nothing could.

        `labels` are those of the whole slice. Raises nothing: no bar, no stop.
        """
        if bar is None:
            return None
        error = self.error / (self.keep + self.centres)
        if self.objective == "divergence":
            return MeanStop(len(labels), bar.divergence, error)
        if bar.metric is None or math.isnan(bar.metric):
            return None
        return MetricStop(labels, task, bar.metric, error)
