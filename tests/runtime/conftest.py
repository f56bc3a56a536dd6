"""A tiny compressed model as an artefact, exported once a process; who changes it copies it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.parity_project import Project, sst2_project


@pytest.fixture(scope="session")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("sst2"))


@pytest.fixture
def copy(sst2: Project, tmp_path: Path) -> Project:
    """A project that the test may change."""
    return sst2.copy(tmp_path / "copy")


@pytest.fixture
def changed(copy: Project) -> Callable[..., Path]:
    """An artefact whose manifest says something else, by its facts; hashes are made to fit."""

    def change(**facts: Any) -> Path:
        copy.change(**facts)
        return copy.artefact

    return change
