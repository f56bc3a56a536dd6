"""Things that run one model in, how long each takes for each shape of batch out.

What loads PyTorch or a backend is imported from its own module: `dense_model`, `operations`,
`measure_peaks`.
"""

from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.contender import Alone, Contender, NotRun
from nxmi_export.bench.latency_statistics import Latency, Speedup
from nxmi_export.bench.measure import BenchSettings, measure
from nxmi_export.bench.memory import Memory
from nxmi_export.bench.result import SCHEMA, BenchResult, Measured, WorkloadResult
from nxmi_export.bench.stored_result import model_files, read_bench
from nxmi_export.bench.texts import Texts
from nxmi_export.bench.workloads import parse_workloads

__all__ = [
    "SCHEMA",
    "Alone",
    "BenchResult",
    "BenchSettings",
    "Contender",
    "Latency",
    "Measured",
    "Memory",
    "NotRun",
    "Speedup",
    "Texts",
    "WorkloadResult",
    "batch_for",
    "measure",
    "model_files",
    "parse_workloads",
    "read_bench",
]
