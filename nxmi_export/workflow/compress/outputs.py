"""The files that one run leaves: where they are, and whether they may be written."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from nxmi_export.compression.training.snapshots import has_snapshot
from nxmi_export.errors import OutputError
from nxmi_export.workflow.compress.request import CompressRequest

__all__ = ["Outputs"]

_TEMPORARY = re.compile(r"\.{1,2}(?P<name>.+?)(\.[0-9a-f]{8}){1,2}")  # as output_files names them


@dataclass(frozen=True)
class Outputs:
    """The model and what is written beside it, all named after it."""

    model: Path

    @property
    def name(self) -> str:
        """What the files have in common."""
        return self.model.name.removesuffix(".pt")

    @property
    def log(self) -> Path:
        """One JSON line per step and per epoch, written as they end."""
        return self._beside("jsonl")

    @property
    def result(self) -> Path:
        """Everything that is known of the finished run."""
        return self._beside("json")

    @property
    def plot(self) -> Path:
        """Metric, residuals and loss over time."""
        return self._beside("svg")

    @property
    def snapshots(self) -> Path:
        """What an interrupted run continues from; gone when the run is done."""
        return self._beside("snapshots")

    @property
    def tracked(self) -> Path:
        """TensorBoard's event files; of MLflow only the artefacts of a new experiment."""
        return self._beside("tracked")

    def _beside(self, ending: str) -> Path:
        return self.model.with_name(f"{self.name}.compress.{ending}")

    def check(self, request: CompressRequest) -> None:
        """Refuse, before any work, a place that is taken.

        Raises OutputError; nothing is changed.
        """
        self._check_apart(request)
        if request.overwrite or (request.resume and has_snapshot(self.snapshots)):
            # A finished file beside a snapshot: the run was stopped while it wrote them.
            self._check_files()
        else:
            self._check_unused(request.resume)

    def begin(self, request: CompressRequest) -> None:
        """Forget an unfinished run unless it is to be resumed, and what a killed one left half."""
        for path in self.model.absolute().parent.iterdir():
            if self._is_orphan(path):
                path.unlink(missing_ok=True)
        if not request.resume and self.snapshots.exists():
            self.drop_snapshots()
            self.log.unlink(missing_ok=True)  # or a later resumption would take it for its own

    def drop_snapshots(self) -> None:
        """Delete what only an unfinished run needs."""
        shutil.rmtree(self.snapshots, ignore_errors=True)

    def _is_orphan(self, path: Path) -> bool:
        """Whether `path` is a temporary file of one of this run's files.

        One is named after another where an atomic write replaces what a second one writes.
        """
        found = _TEMPORARY.fullmatch(path.name)
        names = (each.name for each in (self.model, self.log, self.result, self.plot))
        return found is not None and found["name"] in names and path.is_file()

    def _check_apart(self, request: CompressRequest) -> None:
        for name in (request.model, request.base):
            if name is not None and Path(name).exists() and self.model.exists():
                if not Path(name).resolve().is_relative_to(self.model.resolve()):
                    continue
                raise OutputError(
                    self.model,
                    expected="an output apart from the model and its base",
                    found=f"{name} in its place or inside it",
                    remedy="choose another with -o",
                )

    def _check_files(self) -> None:
        for path in (self.model, self.log, self.result, self.plot):
            if path.is_dir():
                raise OutputError(
                    path,
                    expected="a file to overwrite or an unused name",
                    found="a folder",
                    remedy="choose another output with -o",
                )

    def _check_unused(self, resume: bool) -> None:
        finished = (self.model, self.result, self.plot)
        for path in finished:
            if path.exists():
                raise OutputError(
                    path,
                    expected="an unused name",
                    found="a folder" if path.is_dir() else "a file",
                    remedy="choose another output with -o"
                    + ("" if path.is_dir() else ", or pass --overwrite to replace it"),
                )
        for path in (self.snapshots, self.log):
            if path.exists() and not resume:
                raise OutputError(
                    path,
                    expected="no unfinished run of this output",
                    found="one",
                    remedy="pass --resume to continue it, or --overwrite to start anew",
                )
