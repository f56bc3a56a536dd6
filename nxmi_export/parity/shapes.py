"""One runner in, whether batch size and padding change what it predicts out.

A mask that leaks, or an axis that was baked in at capture, shows here and in no other comparison
of two rungs that share the fault.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nxmi_export.backends import Runner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UsageError
from nxmi_export.glue import predict
from nxmi_export.parity.explanation import Explanation
from nxmi_export.parity.logits import (
    Float32Array,
    changed,
    largest_gap,
    logits_of,
    median_gap,
    non_finite_rows,
)

__all__ = ["ShapeParity", "ShapeSetting", "shape_parity"]


@dataclass(frozen=True)
class ShapeSetting:
    """One way to cut and pad the examples, compared with the first; indices are into them."""

    batch_size: int
    pad_to: int | None  # tokens; None: to the longest example of each batch
    changed: int  # predictions; all of them where logits are not finite
    largest_logit_gap: float  # not finite where logits are not
    changed_examples: tuple[int, ...] = ()
    furthest: int | None = None  # the example whose logits moved most
    left: bool = False  # padded before the tokens, and compared with PyTorch over the same feeds
    median_logit_gap: float | None = None  # of the examples; None: not measured
    replays: tuple[Explanation, ...] = ()  # of changed examples and others (`replay_shapes`)
    # (examples, outputs), which a replay must repeat; None: nothing is to be replayed
    logits: Float32Array | None = field(default=None, repr=False, compare=False)

    @property
    def unexplained(self) -> int:
        """How many changed predictions no replay explains."""
        explained = {each.index for each in self.replays if each.explained}
        return self.changed - len(explained & set(self.changed_examples))

    @property
    def finite(self) -> bool:
        """Whether every logit was a finite number."""
        return math.isfinite(self.largest_logit_gap)


@dataclass(frozen=True)
class ShapeParity:
    """One rung over the same examples in several shapes."""

    name: str  # of the runner
    examples: int
    settings: tuple[ShapeSetting, ...]  # without the first, which the others are compared with
    observable: bool = True  # False: it shows no codes, and nothing is replayed


def shape_parity(
    runner: Runner,
    data: EncodedDataset,
    *,
    batch_sizes: Sequence[int],
    pad_to: Sequence[int],
    on_setting: Callable[[int, int], None] = lambda done, total: None,
) -> ShapeParity:
    """Compare every other batch size, and every padded length, with `batch_sizes[0]` unpadded.

    Padded runs use `batch_sizes[0]`, so that only the padding differs. `on_setting` gets the
    settings done and their total. Raises UsageError without a batch size, ShapeError for a length
    below the longest example.
    """
    if not batch_sizes:
        raise UsageError(
            "shape parity", expected="a batch size", found="none", remedy="give at least one"
        )
    settings: list[tuple[int, int | None]] = [(size, None) for size in batch_sizes[1:]]
    settings += [(batch_sizes[0], length) for length in pad_to]
    reference = logits_of(runner, data, data.cut(batch_sizes[0]))
    compared = []
    for done, (size, length) in enumerate(settings, start=1):
        logits = logits_of(runner, data, data.cut(size), pad_to=length)
        moved = _changed(data, reference, logits)
        gap = largest_gap(reference, logits)
        compared.append(
            ShapeSetting(
                size,
                length,
                len(moved),
                gap,
                moved,
                _furthest(reference, logits),
                median_logit_gap=median_gap(reference, logits),
                logits=logits,
            )
        )
        on_setting(done, len(settings))
    return ShapeParity(runner.name, len(data), tuple(compared))


def _changed(
    data: EncodedDataset, reference: Float32Array, logits: Float32Array
) -> tuple[int, ...]:
    if len(non_finite_rows(reference)) or len(non_finite_rows(logits)):
        return tuple(range(len(data)))
    task = data.dataset.task
    moved = changed(task, predict(task, reference), predict(task, logits))
    return tuple(np.flatnonzero(moved).tolist())


def _furthest(reference: Float32Array, logits: Float32Array) -> int | None:
    with np.errstate(invalid="ignore"):
        gaps = np.abs(logits.astype(np.float64) - reference).max(axis=1)
    return int(np.nan_to_num(gaps, nan=np.inf).argmax()) if len(gaps) else None
