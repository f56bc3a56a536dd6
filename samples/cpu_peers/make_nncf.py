"""A dense ONNX file and calibration batches in, NNCF's INT8 model for OpenVINO out.

    VENV/bin/python make_nncf.py DENSE.onnx CALIBRATION.npz OUTPUT.xml

Runs where requirements-nncf.txt is installed, so it imports nothing of this project. It is told
that this is a transformer for a processor; everything else is its default.
"""

import argparse
from pathlib import Path

import nncf
import numpy as np
import openvino


def main() -> None:
    """Quantize the file that was named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dense", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with np.load(arguments.calibration) as stored:
        feeds = {name: stored[name] for name in stored.files}
    texts = [
        {name: rows[at : at + 1] for name, rows in feeds.items()}
        for at in range(len(next(iter(feeds.values()))))
    ]
    quantized = nncf.quantize(
        openvino.convert_model(arguments.dense),
        nncf.Dataset(texts),
        subset_size=len(texts),
        model_type=nncf.ModelType.TRANSFORMER,
        target_device=nncf.TargetDevice.CPU,
    )
    openvino.save_model(quantized, arguments.output)


if __name__ == "__main__":
    main()
