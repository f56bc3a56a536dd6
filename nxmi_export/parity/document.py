"""A whole run in, one JSON document that says what was compared, how, and what follows out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact
from nxmi_export.parity.gate import Check, Gate
from nxmi_export.parity.run import ParityRun, SplitParity
from nxmi_export.parity.statistics import Family

__all__ = ["SCHEMA", "run_document"]

SCHEMA = "nxmi-export/parity-run/4"


def run_document(
    artefact: Artefact,
    run: ParityRun,
    *,
    checkpoint: str | Path,
    max_length: int,
    limit: int | None = None,
    gate: Gate,
    allowances: Sequence[str] = (),
) -> dict[str, Any]:
    """A whole run as plain data: the files by hash, the settings, and every split's result.

    `checkpoint` is where it was read from; its hash is null for a hub name. `limit` is how many
    examples of each split were run at most, None: all. `allowances` are the settings by which less
    was looked at, or more passed, than by default.
    """
    manifest = artefact.manifest
    return {
        "schema": SCHEMA,
        "ok": run.ok,
        "artefact": {name: record.sha256 for name, record in manifest.files.items()},
        "facts": manifest.facts_sha256,
        "checkpoint": {"path": str(checkpoint), "sha256": manifest.source.sha256},
        "max_length": max_length,
        "limit": limit,
        "gate": asdict(gate),
        "allowances": list(allowances),
        "warnings": list(run.warnings),
        "conclusion": run.conclusion,
        "family": None if run.family is None else _family(run.family),
        "splits": [_split(each) for each in run.splits],
    }


def _family(family: Family) -> dict[str, Any]:
    """What is proved of all splits and of each; the comparisons themselves are in the steps."""
    facts = family.as_json()
    for member in facts["members"].values():
        del member["comparison"]
    return facts


def _split(split: SplitParity) -> dict[str, Any]:
    return {
        "ok": split.verdict.ok,
        "failures": list(split.verdict.failures),
        "checks": [_check(each) for each in split.verdict.checks],
        **split.result.as_json(),
    }


def _check(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": not check.failures, "undecided": check.undecided}
