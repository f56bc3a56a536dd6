"""An ONNX file through TensorRT's own parser: a strongly typed network, or the parser's reasons."""

from pathlib import Path
from typing import TYPE_CHECKING

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.errors import ArtefactError, EngineBuildFailed

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["parse_onnx"]


def parse_onnx(
    library: Library, builder: "trt.Builder", logger: "trt.ILogger", path: Path
) -> "trt.INetworkDefinition":
    """The network of the graph at `path`; external weights are found beside the file."""
    if not path.is_file():
        raise ArtefactError(
            path,
            expected="an ONNX model",
            found="no file",
            remedy="export the model first or correct the path",
        )
    network = builder.create_network(_creation_flags(library))
    parser = library.module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise _refusal(
            library, path, [parser.get_error(index) for index in range(parser.num_errors)]
        )
    return network


def _creation_flags(library: Library) -> int:
    """Strong typing must be asked for in TensorRT 10; explicit batch is gone in 11 and RTX."""
    known = library.module.NetworkDefinitionCreationFlag.__members__
    wanted = ("STRONGLY_TYPED", "EXPLICIT_BATCH")
    return sum(1 << int(known[name]) for name in wanted if name in known)


def _refusal(
    library: Library, path: Path, errors: list["trt.ParserError"]
) -> ArtefactError | EngineBuildFailed:
    if any(error.code() == library.module.ErrorCode.MODEL_DESERIALIZE_FAILED for error in errors):
        return ArtefactError(
            path,
            expected="an ONNX model",
            found="a file that cannot be decoded",
            remedy="export it again",
        )
    # Not `code.name`: the stubs of 10.13 have a function in the place of that text.
    names = {int(code): name for name, code in library.module.ErrorCode.__members__.items()}
    said = [_sentence(error, names[int(error.code())]) for error in errors]
    return EngineBuildFailed(
        path,
        expected="a graph that TensorRT's parser accepts",
        found="; ".join(said) or "a refusal without a reason",
        remedy="please report this with the ONNX file",
    )


def _sentence(error: "trt.ParserError", code: str) -> str:
    where = f"{error.node_operator()} node {error.node_name()!r}" if error.node() >= 0 else "file"
    return f"{where}: {code} ({' '.join(error.desc().split())})"
