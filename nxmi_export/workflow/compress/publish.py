"""A finished run in, its files out: the model, everything about it, and a plot."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nxmi_export.checkpoint import CompressedCheckpoint, write_checkpoint
from nxmi_export.errors import OutputError
from nxmi_export.output_files import atomic_file
from nxmi_export.report.training_plot import training_plot
from nxmi_export.workflow.compress.outputs import Outputs
from nxmi_export.workflow.compress.result import CompressResult
from nxmi_export.workflow.compress.run_log import Entry, RunLog

__all__ = ["publish"]


def publish(
    outputs: Outputs, checkpoint: CompressedCheckpoint, result: CompressResult, log: RunLog
) -> None:
    """Write each file whole, the model last; then the snapshots go.

    Where a model is, everything about it is too, and until then --resume can make all of it again.
    Raises OutputError where a file cannot be written.
    """
    with _last(outputs.model) as model:
        write_checkpoint(model, checkpoint)
        _write(outputs.result, f"{json.dumps(result.as_json(), indent=1, allow_nan=False)}\n")
        if log.entries:
            _write(outputs.plot, _plot(result, log.entries))
        else:
            outputs.plot.unlink(missing_ok=True)  # that of an earlier model in this place
    outputs.drop_snapshots()


@contextmanager
def _last(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a block that writes the temporary file by an atomic write of its own.

    The large file is written first, so a device without room for it gets none of the small ones.
    """
    with atomic_file(path) as temporary:
        try:
            yield temporary
        except OutputError as error:
            if Path(error.subject) != temporary:
                raise
            raise OutputError(
                path.absolute(), expected=error.expected, found=error.found, remedy=error.remedy
            ) from error


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
