"""A graph that was checked in, a session of OpenVINO that threads share out."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.encoding.batches import Feeds
from nxmi_export.processor import this_processor
from nxmi_export.runtime.session import OUTPUT, check_interface

__all__ = ["OpenVinoSession"]


class OpenVinoSession:
    """Runs the graph at `path` with the runner that parity measures.

    As many calls run at a time as there are processors for, with `threads` each; one with None.
    Raises ArtefactError for a graph that OpenVINO does not open, or whose inputs and number of
    outputs are others, CapabilityMissing without OpenVINO.
    """

    def __init__(
        self, path: Path, *, input_names: tuple[str, ...], outputs: int, threads: int | None
    ) -> None:
        self._runner = OpenVinoRunner(path, threads=threads, calls=_calls(threads))
        widths = {
            name: each[-1].get_length() if each[-1].is_static else None
            for name, each in self._runner.output_shapes.items()
        }
        check_interface(path, (input_names, self._runner.input_names), (outputs, widths))

    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Float32 (batch, labels); ShapeError for a batch on which the graph fails."""
        return np.asarray(self._runner.run(feeds)[OUTPUT], np.float32)


def _calls(threads: int | None) -> int:
    return 1 if threads is None else max(1, this_processor().cores // threads)
