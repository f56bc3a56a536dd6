"""How a session of onnxruntime is set up: so that its products are those of the graph, everywhere.

On x86 without VNNI instructions onnxruntime multiplies uint8 by int8 with `vpmaddubsw`, which
adds two products in 16 bits and saturates: 2 · 255 · 127 is twice what fits. Where floats meet
stored integers it rounds the floats to 8 bits, one scale for every 32, although the graph rounds
none. Nothing warns of either. The entries below take exact kernels. Those for integers are taken
only where the others lose sums: with AVX512-VNNI they give the same bits at about half the speed.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from nxmi_export.backends.onnxruntime_saturation import loses_sums, saturates_here
from nxmi_export.errors import CapabilityMissing

__all__ = ["EXACT_PRODUCTS", "FLOAT_PRODUCTS", "WITHOUT_FUSIONS", "needed_here", "session_options"]

EXACT_PRODUCTS: Mapping[str, str] = MappingProxyType({"session.x64quantprecision": "1"})
"""Entries for integer products; `session_options` sets them where they are needed."""

FLOAT_PRODUCTS: Mapping[str, str] = MappingProxyType(
    {"session.qdq_matmulnbits_accuracy_level": "1"}
)
"""Entries for products of floats and stored integers: sums in float32 (4, the default, is int8)."""

WITHOUT_FUSIONS = "optimization.disable_specified_optimizers"
"""The key of an entry that names fusions to leave out, separated by semicolons."""

# Lets a model given as bytes find its external weights beside the file it came from.
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_FATAL_ONLY = 4  # onnxruntime's log severity; refusals reach the caller as exceptions.


def session_options(
    ort: ModuleType,
    folder: Path,
    *,
    optimize: bool,
    threads: int | None,
    entries: Mapping[str, str],
) -> Any:
    """`onnxruntime.SessionOptions` for a file in `folder`, with further configuration `entries`.

    `optimize` allows every fusion or none; `threads` bounds those of one operator, None leaves the
    choice to onnxruntime. Raises CapabilityMissing as `needed_here` does.
    """
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry(_EXTERNAL_FOLDER, str(folder.resolve()))
    # Else its threads spin on after a run, on the processors of whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for key, value in needed_here(entries).items():
        options.add_session_config_entry(key, value)
    return options


def needed_here(entries: Mapping[str, str]) -> Mapping[str, str]:
    """Those of `entries` that products need on this processor in order to be exact.

    Raises CapabilityMissing where sums are lost with the entries for exact ones and without.
    """
    if not EXACT_PRODUCTS.items() <= entries.items():
        return entries
    if not saturates_here():
        return {key: each for key, each in entries.items() if key not in EXACT_PRODUCTS}
    if loses_sums(EXACT_PRODUCTS):
        raise CapabilityMissing(
            "onnxruntime",
            expected="exact sums of integer products on this processor",
            found="others, with the options for them and without",
            remedy="use another release of onnxruntime",
        )
    return entries
