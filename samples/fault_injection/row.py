"""A fault in, a row of the results out: planted, judged, and its outputs compared."""

import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nxmi_export.artefact import CPU_MODEL, MODEL
from nxmi_export.parity.logits import different_rows
from samples.fault_injection.fault import Fault
from samples.fault_injection.naming import is_named
from samples.fault_injection.observe import dev_set, logits_of_file
from samples.fault_injection.outcome import Answer, judge
from samples.fault_injection.projects import Projects
from samples.fault_injection.site import Site

__all__ = ["row_of"]

_TOLD = 3  # sentences; the causes are kept whole
_FOLDERS = re.compile(
    r"(?<![\w.-])/(?:[\w.-]+/)+"
)  # of absolute paths: where a run took place says nothing


def row_of(fault: Fault, projects: Projects, folder: Path) -> dict[str, Any]:
    """Plant the fault in a copy under `folder`, which is removed, and judge it.

    Raises Unavailable where `projects` has no artefact that it can be planted in.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        site = Site.copy(projects, fault.base, Path(temporary))
        premises = fault.proof.premises(site) if fault.proof else ()
        naming = fault.plant(site)
        if fault.sealed:
            site.seal()
        outcome = judge(fault.check, site.directory, projects.data, projects.task)
        return {
            "name": fault.name,
            "family": fault.family,
            "base": str(fault.base),
            "check": str(fault.check),
            "answer": str(outcome.answer),
            "exit_code": outcome.exit_code,
            "rung": outcome.rung,
            "failed_checks": list(outcome.failed),
            "detected": outcome.answer is not Answer.PASSED,
            "named": is_named(naming, outcome.causes),
            "naming": dict(naming),
            "causes": [_without_folders(each) for each in outcome.causes],
            "messages": [_FOLDERS.sub("", each) for each in outcome.messages[:_TOLD]],
            "different": _different(site, projects, fault) if fault.proof else None,
            "proof": fault.proof.text if fault.proof else "",
            "premises": [asdict(each) for each in premises],
        }


def _without_folders(cause: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _FOLDERS.sub("", value) if isinstance(value, str) else value
        for name, value in cause.items()
    }


def _different(site: Site, projects: Projects, fault: Fault) -> int:
    """Logits of good and changed files that are not the same bits, over examples, files and modes.

    Both files run as written and optimized, in batches padded to their longest text.
    """
    good = projects.good(fault.base)
    data = dev_set(good, projects)
    count = 0
    for name in (MODEL, CPU_MODEL):
        for optimize in (False, True):
            before, after = (
                logits_of_file(folder / name, data, optimize=optimize)
                for folder in (good, site.directory)
            )
            count += len(different_rows(before, after))
    return count
