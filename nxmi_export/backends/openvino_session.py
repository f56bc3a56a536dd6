"""An ONNX file in, a `Runner` that executes it with OpenVINO on the CPU out."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nxmi_export.backends.openvino_bounds import Bounds, unfit
from nxmi_export.backends.openvino_library import (
    Products,
    core,
    find_openvino,
    finding,
    products,
    properties_of,
    refusals,
)
from nxmi_export.backends.openvino_requests import Requests
from nxmi_export.backends.runner import Feeds, Outputs, check_feeds
from nxmi_export.errors import ArtefactError

__all__ = ["OpenVinoRunner"]


class OpenVinoRunner:
    """Runs the graph at `path`, with every fusion of OpenVINO.

    `threads` bounds the threads of one call, None leaves the choice to OpenVINO; `calls` is how
    many run at the same time, each on threads of its own, where there are processors for them. No
    float is rounded that the graph does not round, and integer sums are exact: `products` says
    whether this processor adds codes, or the floats that they mean.

    Raises ArtefactError for a missing or damaged file, CapabilityMissing without OpenVINO.
    """

    def __init__(self, path: Path, *, threads: int | None = None, calls: int = 1) -> None:
        openvino = find_openvino()
        if not path.is_file():
            raise ArtefactError(
                path,
                expected="an ONNX model",
                found="no file",
                remedy="export the model first or correct the path",
            )
        self.name = "OpenVINO"
        self._refusals = refusals(openvino)
        self.products: Products = products()
        try:
            # Not `read_model`, which offers the file to the readers of other formats as well.
            reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            model = reader.convert(reader.load(str(path)))
            shapes = {each.get_any_name(): each.get_partial_shape() for each in model.outputs}
            bounds = Bounds.of(model)
            properties = properties_of(self.products, threads, calls)
            compiled = core().compile_model(model, "CPU", properties)
            requests = Requests(compiled, calls)
        except self._refusals as error:
            raise ArtefactError(
                path,
                expected="a model that OpenVINO can load",
                found=finding(error),
                remedy="export it again, or update OpenVINO where it names an unknown operator",
            ) from error
        self._bounds = bounds
        self._compiled: Any | None = compiled
        self._requests: Requests | None = requests
        self.input_names = tuple(each.get_any_name() for each in compiled.inputs)
        self.output_shapes: dict[str, Any] = shapes  # `openvino.PartialShape` by name

    @property
    def compiled(self) -> Any:
        """The `openvino.CompiledModel`, whose kernels are chosen in the first run."""
        return self._compiled

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch.

        Raises ShapeError for a batch on which the graph fails, or that looks up beyond its tables.
        """
        check_feeds(self, feeds)
        requests = self._requests  # kept, so that a call that has begun outlives the end
        if requests is None:
            # Like a read from a closed file: the caller's mistake, not a user's.
            raise ValueError(f"{self.name}: run() after the runner was closed")
        self._bounds.check(self.name, feeds)
        with requests.borrowed() as request:
            try:
                arrays = list(request.infer(dict(feeds)).to_tuple())
            except self._refusals as error:
                raise unfit(
                    self.name,
                    feeds,
                    expected="a batch that every operator of the graph takes",
                    found=finding(error),
                ) from error
        count = len(self.output_shapes)
        self._bounds.check_computed(self.name, feeds, arrays[count:])
        rows = len(next(iter(feeds.values())))
        if any(len(each) != rows for each in arrays[:count]):
            raise unfit(
                self.name,
                feeds,
                expected=f"{rows} rows of each output",
                found=", ".join("×".join(map(str, each.shape)) for each in arrays[:count]),
            )
        return dict(zip(self.output_shapes, arrays[:count], strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._compiled = self._requests = None
