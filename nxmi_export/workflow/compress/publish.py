"""A finished run in, its files out: the model, everything about it, and a plot."""

import json
import math
from pathlib import Path

from nxmi_export.checkpoint import CompressedCheckpoint, write_checkpoint
from nxmi_export.output_files import atomic_file
from nxmi_export.report.training_plot import training_plot
from nxmi_export.workflow.compress.outputs import Outputs
from nxmi_export.workflow.compress.result import CompressResult
from nxmi_export.workflow.compress.run_log import Entry, RunLog

__all__ = ["publish"]


def publish(
    outputs: Outputs, checkpoint: CompressedCheckpoint, result: CompressResult, log: RunLog
) -> None:
    """Write each file whole; the snapshots, which all can be made from again, go last.

    Raises OutputError where one cannot be written.
    """
    write_checkpoint(outputs.model, checkpoint)
    _write(outputs.result, f"{json.dumps(result.as_json(), indent=1, allow_nan=False)}\n")
    if log.entries:
        _write(outputs.plot, _plot(result, log.entries))
    else:
        outputs.plot.unlink(missing_ok=True)  # that of an earlier model in this place
    outputs.drop_snapshots()


def _plot(result: CompressResult, entries: list[Entry]) -> str:
    dense = result.primary[0]
    share = result.retention
    kept = "" if share is None else f", {share:.2%} of the dense model kept"
    return training_plot(
        entries,
        title=f"{result.task}, {result.options['recipe']}{kept}",
        metric=f"{result.primary_metric} ({result.evaluated_on})",
        dense=dense if math.isfinite(dense) else None,
    )


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
