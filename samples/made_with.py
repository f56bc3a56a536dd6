"""What an export depends on in, whether one that is kept would be made the same again out.

Trained weights are kept whatever the code; exports take seconds, and what is timed or judged is to
be what this code, this release of onnxruntime and this processor make.
"""

import json
from importlib.metadata import version
from pathlib import Path

from nxmi_export.processor import this_processor
from samples.fault_injection.source import digest_of_code

__all__ = ["is_as_made_now", "note_what_made"]


def is_as_made_now(artefact: Path) -> bool:
    """Whether `note_what_made` says the same as it would now."""
    try:
        noted = json.loads(_place(artefact).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return artefact.is_dir() and bool(noted == _facts())


def note_what_made(artefact: Path) -> None:
    """Write beside the artefact what made it."""
    _place(artefact).write_text(f"{json.dumps(_facts(), indent=1)}\n", encoding="utf-8")


def _place(artefact: Path) -> Path:
    return artefact.with_name(f"{artefact.name}.made.json")


def _facts() -> dict[str, str]:
    return {
        "code": digest_of_code(),
        "onnxruntime": version("onnxruntime"),
        "processor": str(this_processor()),
    }
