"""An artefact in, what `bench` stored beside it out if that speaks of these files."""

import json
from collections.abc import Mapping
from typing import Any

from nxmi_export.artefact import BENCH, Artefact
from nxmi_export.bench.result import SCHEMA
from nxmi_export.errors import ArtefactError

__all__ = ["model_files", "read_bench"]

_REMEDY = "run nxmi-export bench again"


def read_bench(artefact: Artefact) -> dict[str, Any] | None:
    """The content of `BENCH`; None where there is none.

    Raises ArtefactError for a file that is damaged or of another schema, and for one of model
    files that changed, came or went since.
    """
    path = artefact.directory / BENCH
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(artefact, str(error)) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _unreadable(artefact, "another schema")
    told = document.get("artefact")
    measured = told.get("files") if isinstance(told, dict) else None
    if not isinstance(measured, dict):
        raise _unreadable(artefact, "no hashes of files")
    now = model_files(artefact)
    if measured != now:
        raise ArtefactError(
            path,
            expected="times of the artefact's model files as they are now",
            found=f"those of other files: {', '.join(_different(measured, now))}",
            remedy=_REMEDY,
        )
    return document


def model_files(artefact: Artefact) -> dict[str, str]:
    """The hashes of what can be timed, and of its weights, by name."""
    return {
        name: each.sha256
        for name, each in artefact.manifest.files.items()
        if name.startswith("model.")
    }


def _different(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def _unreadable(artefact: Artefact, found: str) -> ArtefactError:
    return ArtefactError(
        artefact.directory / BENCH,
        expected=f"what bench writes, of the schema {SCHEMA}",
        found=found,
        remedy=_REMEDY,
    )
