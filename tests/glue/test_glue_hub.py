"""The hub, behind a stand-in for `datasets` of the four names that are used of it."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from nxmi_export.errors import CapabilityMissing, DatasetNotFound
from nxmi_export.glue import TASKS, load_dataset
from tests.glue.glue_files import AWKWARD, examples, table

SST2 = TASKS["sst2"]


@dataclass
class HubRows:
    """A `datasets.Dataset` over a table and its cache files."""

    content: pa.Table
    cache_files: list[dict[str, str]]
    format: str | None = None

    def with_format(self, kind: str) -> "HubRows":
        return HubRows(self.content, self.cache_files, kind)

    def __getitem__(self, rows: slice) -> pa.Table:
        assert self.format == "arrow"
        assert rows == slice(None)
        return self.content


class HubLibrary(ModuleType):
    """The module `datasets`, whose only dataset is GLUE's SST-2."""

    def __init__(self, rows: HubRows | Exception) -> None:
        super().__init__("datasets")
        self.rows = rows
        self.asked: list[tuple[str, str, str]] = []

    def load_dataset(self, path: str, name: str, *, split: str) -> HubRows:
        self.asked.append((path, name, split))
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows


def test_split_is_read_through_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = [tmp_path / "glue-a.arrow", tmp_path / "glue-b.arrow"]
    for number, path in enumerate(cached):
        path.write_bytes(bytes([number]))
    files = [{"filename": str(path)} for path in cached]
    library = HubLibrary(HubRows(table(SST2, examples(SST2)), files))
    monkeypatch.setitem(sys.modules, "datasets", library)

    dataset = load_dataset(SST2, "validation", None)

    assert library.asked == [("nyu-mll/glue", "sst2", "validation")]
    assert dataset.texts == (AWKWARD,)
    assert dataset.labels.tolist() == [1, 0, 1, 1, 0, 0]
    assert dataset.source == "nyu-mll/glue/sst2/validation"
    assert dataset.sha256 == hashlib.sha256(b"\x00\x01").hexdigest()


def test_missing_library_is_a_missing_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CapabilityMissing) as caught:
        load_dataset(SST2, "validation", None)
    assert str(caught.value) == (
        "reading GLUE from the hub: expected the library datasets, found none; "
        'run pip install "nxmi-export[hub]", or give a data directory'
    )


def test_library_that_lacks_its_own_dependency_fails_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets.py").write_text("import nxmi_dependency_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    with pytest.raises(ModuleNotFoundError, match="nxmi_dependency_that_is_not_there"):
        load_dataset(SST2, "validation", None)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ConnectionError("no route\nto the hub"), "ConnectionError (no route)"),
        (FileNotFoundError("no such dataset"), "FileNotFoundError (no such dataset)"),
        (
            ValueError("BuilderConfig 'sst2' not found"),
            "ValueError (BuilderConfig 'sst2' not found)",
        ),
    ],
)
def test_hub_that_does_not_give_the_split_is_refused(
    error: Exception, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", HubLibrary(error))
    with pytest.raises(DatasetNotFound) as caught:
        load_dataset(SST2, "validation", None)
    assert str(caught.value) == (
        f"sst2 validation: expected an answer from the hub for nyu-mll/glue, found {shown}; "
        "connect to the hub, or give a data directory"
    )
    assert caught.value.__cause__ is error


def test_reviews_are_not_on_the_hub() -> None:
    with pytest.raises(DatasetNotFound) as caught:
        load_dataset(TASKS["reviews"], "validation", None)
    assert str(caught.value) == (
        "reviews: expected a data directory, because the hub has no such task, found none; "
        "give the directory of its files"
    )
