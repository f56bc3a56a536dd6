"""A fault in, a row of the results out: planted, judged, and its outputs compared."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nxmi_export.artefact import CPU_MODEL, MODEL, read_artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset
from nxmi_export.parity.logits import different_rows, logits_of
from samples.fault_injection.fault import Fault
from samples.fault_injection.outcome import Answer, judge
from samples.fault_injection.projects import Projects
from samples.fault_injection.site import Site

__all__ = ["row_of"]

_TOLD = 3  # messages of a fault that was not named; of one that was, the one that names it
_EXAMPLES = 64  # whose outputs are compared
_BATCH = 8
_FOLDERS = re.compile(r"/(?:[\w.-]+/)+")  # of absolute paths: where a run took place says nothing


def row_of(fault: Fault, projects: Projects, folder: Path) -> dict[str, Any]:
    """Plant the fault in a copy under `folder`, which is removed, and judge it.

    Raises Unavailable where `projects` has no artefact that it can be planted in.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        site = Site.copy(projects, fault.base, Path(temporary))
        expected = fault.plant(site)
        if fault.sealed:
            site.seal()
        outcome = judge(fault, site.directory, projects.data, projects.task)
        different = _different(site, projects, fault) if fault.proof else None
        named = outcome.names(expected) if expected else ""
        told = [named] if named else _most_telling(outcome.messages)
        return {
            "name": fault.name,
            "family": fault.family,
            "base": str(fault.base),
            "answer": str(outcome.answer),
            "exit_code": outcome.exit_code,
            "rung": outcome.rung,
            "detected": outcome.answer is not Answer.PASSED,
            "named": bool(named),
            "expected": list(expected),
            "messages": [_FOLDERS.sub("", each) for each in told],
            "different": different,
            "proof": fault.proof,
        }


def _most_telling(messages: tuple[str, ...]) -> list[str]:
    """The first of those that a fault was not named by, and where drift was localized."""
    return [*messages[:_TOLD], *(each for each in messages[_TOLD:] if " drifts from " in each)]


def _different(site: Site, projects: Projects, fault: Fault) -> int:
    """Logits of good and changed files that are not the same bits, over examples, files and modes.

    Both files run as written and optimized, in batches padded to their longest text.
    """
    good = projects.good(fault.base)
    data = _encoded(good, projects)
    count = 0
    for name in (MODEL, CPU_MODEL):
        for optimize in (False, True):
            before, after = (
                _logits(folder / name, data, optimize=optimize) for folder in (good, site.directory)
            )
            count += len(different_rows(before, after))
    return count


def _logits(path: Path, data: EncodedDataset, *, optimize: bool) -> Any:
    with OnnxRuntimeRunner(path, optimize=optimize, threads=1) as runner:
        return logits_of(runner, data, list(data.cut(_BATCH)))


def _encoded(artefact: Path, projects: Projects) -> EncodedDataset:
    opened = read_artefact(artefact)
    data = encode(
        load_dataset(projects.task, projects.task.dev_splits[0], projects.data),
        load_tokenizer(read_tokenizer_files(artefact), source=artefact),
        input_names=opened.manifest.input_names,
        max_length=min(128, opened.manifest.position_limit),
    )
    return data.select(np.arange(min(_EXAMPLES, len(data))))
