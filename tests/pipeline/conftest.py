"""Each placement exported once a session; tests that change an artefact copy it first."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nxmi_export.artefact import Artefact, read_artefact
from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.errors import CapabilityMissing
from nxmi_export.recipe import Placement
from tests.pipeline.exports import Exported, export_compressed
from tests.pipeline.parity_project import Project, sst2_project
from tests.tiny_models import PLACEMENTS
from tests.traced_once import traced_once
from tests.tuned_at_once import tuned_at_once

__all__ = ["traced_once", "tuned_at_once"]  # fixtures of every test


@pytest.fixture(scope="session")
def export_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Placement], Exported]:
    @functools.cache
    def export_once(placement: Placement) -> Exported:
        return export_compressed(tmp_path_factory.mktemp(placement), placement)

    return export_once


@pytest.fixture(params=PLACEMENTS, ids=str)
def exported(
    request: pytest.FixtureRequest, export_of: Callable[[Placement], Exported]
) -> Exported:
    return export_of(request.param)


@pytest.fixture
def sparse_copy(export_of: Callable[[Placement], Exported], tmp_path: Path) -> Artefact:
    """An artefact of the sparse placement that the test may change."""
    directory = tmp_path / "copy"
    shutil.copytree(export_of(Placement.SPARSE).directory, directory)
    return read_artefact(directory)


@pytest.fixture(scope="session")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("sst2"))


@pytest.fixture(scope="session")
def rtx() -> Library:
    try:
        return find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))
