"""What a user who runs `nxmi-export parity` has: a checkpoint, its artefact, and dev sets."""

import atexit
import functools
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from nxmi_export.artefact import file_record
from nxmi_export.artefact.manifest import Manifest
from nxmi_export.glue import Dataset
from nxmi_export.workflow.export import ExportRequest, export
from tests.tiny_models import toy_dataset, write_model_file

EXAMPLES = 40


@dataclass(frozen=True)
class Project:
    """A folder with model.pt, its artefact, and a `glue` directory."""

    folder: Path

    @property
    def artefact(self) -> Path:
        return self.folder / "model.artefact"

    @property
    def data(self) -> Path:
        return self.folder / "glue"

    def copy(self, target: Path) -> "Project":
        return Project(Path(shutil.copytree(self.folder, target)))

    def configure(self, **changes: Any) -> None:
        """Rewrite the artefact's config.json; `change` then makes its hash fit."""
        path = self.artefact / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def change(self, **facts: Any) -> None:
        """Rewrite manifest.json, its hashes as the files are now."""
        manifest = Manifest.read(self.artefact)
        files = {name: file_record(self.artefact / name) for name in manifest.files}
        manifest.model_copy(update={"files": files} | facts).write(self.artefact)


def write_split(data: Path, dataset: Dataset, split: str) -> Path:
    columns = dict(zip(dataset.task.text_columns, map(list, dataset.texts), strict=True))
    table = pa.table({**columns, "label": dataset.labels, "idx": dataset.ids})
    path = data / dataset.task.name / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def sst2_project(folder: Path) -> Project:
    """A tiny model that was compressed on sst2, with 40 made-up reviews; exported once a process.

    Its manifest names the checkpoint beside it, and so the folder can be copied.
    """
    shutil.copytree(_sst2_template(), folder, dirs_exist_ok=True)
    return Project(folder)


@functools.cache
def _sst2_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sst2-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_model_file(folder / "model.pt")
    write_split(folder / "glue", toy_dataset(EXAMPLES), "validation")
    export(ExportRequest(str(folder / "model.pt"), folder / "model.artefact"))
    return folder
