"""A path in, the ONNX graph behind it out; or the reason why it is none."""

from pathlib import Path

import onnx_ir as ir

from nxmi_export.backends.tensorrt_engine import FixedSides
from nxmi_export.errors import ArtefactError
from nxmi_export.unreadable_graph import UNREADABLE_GRAPH
from passes.lint.reading import Reading
from passes.lint.unfold import unfold

__all__ = ["fixed_sides", "input_names", "position_limit", "read_graph"]


def read_graph(path: Path) -> ir.Model:
    """Read a graph whose tensors are all there; raises ArtefactError for what is none."""
    if not path.is_file():
        raise _no_graph(path, "no file")
    try:
        model = ir.load(path, format="protobuf")  # whatever its name ends in
    except UNREADABLE_GRAPH as error:
        raise _no_graph(path, "a file that cannot be decoded") from error
    if not len(model.graph):
        raise _no_graph(path, "a graph without nodes")
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and not Path(tensor.path).is_file():
            raise _no_graph(path, f"tensors in {tensor.location}, which is not beside it")
    return model


def input_names(model: ir.Model) -> tuple[str, ...]:
    """What a caller has to feed; older files list their initializers among the inputs."""
    stored = model.graph.initializers
    return tuple(str(each.name) for each in model.graph.inputs if each.name not in stored)


def position_limit(model: ir.Model) -> int | None:
    """The tokens that the graph's tables of positions allow; None where it shows no table."""
    return min((positions for _, positions in Reading(unfold(model)).positions()), default=None)


def fixed_sides(model: ir.Model) -> FixedSides:
    """Batch and sequence of the inputs, as far as the graph fixes them."""
    inputs = (each for each in model.graph.inputs if each.name not in model.graph.initializers)
    shapes = [each.shape for each in inputs if each.shape is not None and len(each.shape) == 2]
    batch, sequence = (
        next((each for shape in shapes if isinstance(each := shape[side], int)), None)
        for side in (0, 1)
    )
    return FixedSides(batch, sequence)


def _no_graph(path: Path, found: str) -> ArtefactError:
    return ArtefactError(
        path, expected="an ONNX model", found=found, remedy="export it again or correct the path"
    )
