"""A graph that was checked in, an onnxruntime session that threads share out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.onnxruntime_library import (
    find_onnxruntime,
    open_session,
    refusals,
    unfit_batch,
    unloadable,
)
from nxmi_export.backends.onnxruntime_options import session_options
from nxmi_export.encoding.batches import Feeds
from nxmi_export.errors import ArtefactError

__all__ = ["OUTPUT", "Session", "check_interface"]

OUTPUT = "logits"


class Session:
    """Runs the graph `content`, read from `path`, with every fusion allowed.

    `entries` are session configuration entries. Raises ArtefactError for a graph that onnxruntime
    does not open, or whose inputs and number of outputs are others, CapabilityMissing without
    onnxruntime.
    """

    def __init__(
        self,
        path: Path,
        content: bytes,
        *,
        input_names: tuple[str, ...],
        outputs: int,
        threads: int | None,
        entries: Mapping[str, str],
    ) -> None:
        ort = find_onnxruntime()
        self._name = str(path)
        self._refusals = refusals(ort)
        options = session_options(ort, path.parent, optimize=True, threads=threads, entries=entries)
        # Else a plan of its memory is kept for every shape of batch that ever came.
        options.enable_mem_pattern = False
        try:
            self._session: Any = open_session(ort, content, options)
        except self._refusals as error:
            raise unloadable(path, error) from error
        widths = {each.name: each.shape[-1] for each in self._session.get_outputs()}
        found = tuple(each.name for each in self._session.get_inputs())
        check_interface(path, (input_names, found), (outputs, widths))

    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Float32 (batch, labels); ShapeError for a batch on which the graph fails."""
        try:
            (logits,) = self._session.run([OUTPUT], feeds)
        except self._refusals as error:
            raise unfit_batch(self._name, feeds, error) from error
        return np.asarray(logits, np.float32)


def check_interface(
    path: Path,
    inputs: tuple[Iterable[str], Iterable[str]],
    outputs: tuple[int, Mapping[str, int | str | None]],
) -> None:
    """Refuse a graph of other inputs or another number of logits, each as wanted and as found.

    Raises ArtefactError.
    """
    (names, found), (labels, widths) = inputs, outputs
    if set(found) != set(names):
        raise _other_interface(path, f"the inputs {', '.join(names)}", ", ".join(found))
    if OUTPUT not in widths:
        raise _other_interface(path, f"an output {OUTPUT}", ", ".join(widths))
    if widths[OUTPUT] != labels:
        expected = f"{labels} {OUTPUT}, one for each label"
        raise _other_interface(path, expected, f"{widths[OUTPUT]}")


def _other_interface(path: Path, expected: str, found: str) -> ArtefactError:
    return ArtefactError(
        path, expected=f"a graph with {expected}", found=found, remedy="export the model again"
    )
