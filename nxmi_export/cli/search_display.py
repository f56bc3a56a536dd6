"""The reports of a search in, a live screen or a few lines on standard error out."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, assert_never

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nxmi_export.cli.screen import ABSENT, Screen, live_screen

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    # Its package loads torch, and --help should not.
    from nxmi_export.search import progress as reports

__all__ = ["QUIET", "SearchDisplay", "live_display"]

QUIET = 60.0  # seconds without a word of how far it is, where no bar is seen
_MINUTES = 90.0  # seconds that are told as minutes
_SOLVER = {"proposals": "solving for candidates", "frontier": "solving for the frontier"}


def live_display(*, shown: bool, metric: str) -> AbstractContextManager["SearchDisplay"]:
    """A display that `hear`s a search; where standard error is no terminal, it says a few lines.

    `metric` names in words what candidates are scored by. Without `shown` it is silent.
    """
    return live_screen(SearchDisplay, shown=shown, metric=metric)


class SearchDisplay(Screen):
    """What the screen shows: the stage, a bar of each kind of work, the best so far.

    `say` gets a line whenever another configuration becomes the best, at the end of a search, and
    once in `QUIET` how far the present work is.
    """

    def __init__(self, metric: str, say: Callable[[str], None] | None = None) -> None:
        super().__init__(metric, say)
        self._works: dict[str, TaskID] = {}
        self._scored: reports.CandidateScored | None = None
        self._best: str | None = None
        self._remarks: list[str] = []
        self._counted = 0.0  # when how far it is was said last

    def hear(self, report: "reports.Progress") -> None:
        """Take in one report."""
        from nxmi_export.search import progress as reports

        match report:
            case reports.StageBegun():
                self.begin(report.stage)
            case reports.Remark():
                self._remarks.append(report.text)
                self._say(f"note: {report.text}")
            case reports.LinearPrepared():
                self._move("rounding and pruning", report.number, report.total)
            case reports.SensitivityDone():
                where = ", around uniform ones" if report.uniform else _round(report.refinement)
                what = f"one at a time, per {report.origin}{where}"
                self._move(what, report.number, report.total, report.reused)
            case reports.SolutionFound():
                self._move(_SOLVER[report.purpose], report.number, report.total)
            case reports.PointScored():
                self._move("scoring, for the picture", report.number, report.total)
            case reports.CandidateScored():
                what = f"scoring, per {report.origin}{_round(report.refinement)}"
                self._move(what, report.number, report.total, report.reused)
                self._hear_score(report)
            case _:
                assert_never(report)

    def render(self) -> Group:
        """The screen as it is now."""
        notes = [Text(f"note: {each}") for each in self._remarks]
        parts: list[Progress | Table | Text] = [*notes, self._stages, self._bars]
        if self._scored is not None:
            parts.append(Text(_effort(self._scored), no_wrap=True, overflow="ellipsis"))
            if self._scored.leaders:
                parts.append(self._leaders(self._scored.leaders))
        return Group(*parts)

    def _move(self, what: str, number: int, total: int, reused: int = 0) -> None:
        """Move a bar; what an interrupted run had done would make the estimate wildly fast."""
        self.end()
        if what in self._works and reused < number:
            self._bars.update(self._works[what], completed=number, total=total)
            if time.monotonic() - self._counted >= QUIET and number < total:
                self._counted = time.monotonic()
                left = self._bars.tasks[self._bars.task_ids.index(self._works[what])].time_remaining
                told = "" if left is None else f", about {_duration(left)} left"
                self._say(f"{what}: {number} of {total}{told}")
            return
        if what in self._works:
            self._bars.remove_task(self._works[what])
        begun = reused if reused == number else number - 1
        self._works[what] = self._bars.add_task(what, total=total, completed=begun)
        self._bars.update(self._works[what], completed=number)
        self._counted = time.monotonic()

    def _hear_score(self, scored: "reports.CandidateScored") -> None:
        self._scored = scored
        best = scored.leaders[0] if scored.leaders else None
        if best is not None and best.name != self._best:
            self._best = best.name
            self._say(f"best so far, per {scored.origin}: {_in_words(best)}")
        if scored.number == scored.total:
            self._say(f"per {scored.origin}{_round(scored.refinement)}: {_effort(scored)}")
            self._best = None  # the next search has leaders of its own

    def _leaders(self, leaders: "Sequence[reports.Leader]") -> Table:
        from nxmi_export.report.schemes_in_words import schemes_in_words

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("best so far", overflow="fold")
        headings = ["size", "divergence", self._metric]
        source = leaders[0].source
        timed = source is not None
        for heading in [*headings, *([f"latency, {source}"] if timed else [])]:
            table.add_column(Text(heading), justify="right")
        for each in leaders:
            row = [
                schemes_in_words(each.schemes),
                f"{each.size:.2%}",
                f"{each.divergence:.5f}",
                _number(each.metric),
            ]
            table.add_row(*map(Text, [*row, *([_latency(each.seconds)] if timed else [])]))
        return table


def _effort(scored: "reports.CandidateScored") -> str:
    """How much of the work that scoring could be has been done."""
    possible = scored.number * scored.slice
    return (
        f"{scored.number} of {scored.total} scored, {scored.stopped} given up early, "
        f"{scored.examples / possible:.1%} of their examples needed"
    )


def _in_words(leader: "reports.Leader") -> str:
    from nxmi_export.report.schemes_in_words import schemes_in_words

    told = [f"size {leader.size:.2%}", f"divergence {leader.divergence:.5f}"]
    told += [] if leader.metric is None else [f"metric {leader.metric:.4f}"]
    if leader.seconds is not None:
        told.append(f"latency {_latency(leader.seconds)}, {leader.source}")
    return f"{schemes_in_words(leader.schemes)} ({', '.join(told)})"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _MINUTES else f"{seconds / 60:.0f} min"


def _round(refinement: int) -> str:
    return f", round {refinement}" if refinement else ""


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4f}"


def _latency(seconds: float | None) -> str:
    return ABSENT if seconds is None else f"{1000 * seconds:.3g} ms"
