"""A dense Hugging Face model and texts to calibrate on in, optimum's two INT8 files out.

    VENV/bin/python make_optimum.py DENSE_DIR CALIBRATION.npz OUTPUT_DIR --processor avx2

Runs where requirements-optimum.txt is installed, so it imports nothing of this project. optimum
exports the model itself; settings are its own for this kind of processor, and MinMax ranges.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationMethod
from optimum.onnxruntime import (
    AutoQuantizationConfig,
    ORTModelForSequenceClassification,
    ORTQuantizer,
)
from optimum.onnxruntime.configuration import CalibrationConfig

NAME, QUANTIZED = "model.onnx", "model_quantized.onnx"  # as optimum writes them


def main() -> None:
    """Write optimum_dynamic.onnx and optimum_static.onnx."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dense", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--processor", choices=("avx2", "avx512_vnni"), required=True)
    arguments = parser.parse_args()
    with np.load(arguments.calibration) as stored:
        feeds = {name: stored[name] for name in stored.files}
    count = len(next(iter(feeds.values())))
    texts = [{name: rows[at].tolist() for name, rows in feeds.items()} for at in range(count)]
    configure = getattr(AutoQuantizationConfig, arguments.processor)
    # Beside the output, so that a finished file need not be copied to it.
    with tempfile.TemporaryDirectory(dir=arguments.output) as folder:
        exported = Path(folder)
        ORTModelForSequenceClassification.from_pretrained(
            arguments.dense, export=True
        ).save_pretrained(exported)
        for kind in ("dynamic", "static"):
            quantizer = ORTQuantizer.from_pretrained(exported, file_name=NAME)
            config = configure(is_static=kind == "static")
            ranges = _ranges(quantizer, config, texts) if kind == "static" else None
            quantizer.quantize(config, save_dir=exported / kind, calibration_tensors_range=ranges)
            made = exported / kind / QUANTIZED
            made.replace(arguments.output / f"optimum_{kind}.onnx")


def _ranges(quantizer: ORTQuantizer, config: Any, texts: list[dict[str, list[int]]]) -> Any:
    calibration = CalibrationConfig(
        dataset_name="mrpc",
        dataset_config_name="",
        dataset_split="train",
        dataset_num_samples=len(texts),
        method=CalibrationMethod.MinMax,
    )
    with tempfile.TemporaryDirectory() as folder:
        return quantizer.fit(
            texts,
            calibration,
            onnx_augmented_model_name=Path(folder) / "augmented.onnx",
            operators_to_quantize=config.operators_to_quantize,
        )


if __name__ == "__main__":
    main()
