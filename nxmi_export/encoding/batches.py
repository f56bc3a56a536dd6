"""Rows of tokens in, the batches they run in out: which rows go together, and their padding."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nxmi_export.encoding.rows import TokenRows
from nxmi_export.errors import ShapeError

__all__ = ["Feeds", "Indices", "bucketed", "padded"]

Feeds = dict[str, NDArray[np.int64]]
Indices = NDArray[np.int64]


def bucketed(lengths: NDArray[np.int64], tokens: int, rows: int | None = None) -> list[Indices]:
    """The rows by length, in batches of at most `tokens` tokens, padding included.

    Long rows come in small batches and short ones in large, so that a batch takes about the same
    time and memory whatever its length; `rows` bounds how many one has. The longest come first:
    what memory a run needs shows at once. A row of more than `tokens` tokens has its own batch.
    """
    order = np.argsort(lengths, kind="stable")[::-1]
    batches, start = [], 0
    while start < len(order):
        count = max(1, tokens // max(1, int(lengths[order[start]])))
        count = count if rows is None else min(count, rows)
        batches.append(order[start : start + count])
        start += count
    return batches


def padded(
    rows: TokenRows,
    indices: Sequence[int] | Indices,
    fill: Mapping[str, int],
    pad_to: int | None = None,
) -> Feeds:
    """The inputs of these rows, padded on the right to the longest of them, or to `pad_to` tokens.

    `fill` holds the padding of each input. Raises ShapeError for a `pad_to` that is too short.
    """
    places = np.asarray(indices, np.int64)
    starts, ends = rows.starts[places], rows.starts[places + 1]
    longest = int((ends - starts).max())
    if pad_to is not None and pad_to < longest:
        raise ShapeError(
            "padding",
            expected=f"at least the {longest} tokens of the longest example",
            found=f"{pad_to}",
            remedy="pad to a larger length",
        )
    shape = (len(indices), pad_to or longest)
    feeds = {name: np.full(shape, value, np.int64) for name, value in fill.items()}
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        for name, array in feeds.items():
            array[row, : end - start] = rows.ids[name][start:end]
    return feeds
