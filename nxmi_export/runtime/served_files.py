"""A directory in, the facts of its manifest out, and its files, each checked against its hash.

The whole manifest is `nxmi_export.artefact.Manifest`, which needs pydantic; a server reads the few
facts that it runs on, and checks each.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nxmi_export.artefact_files import MANIFEST, facts_sha256, sha256_of
from nxmi_export.errors import ArtefactError

__all__ = ["FORMAT", "ServedFiles"]

FORMAT = "nxmi-export/artefact/1"
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ServedFiles:
    """What the manifest tells of a model to run, and access to the files that it lists."""

    directory: Path
    input_names: tuple[str, ...]
    position_limit: int  # tokens
    labels: tuple[str, ...]  # in the order of the logits; one for a regression
    session_options: Mapping[str, str]  # for model.cpu.onnx
    provenance: Mapping[str, Any]
    hashes: Mapping[str, str]  # SHA-256 by name inside the directory
    facts_sha256: str  # of all the manifest says besides its files

    @classmethod
    def read(cls, directory: Path) -> "ServedFiles":
        """Raises ArtefactError where the directory has no manifest that this version reads."""
        facts = _manifest(directory)
        if facts.get("format") != FORMAT:
            raise _unreadable(directory, f"format {facts.get('format')!r} instead of {FORMAT!r}")

        def fact(name: str, read: Callable[[Any], _Value]) -> _Value:
            try:
                return read(facts[name])
            except (KeyError, TypeError) as error:
                found = f"{name} {facts[name]!r}" if name in facts else f"no {name}"
                raise _unreadable(directory, found) from error

        return cls(
            directory,
            input_names=fact("input_names", _texts),
            position_limit=fact("position_limit", _positive),
            labels=fact("labels", _texts),
            session_options=fact("session_options", _text_by_text),
            provenance=fact("provenance", _object),
            hashes=fact("files", _hashes),
            facts_sha256=facts_sha256(facts),
        )

    @property
    def task(self) -> str | None:
        """The task that the model was compressed on, where its provenance names one."""
        task = self.provenance.get("task")
        return task if isinstance(task, str) else None

    @property
    def texts(self) -> int | None:
        """How many texts make one input, where the provenance describes the task."""
        described = self.provenance.get("task_description")
        columns = described.get("columns") if isinstance(described, dict) else None
        return len(columns) if isinstance(columns, list) and columns else None

    @property
    def trained_length(self) -> int | None:
        """Tokens that training truncated texts to, where the provenance tells it."""
        options = self.provenance.get("options")
        length = options.get("max_length") if isinstance(options, dict) else None
        return length if isinstance(length, int) and length > 0 else None

    def content(self, name: str) -> bytes:
        """A whole file, so that what was checked is what is used; ArtefactError for another."""
        path = self._listed(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _missing(path, error) from error
        self._compare(path, hashlib.sha256(content).hexdigest())
        return content

    def check(self, name: str) -> None:
        """The same for a large file, which is not held in memory."""
        path = self._listed(name)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise _missing(path, error) from error
        self._compare(path, found)

    def _listed(self, name: str) -> Path:
        if name not in self.hashes:
            raise ArtefactError(
                self.directory,
                expected=f"an artefact with {name}",
                found=", ".join(sorted(self.hashes)) or "no files",
                remedy="export the model again, or name another file",
            )
        return self.directory / name

    def _compare(self, path: Path, found: str) -> None:
        if found != self.hashes[path.name]:
            raise ArtefactError(
                path,
                expected=f"the file with SHA-256 {self.hashes[path.name][:12]}…",
                found="other contents",
                remedy="export the model again, or restore the file",
            )


def _manifest(directory: Path) -> Mapping[str, Any]:
    try:
        content = (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise ArtefactError(
            directory,
            expected="an artefact directory with manifest.json",
            found=error.strerror or str(error),
            remedy="make one with nxmi-export MODEL -o DIRECTORY",
        ) from error
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise _unreadable(directory, f"no JSON ({error})") from error
    if not isinstance(facts, dict):
        raise _unreadable(directory, f"a {type(facts).__name__}")
    return facts


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise TypeError
    return tuple(value)


def _positive(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise TypeError
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _text_by_text(value: Any) -> dict[str, str]:
    if not all(isinstance(each, str) for each in _object(value).values()):
        raise TypeError
    return _object(value)


def _hashes(value: Any) -> dict[str, str]:
    return _text_by_text({name: _object(each)["sha256"] for name, each in _object(value).items()})


def _unreadable(directory: Path, found: str) -> ArtefactError:
    return ArtefactError(
        directory / MANIFEST,
        expected="a manifest that this version reads",
        found=found,
        remedy="export the model again",
    )


def _missing(path: Path, error: OSError) -> ArtefactError:
    return ArtefactError(
        path,
        expected="every file of the manifest that is read",
        found=error.strerror or str(error),
        remedy="export the model again, or restore the file",
    )
