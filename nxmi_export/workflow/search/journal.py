"""What a search finds in, one JSON line each out, at once and for good; read back by --resume.

The first line binds the file to one search by everything that decides its scores. Lines may stand
in any order, as processes finish in any order.
"""

import json
import math
import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nxmi_export.errors import OutputError, UsageError
from nxmi_export.search.progress import Origin
from nxmi_export.search.score import Score
from nxmi_export.search.sensitivity import Probe, Sensitivity
from nxmi_export.search.space import Candidate

__all__ = ["Journal", "Known"]

_DIGEST = re.compile("[0-9a-f]{64}")

Entry = dict[str, Any]
_KEYS = {
    "search": {"fingerprint"},
    "sensitivity": {"origin", *Probe._fields, *Sensitivity._fields},
    "marginal": {"around", *Probe._fields, *Sensitivity._fields},
    "score": {"origin", "schemes", "examples", "divergence", "metric", "stopped"},
}


class Known:
    """What an interrupted search had found, by origin; plain data."""

    def __init__(self) -> None:
        self.sensitivities: dict[Origin, dict[Probe, Sensitivity]] = {"component": {}, "layer": {}}
        # Around each. Groups of a component and of a layer have other names, so that probes of the
        # two do not meet even where one layer makes their candidates alike.
        self.marginals: dict[Candidate, dict[Probe, Sensitivity]] = {}
        self.scores: dict[Origin, dict[Candidate, Score]] = {"component": {}, "layer": {}}

    def add(self, entry: Entry) -> None:
        """Take in one line of a journal."""
        if entry["event"] in ("sensitivity", "marginal"):
            probe = Probe(entry["group"], entry["scheme"])
            found = Sensitivity(entry["divergence"], entry["loss"])
            if entry["event"] == "sensitivity":
                self.sensitivities[entry["origin"]][probe] = found
            else:
                around = Candidate(tuple(entry["around"]))
                self.marginals.setdefault(around, {})[probe] = found
        elif entry["event"] == "score":
            metric = entry["metric"]
            if metric is None and not entry["stopped"]:
                metric = math.nan  # a correlation of equal predictions, which JSON has no word for
            self.scores[entry["origin"]][Candidate(tuple(entry["schemes"]))] = Score(
                entry["examples"], entry["divergence"], metric, entry["stopped"]
            )


class Journal:
    """The file of one search, open for more lines."""

    def __init__(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        """Continue the file at `path`, or begin it.

        Raises UsageError for the file of another search, naming what differs, and for a line that
        this class did not write.
        """
        self.path = path
        self.known = Known()
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the last may be cut
        entries = [_entry(line, path, number) for number, line in enumerate(lines, 1)]
        if entries:
            _check_same(path, entries[0], fingerprint)
        for entry in entries:
            self.known.add(entry)
        self._whole = sum(len(line) + 1 for line in lines)
        self._fingerprint = dict(fingerprint)

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("ab")
            self._file.truncate(self._whole)
        except OSError as error:
            raise self._refused(error) from error
        if not self._whole:
            self._write({"event": "search", "fingerprint": self._fingerprint})
        return self

    def add_sensitivity(self, origin: Origin, probe: Probe, found: Sensitivity) -> None:
        """Write what a probe has cost, unless it is known."""
        if probe not in self.known.sensitivities[origin]:
            facts = {**probe._asdict(), **found._asdict()}
            self._write({"event": "sensitivity", "origin": origin, **facts})

    def add_marginal(self, around: Candidate, probe: Probe, found: Sensitivity) -> None:
        """Write what a change of the candidate `around` has done, unless it is known."""
        if probe not in self.known.marginals.get(around, {}):
            facts = {**probe._asdict(), **found._asdict()}
            self._write({"event": "marginal", "around": list(around.schemes), **facts})

    def add_score(self, origin: Origin, candidate: Candidate, score: Score) -> None:
        """Write a candidate's score, unless it is known."""
        if candidate in self.known.scores[origin]:
            return
        metric = score.metric
        self._write(
            {
                "event": "score",
                "origin": origin,
                "schemes": list(candidate.schemes),
                "examples": score.examples,
                "divergence": score.divergence,
                "metric": None if metric is None or math.isnan(metric) else metric,
                "stopped": score.stopped,
            }
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _write(self, entry: Entry) -> None:
        try:
            self._file.write(f"{json.dumps(entry, allow_nan=False)}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            self.path,
            expected="room for the journal of the search",
            found=error.strerror or str(error),
            remedy="put that right and continue with --resume",
        )


def _entry(line: bytes, path: Path, number: int) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError:  # no JSON, or bytes that are no text
        entry = None
    event = entry.get("event") if isinstance(entry, dict) else None
    if (
        event not in _KEYS
        or not entry.keys() >= _KEYS[event]
        or (number == 1) != (event == "search")
    ):
        raise UsageError(
            f"{path}, line {number}",
            expected="a line of the interrupted search",
            found=reprlib.repr(line.decode(errors="replace")),
            remedy="pass --overwrite without --resume to start anew",
        )
    return dict(entry)


def _check_same(path: Path, header: Entry, wanted: Mapping[str, str]) -> None:
    found: Mapping[str, str] = header["fingerprint"]
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        # A launcher sets them unasked.
        threads = ", OMP_NUM_THREADS among them," if "threads" in different else ""
        raise UsageError(
            path,
            expected=f"the journal of this search ({_told(different, wanted)})",
            found=f"that of another ({_told(different, found)})",
            remedy=f"resume with the settings it was made with{threads or ','} or pass --overwrite "
            "without --resume to start anew",
        )


def _told(names: list[str], fingerprint: Mapping[str, str]) -> str:
    """The values of `names`, and of a hash its first digits."""
    values = ((name, fingerprint.get(name, "unknown")) for name in names)
    return ", ".join(
        f"{name} {value[:12] if _DIGEST.fullmatch(value) else value}" for name, value in values
    )
