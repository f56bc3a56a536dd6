"""The numbers of every step in, an error out where they end, with the place where they did."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nxmi_export.errors import TrainingDiverged

__all__ = ["SKIPPED_AT_MOST", "Watch", "first_not_finite"]

# Halved as often, a loss scale of 2^16 is 1/16: nothing that float16 could hold overflows under it.
SKIPPED_AT_MOST = 20


@dataclass
class Watch:
    """Ends a run whose losses or gradients are no numbers any more.

    With `skips`, for the loss scaler of fp16, a step of infinite gradients is skipped and counted
    in `skipped`, and ends the run only as the last of 20 in a row: the scaler would go on to the
    end of the run without a step. `saved_step` is that of the last snapshot, `doubtful` whether no
    step from its weights was seen yet.
    """

    skips: bool
    skipped: int = 0
    saved_step: int | None = None
    doubtful: bool = False

    def saved(self, step: int) -> None:
        """There is a snapshot of the weights after `step`."""
        self.saved_step, self.doubtful = step, True

    def check(
        self,
        values: Mapping[str, float],
        place: Callable[[], str | None],
        subject: str,
        drop: Callable[[], int | None],
    ) -> None:
        """Raise TrainingDiverged about `subject` where one of `values` is not finite.

        They are the losses of a step and its "gradient norm"; `place` looks for where it began.
        Where the snapshot is of the weights that this step began with, no rate helps from there:
        `drop` puts the one before in its place and says of which step it is.
        """
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        self.skipped = self.skipped + 1 if self.skips and "gradient norm" in bad else 0
        if not bad or (bad == ["gradient norm"] and 0 < self.skipped < SKIPPED_AT_MOST):
            return
        found = f"a {bad[0]} of {values[bad[0]]}"
        if bad[0] == "gradient norm" and self.skips:
            found += f", for which the last {self.skipped} steps were skipped"
        where = place()
        if self.doubtful:
            self.saved_step, self.doubtful = drop(), False
        raise TrainingDiverged(
            subject,
            expected="finite losses and gradients",
            found=f"{found}, which begins in {where}" if where else found,
            remedy=self._remedy(),
        )

    def check_weights(self, place: str | None, subject: str) -> None:
        """Raise TrainingDiverged about `subject` where its weights give no finite numbers.

        `place` is where that begins; None: nowhere. No step need follow whose losses would tell.
        """
        if place is not None:
            raise TrainingDiverged(
                subject,
                expected="weights that give finite numbers",
                found=f"NaN or infinite ones, which begin in {place}",
                remedy=self._remedy(),
            )

    def _remedy(self) -> str:
        """What works: the same settings would come to the same loss again."""
        if self.saved_step is None:
            return (
                "lower the learning rate: --overwrite --learning-rate RATE begins anew, "
                "as there is no good snapshot"
            )
        return (
            "lower the learning rate: --resume --learning-rate RATE continues from the snapshot "
            f"after step {self.saved_step}, --overwrite --learning-rate RATE begins anew"
        )


def first_not_finite(model: nn.Module, forward: Callable[[], object]) -> str | None:
    """Where, in order of execution, `forward` first gives a value that is NaN or infinite.

    "the output of bert.pooler", for instance; of nested modules the innermost. Where every output
    is finite, the first parameter that is not, or else the first gradient; None where none is.
    """
    with _watched(model) as bad, torch.no_grad():
        forward()
    if bad:
        return f"the output of {bad[0]}"
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():  # which a quantizer hides: it clamps
            return f"the parameter {name}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return None


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    bad: list[str] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(tensor.isfinite().all() for tensor in _tensors(output)):
                bad.append(name)

        return hook

    handles = [
        module.register_forward_hook(look(name or "the model"))
        for name, module in model.named_modules()
    ]
    try:
        yield bad
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):  # transformers' outputs are ordered dictionaries
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
