"""What a user allows in, the budget of the search out; latencies are measured here if asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.errors import UsageError
from nxmi_export.latency import LatencyTable, check_device
from nxmi_export.latency.encoder_shapes import encoder_in_words
from nxmi_export.latency.measure_onnxruntime import CHOSEN_THREADS
from nxmi_export.latency.of_model import latency_of_model
from nxmi_export.latency.shapes import Workload
from nxmi_export.search.budget import Budget, LatencyBudget, SizeBudget
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.request import LatencyRequest, SearchRequest

__all__ = ["budget_of", "coverage", "latency_table"]


def latency_table(
    request: SearchRequest,
    source: CompressedCheckpoint,
    model: PreTrainedModel,
    outputs: Outputs,
    on_stage: Callable[[str], None],
) -> LatencyTable | None:
    """The table that `request` names, or makes; None where it asks nothing about latency.

    A table is kept in the folder, as clocks never say the same twice and a search that has begun
    must not change its mind when it is resumed. Raises UsageError for a request that names both
    sources or none, for an unreadable file and for one of another model, device or batch,
    CapabilityMissing for a device that this machine lacks.
    """
    wanted = request.latency
    if wanted is None:
        return None
    _check(wanted)
    if wanted.table is not None:
        table = LatencyTable.read(wanted.table)
        _check_fits(table, wanted.table, wanted, model)
        return table
    assert wanted.device is not None
    device = check_device(wanted.device)
    if request.resume and outputs.journal.exists() and outputs.latency.exists():
        table = LatencyTable.read(outputs.latency)
        _check_kept(table, outputs.latency, device, wanted, model)
        return table
    return latency_of_model(
        source,
        device,
        Workload(wanted.batch, wanted.sequence),
        threads=wanted.threads,
        on_progress=lambda what, done, total: on_stage(
            f"latency of {what} on {device}: {done} of {total} done"
        ),
    )


def budget_of(request: SearchRequest, latency: LatencyModel | None) -> Budget:
    """All limits; raises UsageError where there is none or one is no positive number."""
    size = None if request.target is None else SizeBudget(request.target, request.metadata)
    wanted = request.latency
    if latency is None or wanted is None or (wanted.seconds is None and wanted.share is None):
        return Budget(size=size)
    if wanted.seconds is not None:
        return Budget(size=size, latency=LatencyBudget(wanted.seconds, latency))
    assert wanted.share is not None
    seconds = wanted.share * latency.dense_seconds
    return Budget(size=size, latency=LatencyBudget(seconds, latency))


def coverage(request: SearchRequest, table: LatencyTable | None) -> tuple[str, ...]:
    """What the latencies of `table` are of, in words; nothing where there is no table."""
    if table is None or request.latency is None:
        return ()
    share = request.latency.share
    whole = "latencies" if share is None else f"latencies, and the budget's {share:g}x,"
    covered = (
        f"{whole} cover the whole forward pass on {table.device}"
        if table.rest
        else f"{whole} cover the encoder's linears alone: what {table.device} spends outside them "
        "is not in the table"
    )
    return (covered, *([table.disturbance] if table.disturbance else []))


def _check_fits(
    table: LatencyTable, path: Path, wanted: LatencyRequest, model: PreTrainedModel
) -> None:
    """Linears are looked up by their shape; what the table has of the rest is of one model."""
    if table.rest:
        remedy = (
            "make the table of this model with nxmi-export latency, at the batch and sequence of "
            "the search, or search at those of the table"
        )
        _check_conditions(table, path, _asked(wanted, model), remedy)


def _check_kept(
    table: LatencyTable, path: Path, device: str, wanted: LatencyRequest, model: PreTrainedModel
) -> None:
    """Before the budget is: what does not keep it by other latencies might by these."""
    asked = {"device": device, **_asked(wanted, model)}
    if device == "onnxruntime":
        asked["threads"] = wanted.threads or CHOSEN_THREADS
    remedy = (
        "resume with the settings it was made with, or pass --overwrite without --resume to "
        "start anew"
    )
    _check_conditions(table, path, asked, remedy)


def _asked(wanted: LatencyRequest, model: PreTrainedModel) -> dict[str, str | int]:
    """What conditions of a table these are."""
    encoder = encoder_in_words(model)
    return {"batch": wanted.batch, "sequence": wanted.sequence, "encoder": encoder}


def _check_conditions(
    table: LatencyTable, path: Path, asked: Mapping[str, str | int], remedy: str
) -> None:
    other = [name for name, value in asked.items() if table.conditions.get(name) != value]
    if other:
        raise UsageError(
            path,
            expected=f"latencies of {_told(asked, other)}",
            found=_told(table.conditions, other),
            remedy=remedy,
        )


def _told(conditions: Mapping[str, object], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {conditions.get(name, 'unknown')}" for name in names)


def _check(wanted: LatencyRequest) -> None:
    if (wanted.table is None) == (wanted.device is None):
        raise UsageError(
            "latency of the search",
            expected="a table or a device",
            found="neither" if wanted.table is None else "both",
            remedy="name one of the two",
        )
    if wanted.table is not None and wanted.threads is not None:
        raise UsageError(
            "latency of the search",
            expected="no number of threads beside a table",
            found=str(wanted.threads),
            remedy="leave --threads out; the table was measured with its own",
        )
    if wanted.seconds is not None and wanted.share is not None:
        raise UsageError(
            "latency budget",
            expected="a time or a share of the dense model's",
            found="both",
            remedy="give one of the two",
        )
