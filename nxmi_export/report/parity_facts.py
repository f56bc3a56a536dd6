"""The JSON of a parity run in, what a reader asks of it out: a step, a check, a name."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nxmi_export.parity import Stage
from nxmi_export.report.markup import Html, element

__all__ = [
    "FAILS",
    "HOLDS",
    "NOT_CLAIMED",
    "OPEN",
    "Facts",
    "Mark",
    "check_mark",
    "holds",
    "split_name",
    "statistics_of",
    "step_of",
]

Facts = Mapping[str, Any]


class Mark(NamedTuple):
    """A colour's class, and the sign that says the same without colour."""

    style: str
    sign: str

    def __call__(self, word: str) -> Html:
        """The word after the sign; a screen reader hears the word alone."""
        return element(
            "span", element("span", f"{self.sign} ", aria_hidden="true"), word, class_=self.style
        )


HOLDS, FAILS, OPEN = Mark("holds", "✓"), Mark("fails", "✗"), Mark("open", "?")
NOT_CLAIMED = Mark("quiet", "–")


def holds(ok: bool) -> Mark:
    """The mark of a yes or a no."""
    return HOLDS if ok else FAILS


def check_mark(split: Facts, name: str) -> Mark | None:
    """What the gate says of the check `name`; None where it was not looked at."""
    found = next((each for each in split["checks"] if each["name"] == name), None)
    return None if found is None else holds(found["ok"])


def split_name(split: Facts) -> str:
    """The name under which the family has this split: "mnli validation_matched"."""
    dataset = split["dataset"]
    return f"{dataset['task']} {dataset['split']}" if dataset else "nothing"


def step_of(split: Facts, reference: Stage, candidate: Stage) -> Facts | None:
    """The comparison of two rungs, if there was one."""
    steps: Sequence[Facts] = split["steps"]
    wanted = (reference.value, candidate.value)
    return next((each for each in steps if (each["reference"], each["candidate"]) == wanted), None)


def statistics_of(split: Facts, reference: Stage, candidate: Stage) -> Facts | None:
    """What the scores of two rungs prove; None where they were not or could not be compared."""
    step = step_of(split, reference, candidate)
    found: Facts | None = step["statistics"] if step else None
    return found if found and found["compared"] else None
