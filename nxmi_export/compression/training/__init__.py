"""Training with and without compression, on one process or many, resumable after any kill."""

from nxmi_export.compression.training.fine_tune import fine_tune
from nxmi_export.compression.training.options import RunOptions
from nxmi_export.compression.training.processes import join_processes
from nxmi_export.compression.training.snapshots import snapshot_step

__all__ = ["RunOptions", "fine_tune", "join_processes", "snapshot_step"]
