"""A dense ONNX file and calibration batches in, onnxruntime's own two INT8 files out.

    python -m samples.cpu_peers.make_onnxruntime DENSE.onnx CALIBRATION.npz OUTPUT_DIR

`quantize_dynamic` with its defaults; `quantize_static` of uint8 activations and int8 weights, what
its documentation recommends for processors, and everything else its default.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

from samples.other_tools import Feeds, Sentences

__all__ = ["DYNAMIC", "STATIC", "main", "quantize_both"]

DYNAMIC, STATIC = "quantize_dynamic.onnx", "quantize_static.onnx"
BATCH = 8


def main() -> None:
    """Quantize the file that was named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dense", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    quantize_both(arguments.dense, arguments.calibration, arguments.output)


def quantize_both(dense: Path, calibration: Path, output: Path) -> None:
    """Write both files, weights inside."""
    quantize_dynamic(dense, output / DYNAMIC)
    quantize_static(
        dense,
        output / STATIC,
        Sentences(_batches(calibration)),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _batches(calibration: Path) -> Iterator[Feeds]:
    with np.load(calibration) as stored:
        feeds = {name: stored[name] for name in stored.files}
    for at in range(0, len(next(iter(feeds.values()))), BATCH):
        yield {name: rows[at : at + BATCH] for name, rows in feeds.items()}


if __name__ == "__main__":
    main()
