"""A runner whose logits follow the order of a task's labels, and how that order is found."""

from types import TracebackType
from typing import Self

from nxmi_export.backends import Feeds, Outputs, Runner
from nxmi_export.errors import UsageError
from nxmi_export.glue import Task

__all__ = ["InTaskOrder", "label_order"]


def label_order(model: str, labels: tuple[str, ...], task: Task) -> tuple[int, ...]:
    """For each label of the task the model's output index.

    Names that are all the task's are matched by name; generic ones (LABEL_0) by position. Raises
    UsageError where the number of outputs is not the task's.
    """
    if len(labels) != task.num_outputs:
        raise UsageError(
            model,
            expected=f"a head with {task.num_outputs} outputs for {task.name}",
            found=f"{len(labels)}",
            remedy="name the task it was trained on",
        )
    names = [label.lower() for label in labels]
    if task.labels and sorted(names) == sorted(task.labels):
        return tuple(names.index(label) for label in task.labels)
    return tuple(range(len(labels)))


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
