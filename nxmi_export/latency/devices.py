"""A device's name in, the latency table of linears on it out: measured here, or computed."""

import difflib
from collections.abc import Sequence

from nxmi_export.errors import UsageError
from nxmi_export.latency.gpus import GPUS
from nxmi_export.latency.interleaved import OnRound
from nxmi_export.latency.roofline import roofline
from nxmi_export.latency.shapes import LinearShape
from nxmi_export.latency.table import LatencyTable

__all__ = ["DEVICES", "MEASURED", "check_device", "table_for"]

MEASURED = ("onnxruntime", "tensorrt")
"""Devices that are timed, on this machine."""

DEVICES = (*MEASURED, *GPUS)


def check_device(device: str) -> str:
    """The name as it is known here; raises UsageError, naming the likely one, for another."""
    name = device.lower()
    if name in DEVICES:
        return name
    likely = difflib.get_close_matches(name, DEVICES, n=1)
    raise UsageError(
        f"device {device!r}",
        expected=f"one of {', '.join(DEVICES)}",
        found="an unknown one",
        remedy=f"did you mean {likely[0]}?" if likely else "name one of these",
    )


def table_for(
    device: str,
    shapes: Sequence[LinearShape],
    rows: int,
    *,
    threads: int | None = None,
    on_round: OnRound = lambda done, total: None,
) -> LatencyTable:
    """The table of `shapes` at `rows` (batch × sequence); `threads` bounds onnxruntime's.

    Raises UsageError for an unknown device and for threads of a device that has none,
    CapabilityMissing for one that this machine lacks.
    """
    name = check_device(device)
    if threads is not None and name != "onnxruntime":
        raise UsageError(
            f"device {name}",
            expected="no number of threads",
            found=str(threads),
            remedy="leave --threads out; it is onnxruntime's",
        )
    # Imported late: a datasheet's roofline needs neither library.
    if name == "onnxruntime":
        from nxmi_export.latency.measure_onnxruntime import measure_onnxruntime

        return measure_onnxruntime(shapes, rows, threads=threads, on_round=on_round)
    if name == "tensorrt":
        from nxmi_export.latency.measure_tensorrt import measure_tensorrt

        return measure_tensorrt(shapes, rows, on_round=on_round)
    return roofline(name, shapes, rows)
