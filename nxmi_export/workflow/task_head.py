"""A runner whose logits follow the order of a task's labels, and how that order is found."""

import re
from types import TracebackType
from typing import Self

from nxmi_export.backends import Feeds, Outputs, Runner
from nxmi_export.errors import UsageError
from nxmi_export.glue import Task
from nxmi_export.glue.labels import same_label

__all__ = ["InTaskOrder", "label_order"]

_MADE_UP = re.compile(r"label_\d+", re.IGNORECASE)


def label_order(model: str, labels: tuple[str, ...], task: Task) -> tuple[int, ...]:
    """For each label of the task the model's output index.

    Names that transformers makes up (LABEL_0) say nothing, so those outputs are taken in the order
    they are in; a regression has one output and needs no name. All others must be the task's, up to
    case and "-" or " " for "_". Raises UsageError where names or number are not the task's.
    """
    if len(labels) != task.num_outputs:
        raise UsageError(
            model,
            expected=f"a head with {_counted(task.num_outputs)} for {task.name}",
            found=f"{len(labels)}",
            remedy="name the task it was trained on",
        )
    if task.is_regression or all(_MADE_UP.fullmatch(label) for label in labels):
        return tuple(range(len(labels)))
    names = [same_label(label) for label in labels]
    wanted = [same_label(label) for label in task.labels]
    if sorted(names) != sorted(wanted):
        raise UsageError(
            model,
            expected=f"the labels of {task.name}: {', '.join(task.labels)}",
            found=", ".join(labels),
            remedy="name the task it was trained on, or correct id2label in its configuration",
        )
    return tuple(names.index(label) for label in wanted)


def _counted(outputs: int) -> str:
    return "1 output" if outputs == 1 else f"{outputs} outputs"


class InTaskOrder:
    """A runner under the name of its rung, its logits in the order of the task's labels."""

    def __init__(self, runner: Runner, order: tuple[int, ...], name: str) -> None:
        self._runner = runner
        self._order = list(order)
        self.name = name

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs of the runner inside."""
        return self._runner.input_names

    def run(self, feeds: Feeds) -> Outputs:
        """The outputs of one batch, logits reordered."""
        outputs = self._runner.run(feeds)
        return {**outputs, "logits": outputs["logits"][:, self._order]}

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
