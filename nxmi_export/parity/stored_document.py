"""A stored parity report and an artefact in, the report out if it speaks of this artefact."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nxmi_export.artefact import CERTIFICATE, MANIFEST, Artefact
from nxmi_export.errors import ArtefactError
from nxmi_export.parity.document import SCHEMA

__all__ = ["read_run_document", "reservations"]

_REMEDY = "run nxmi-export parity again"


def read_run_document(artefact: Artefact, path: Path) -> dict[str, Any]:
    """What `run_document` wrote to `path`, of the files and the checkpoint as they are now.

    `artefact` comes from `read_artefact`, which has checked every file against the manifest. The
    certificate is no part of what ran, and may be newer. Raises ArtefactError for a report that is
    gone or damaged or contradicts itself, and where a file that ran changed, came or went since, or
    the manifest says something else of the model.
    """
    document = _read(path)
    named, now = document["artefact"], artefact.manifest.files
    for name in sorted({*named, *now} - {CERTIFICATE}):
        then = named.get(name)
        if then is None:
            raise _stale(path, f"one that does not know {name}")
        if name not in now:
            raise _stale(path, f"one of {name}, which the artefact does not have")
        if then != now[name].sha256:
            raise _stale(path, f"one of a {name} with SHA-256 {str(then)[:12]}…, which is another")
    source = artefact.manifest.source.sha256
    if document["checkpoint"].get("sha256") != source:
        told = str(document["checkpoint"].get("sha256"))[:12]
        raise _stale(path, f"one of another checkpoint, with SHA-256 {told}…")
    if document["facts"] != artefact.manifest.facts_sha256:
        raise _stale(path, f"one of a {MANIFEST} that said something else of the model")
    return document


def reservations(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a report that passed shows less than a whole run by the usual gate; nothing if it does.

    One that does not say which settings it ran with may have had any.
    """
    told = []
    if (limit := document.get("limit", "?")) is not None:
        told.append(f"no dev set was read beyond {limit} examples")
    if (allowances := document.get("allowances", ["unknown"])) != []:
        named = ", ".join(map(str, allowances)) if isinstance(allowances, list) else allowances
        told.append(f"it was run with other settings than usual: {named}")
    return tuple(told)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _unreadable(path, "another schema")
    if not all(isinstance(document.get(key), Mapping) for key in ("artefact", "checkpoint")):
        raise _unreadable(path, "no hashes of files")
    if not isinstance(document.get("facts"), str):
        raise _unreadable(path, "no hash of what the manifest says")
    if document.get("ok") is not _passed(document.get("splits")):
        raise _unreadable(path, "an answer that is not that of its dev sets")
    return document


def _passed(splits: Any) -> bool | None:
    """Whether there is a dev set and every one says that nothing of it failed."""
    if not isinstance(splits, list):
        return None
    answers = [
        isinstance(each, Mapping) and each.get("ok") is True and each.get("failures") == []
        for each in splits
    ]
    return bool(answers) and all(answers)


def _unreadable(path: Path, found: str) -> ArtefactError:
    return ArtefactError(
        path, expected=f"a parity report of the schema {SCHEMA}", found=found, remedy=_REMEDY
    )


def _stale(path: Path, found: str) -> ArtefactError:
    return ArtefactError(
        path,
        expected="a parity report of the artefact's files as they are now",
        found=found,
        remedy=_REMEDY,
    )
