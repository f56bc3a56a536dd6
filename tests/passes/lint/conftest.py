"""The good graph that the corpus of bad ones is made from."""

from pathlib import Path

import onnx_ir as ir
import pytest

from samples.bad_graphs.good_graph import load_graph, write_good_artefact


@pytest.fixture(scope="session")
def good_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good_artefact(tmp_path_factory.mktemp("good"))


@pytest.fixture
def good(good_path: Path) -> ir.Model:
    """A fresh copy: mutations edit it in place."""
    return load_graph(good_path)
