"""A file of OpenVINO's own format in, a `Runner` that executes it on the CPU out.

For files that other tools made. Nothing watches what a batch asks of their tables: OpenVINO checks
nothing, and `openvino_bounds` knows the graphs of this package alone. So only batches that fit the
model may be run here, as those of `bench` do.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nxmi_export.backends.openvino_library import core, find_openvino, finding, refusals
from nxmi_export.backends.runner import Feeds, Outputs, check_feeds
from nxmi_export.errors import ArtefactError, ShapeError

__all__ = ["OpenVinoIrRunner", "weights_of"]


class OpenVinoIrRunner:
    """Runs the graph at `path` (.xml, its .bin beside it), compiled with `properties` alone.

    Without any it is compiled as OpenVINO does by itself. Raises ArtefactError for a missing or
    damaged file, CapabilityMissing without OpenVINO.
    """

    def __init__(self, path: Path, *, properties: Mapping[str, Any]) -> None:
        openvino = find_openvino()
        self.name = f"OpenVINO, {path.name}"
        self._refusals = refusals(openvino)
        weights = weights_of(path)
        try:
            model = core().read_model(str(path), str(weights))
            compiled = core().compile_model(model, "CPU", dict(properties))
            self.input_names = tuple(each.get_any_name() for each in compiled.inputs)
            self.output_names = tuple(each.get_any_name() for each in compiled.outputs)
        except self._refusals as error:
            raise ArtefactError(
                path,
                expected="a model that OpenVINO can load, whose inputs and outputs have names",
                found=finding(error),
                remedy="write it again with openvino.save_model",
            ) from error
        self._request: Any | None = compiled.create_infer_request()

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch; raises ShapeError for a batch on which the graph fails."""
        check_feeds(self, feeds)
        if self._request is None:
            # Like a read from a closed file: the caller's mistake, not a user's.
            raise ValueError(f"{self.name}: run() after the runner was closed")
        try:
            arrays = self._request.infer(dict(feeds)).to_tuple()
        except self._refusals as error:
            shapes = ", ".join(
                f"{key} {'×'.join(map(str, each.shape))}" for key, each in feeds.items()
            )
            raise ShapeError(
                f"{self.name}: a batch of {shapes}",
                expected="a batch that every operator of the graph takes",
                found=finding(error),
                remedy="write the file again with open shapes",
            ) from error
        return dict(zip(self.output_names, arrays, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._request = None


def weights_of(path: Path) -> Path:
    """The .bin beside an .xml; raises ArtefactError where either is missing."""
    weights = path.with_suffix(".bin")
    for each, what in ((path, "a model of OpenVINO"), (weights, f"the weights of {path.name}")):
        if not each.is_file():
            raise ArtefactError(
                each,
                expected=f"{what}, which openvino.save_model writes as two files side by side",
                found="no file",
                remedy="correct the path, or write both again",
            )
    return weights
