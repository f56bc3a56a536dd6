"""A ladder in, the same ladder with the graph before any pass among its files out."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from nxmi_export.capture import capture
from nxmi_export.parity import Stage
from nxmi_export.workflow.parity.ladder import GraphFile, Ladder

__all__ = ["with_captured_graph"]


@contextmanager
def with_captured_graph(ladder: Ladder) -> Iterator[Ladder]:
    """Capture the checkpoint again, where that was asked for, into a folder of the block's life.

    The artefact does not keep it: it is the weights once more, in float32, for a question that is
    asked when something is wrong. Capturing is deterministic, and takes seconds.
    """
    if not ladder.request.captured:
        yield ladder
        return
    manifest = ladder.artefact.manifest
    graph = capture(
        ladder.model,
        input_names=manifest.input_names,
        position_limit=manifest.position_limit,
    ).model
    with tempfile.TemporaryDirectory(prefix="nxmi-export-") as folder:
        path = Path(folder, "captured.onnx")
        ir.save(graph, path, external_data="captured.onnx.data")
        files = {**ladder.files, Stage.CAPTURED: GraphFile(path, optimized=False)}
        yield replace(ladder, files=files)
