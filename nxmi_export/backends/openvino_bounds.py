"""A graph as OpenVINO read it in, what a batch may hold out; OpenVINO itself checks nothing of it.

Its CPU kernels look up rows that a table does not have, and add sequences of unequal length, and
give logits: nothing fails. So rows and lengths are compared here, before and after a run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.runner import Feeds
from nxmi_export.errors import ShapeError

__all__ = ["Bounds", "unfit"]

_SLICES = frozenset({"Slice", "StridedSlice"})


@dataclass(frozen=True)
class Bounds:
    """What the tables of a graph can be asked for."""

    length: int | None  # tokens, where the graph takes as many rows of a table; None: any number
    rows: Mapping[str, int]  # of the smallest table that an input looks up in
    computed: tuple[int, ...]  # of the smallest table that each index of the graph's looks up in

    @classmethod
    def of(cls, model: Any) -> "Bounds":
        """Read `model` (`openvino.Model`); each computed index becomes one more output of it."""
        lengths, rows, computed = list[int](), dict[str, int](), dict[tuple[str, int], int]()
        for node in list(model.get_ordered_ops()):
            kind = node.get_type_name()
            if kind in _SLICES:
                lengths += _bounded(node)
            elif kind == "Gather" and (count := _table_rows(node)) is not None:
                index = node.input_value(1)
                if index.get_node().get_type_name() == "Parameter":
                    name = index.get_any_name()
                    rows[name] = min(count, rows.get(name, count))
                elif index.get_partial_shape().is_dynamic:
                    key = (index.get_node().get_friendly_name(), index.get_index())
                    if key not in computed:
                        model.add_outputs([index])
                    computed[key] = min(count, computed.get(key, count))
        return cls(min(lengths, default=None), rows, tuple(computed.values()))

    def check(self, name: str, feeds: Feeds) -> None:
        """Raises ShapeError for a batch of unequal shapes, too long, or with an id beyond a table.

        `name` is the runner's.
        """
        shapes = {each.shape for each in feeds.values()}
        shape = next(iter(shapes))
        if len(shapes) > 1 or len(shape) != 2 or 0 in shape:
            raise unfit(
                name,
                feeds,
                expected="one shape (batch, sequence) of all inputs, neither of them 0",
                found=", ".join("×".join(map(str, each)) or "a scalar" for each in sorted(shapes)),
            )
        if self.length is not None and shape[1] > self.length:
            raise unfit(name, feeds, expected=f"at most {self.length} tokens", found=f"{shape[1]}")
        for key, count in self.rows.items():
            _check_rows(name, feeds, f" of {key}", feeds[key], count)

    def check_computed(self, name: str, feeds: Feeds, indices: list[NDArray[Any]]) -> None:
        """Raises ShapeError where the graph computed a row beyond a table; one array for each."""
        for index, count in zip(indices, self.computed, strict=True):
            _check_rows(name, feeds, ", as positions are counted,", index, count)


def unfit(name: str, feeds: Feeds, *, expected: str, found: str) -> ShapeError:
    """What to say of a batch that the graph cannot run; `name` is the runner's."""
    shapes = ", ".join(f"{key} {'×'.join(map(str, each.shape))}" for key, each in feeds.items())
    return ShapeError(
        f"{name}: a batch of {shapes}",
        expected=expected,
        found=found,
        remedy="shorten the batch to position_limit in manifest.json, or encode it again",
    )


def _bounded(slice_: Any) -> Iterator[int]:
    """How long the part of a table can be that is as long as the sequence."""
    if slice_.input_value(0).get_partial_shape().is_static:
        for dimension in slice_.output(0).get_partial_shape():
            if dimension.is_dynamic and dimension.get_max_length() > 0:
                yield dimension.get_max_length()


def _table_rows(gather: Any) -> int | None:
    """None where the rows are as many as the batch or the sequence has."""
    axis = gather.input_value(2).get_node().get_data().item()
    dimension = gather.input_value(0).get_partial_shape()[axis]
    return dimension.get_length() if dimension.is_static else None


def _check_rows(name: str, feeds: Feeds, what: str, index: NDArray[Any], count: int) -> None:
    # ONNX Gather: a negative index counts from the end.
    beyond = (index >= count) | (index < -count)
    if np.any(beyond):
        raise unfit(
            name,
            feeds,
            expected=f"rows{what} below the {count} of the table",
            found=f"{index[beyond].flat[0]}",
        )
