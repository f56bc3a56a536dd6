"""A batch that onnxruntime failed on in, the ShapeError that says what of it does not fit out."""

import re
from pathlib import Path

import onnx_ir as ir

from nxmi_export.backends import onnxruntime_library
from nxmi_export.backends.runner import Feeds
from nxmi_export.errors import ShapeError
from nxmi_export.unreadable_graph import UNREADABLE_GRAPH
from passes.provenance import describe

__all__ = ["unfit_batch"]

# Of a Gather: which node, the index, and the last row of what it looks up in.
_BEYOND = re.compile(
    r"Name:'(?P<node>[^']+)'.*idx=(?P<index>-?\d+) must be within .*\[-?\d+,(?P<last>\d+)\]"
)
_AGAIN = "export the model again"


def unfit_batch(path: Path, name: str, feeds: Feeds, error: Exception) -> ShapeError:
    """Why the graph at `path`, run under `name`, fails on `feeds`.

    A look-up beyond a table is told by module and row. Where it reads an input itself, an id is to
    blame or the table; where the graph computes the row, the length of the batch or the graph.
    """
    plain = onnxruntime_library.unfit_batch(name, feeds, error)
    beyond = _BEYOND.search(plain.found)
    node = _node(path, beyond["node"]) if beyond else None
    if beyond is None or node is None:
        return plain
    index = node.inputs[1]
    expected = f"rows up to {beyond['last']} to be looked up by {describe(node)} of {path.name}"
    if index is not None and index.is_graph_input():
        return ShapeError(
            plain.subject,
            expected=expected,
            found=f"{beyond['index']} in {index.name}",
            remedy=f"encode it with the artefact's tokenizer; if that is what gave it, {_AGAIN}, "
            "whose table is too short",
        )
    return ShapeError(
        plain.subject,
        expected=expected,
        found=f"{beyond['index']}, which the graph computes",
        remedy="shorten the batch to position_limit in manifest.json; if it is no longer than "
        f"that, {_AGAIN}",
    )


def _node(path: Path, name: str) -> ir.Node | None:
    """The Gather of that name; None where optimization made it, or the file is gone by now."""
    try:
        graph = ir.load(path).graph
    except UNREADABLE_GRAPH:
        return None
    return next((n for n in graph if n.name == name and n.op_type == "Gather"), None)
