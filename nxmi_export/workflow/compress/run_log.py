"""What a run reports in, one JSON line per step and epoch out, also over several attempts."""

import json
import math
import reprlib
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from nxmi_export.compression.progress import EpochDone, StepDone
from nxmi_export.errors import OutputError, UsageError
from nxmi_export.output_files import atomic_file

__all__ = ["Entry", "RunLog", "plain"]

Entry = dict[str, Any]
_ALWAYS = {"event", "step", "seconds"}  # the keys of every line


class RunLog:
    """The log file of one run; `entries` are its lines.

    A resumed run reads what is there and drops, at its first report, whatever the interrupted
    attempt had logged after the snapshot that the run continues from. Any other run replaces what
    is there, also at its first report: one that fails before leaves the earlier run's log.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.entries: list[Entry] = _read(path) if resume and path.exists() else []
        self._continues = bool(self.entries)
        self._earlier = self.entries[-1]["seconds"] if self.entries else 0.0
        self._begin = time.perf_counter()
        self._file: TextIO | None = None

    @property
    def seconds(self) -> float:
        """Since the run began; of an interrupted attempt, the time that was not lost."""
        return float(self._earlier + time.perf_counter() - self._begin)

    def __enter__(self) -> Self:
        if self._continues:
            self._rewrite()
        return self

    def add(self, report: StepDone | EpochDone) -> Entry:
        """Write one line, at once."""
        number = report.number if isinstance(report, StepDone) else report.step
        if self._continues:
            self._continues = False
            self._drop_from(number, epoch=isinstance(report, EpochDone))
        facts = plain(asdict(report))
        if isinstance(report, StepDone):
            facts = {"event": "step", "step": facts.pop("number"), **facts}
        else:
            facts = {"event": "epoch", **facts}
        entry = {**facts, "seconds": round(self.seconds, 3)}
        file = self._file or self._rewrite()
        self.entries.append(entry)
        self._write(file, _line(entry))
        return entry

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # what a full device did not take has been reported
                self._file.close()
        elif kind is None:
            self.path.unlink(missing_ok=True)  # the run had nothing to report

    def _drop_from(self, number: int, *, epoch: bool) -> None:
        """Forget from the first line on that this attempt will write again."""

        def is_kept(entry: Entry) -> bool:
            again = not epoch or entry["event"] == "epoch"
            return bool(entry["step"] < number or (entry["step"] == number and not again))

        self.entries = [entry for entry in self.entries if is_kept(entry)]
        self._earlier = self.entries[-1]["seconds"] if self.entries else 0.0
        self._rewrite()

    def _rewrite(self) -> TextIO:
        if self._file is not None:
            self._file.close()
        with atomic_file(self.path) as temporary:  # a kill must not lose what was logged before
            temporary.write_text("".join(map(_line, self.entries)), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        return self._file

    def _write(self, file: TextIO, text: str) -> None:
        try:
            file.write(text)
            file.flush()
        except OSError as error:
            raise OutputError(
                self.path,
                expected="room for the log",
                found=error.strerror or str(error),
                remedy="free some space and continue with --resume",
            ) from error


def plain(value: Any) -> Any:
    """The same data for JSON, in which a number that is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _line(entry: Entry) -> str:
    return f"{json.dumps(entry, allow_nan=False)}\n"


def _read(path: Path) -> list[Entry]:
    """The whole lines of an interrupted run; its last one may be cut short.

    Raises UsageError for another line that this class did not write.
    """
    lines = path.read_bytes().split(b"\n")
    return [_entry(line, path, number) for number, line in enumerate(lines[:-1], 1)]


def _entry(line: bytes, path: Path, number: int) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError:  # no JSON, or bytes that are no text
        entry = None
    if not (isinstance(entry, dict) and entry.keys() >= _ALWAYS):
        raise UsageError(
            f"{path}, line {number}",
            expected="one step or epoch of the interrupted run",
            found=reprlib.repr(line.decode(errors="replace")),
            remedy="delete the file to resume without what it tells, or pass --overwrite",
        )
    return entry
