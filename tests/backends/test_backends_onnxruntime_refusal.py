"""A look-up beyond a table is told by module, row and what asked for the row."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.errors import ShapeError
from passes import MODULE_KEY

GRAPH = f"""
    <ir_version: 10, opset_import: ["": 20]>
    tables (int64[batch, sequence] input_ids) => (float[batch, sequence, 2] logits)
    <float[8, 2] words = {{{", ".join("1" * 16)}}},
     float[4, 2] positions = {{{", ".join("1" * 8)}}},
     int64 zero = {{0}}, int64 one = {{1}}> {{
      ["embeddings.words/Gather"] word = Gather (words, input_ids)
      length = Shape <start = 1, end = 2> (input_ids)
      scalar = Squeeze (length)
      places = Range (zero, scalar, one)
      ["embeddings.positions/Gather"] position = Gather (positions, places)
      logits = Add (word, position)
    }}"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    for node in model.graph.node:
        module, _, _ = node.name.partition("/")
        node.metadata_props.add(key=MODULE_KEY, value=module)
    path = tmp_path_factory.mktemp("tables") / "model.onnx"
    onnx.save_model(model, path)
    return path


def _refusal(path: Path, ids: list[list[int]]) -> ShapeError:
    with OnnxRuntimeRunner(path, optimize=False) as runner, pytest.raises(ShapeError) as caught:
        runner.run({"input_ids": np.array(ids, np.int64)})
    return caught.value


def test_an_id_beyond_the_vocabulary_blames_the_text_or_the_table(path: Path) -> None:
    assert str(_refusal(path, [[1, 23]])) == (
        "onnxruntime as written: a batch of input_ids 1×2: expected rows up to 7 to be looked up "
        "by embeddings.words (Gather embeddings.words/Gather) of model.onnx, found 23 in "
        "input_ids; encode it with the artefact's tokenizer; if that is what gave it, export the "
        "model again, whose table is too short"
    )


def test_a_row_that_the_graph_computes_blames_the_length_or_the_graph(path: Path) -> None:
    assert str(_refusal(path, [[1] * 5])) == (
        "onnxruntime as written: a batch of input_ids 1×5: expected rows up to 3 to be looked up "
        "by embeddings.positions (Gather embeddings.positions/Gather) of model.onnx, found 4, "
        "which the graph computes; shorten the batch to position_limit in manifest.json; if it is "
        "no longer than that, export the model again"
    )
