"""The results of all dev splits in, one JSON document that says what was compared, and how, out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact
from nxmi_export.parity.result import ParityResult
from nxmi_export.parity.verdict import Gate, Verdict

__all__ = ["SplitParity", "run_document"]

SCHEMA = "nxmi-export/parity-run/1"


@dataclass(frozen=True)
class SplitParity:
    """One dev split: what was found, and whether the gate holds."""

    result: ParityResult
    verdict: Verdict


def run_document(
    artefact: Artefact,
    splits: Sequence[SplitParity],
    *,
    checkpoint: str | Path,
    max_length: int,
    gate: Gate,
) -> dict[str, Any]:
    """A whole run as plain data: the files by hash, the settings, and every split's result.

    `checkpoint` is where it was read from; its hash is null for a hub name.
    """
    manifest = artefact.manifest
    return {
        "schema": SCHEMA,
        "ok": bool(splits) and all(each.verdict.ok for each in splits),
        "artefact": {name: record.sha256 for name, record in manifest.files.items()},
        "checkpoint": {"path": str(checkpoint), "sha256": manifest.source.sha256},
        "max_length": max_length,
        "gate": asdict(gate),
        "splits": [
            {"ok": each.verdict.ok, "failures": each.verdict.failures, **each.result.as_json()}
            for each in splits
        ],
    }
