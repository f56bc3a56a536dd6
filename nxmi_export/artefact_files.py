"""What the files of an artefact are called, and what tells their contents apart: their SHA-256.

Needs nothing but Python, so that whoever serves an artefact needs no more than that of it.
"""

import hashlib
from pathlib import Path

__all__ = [
    "BENCH",
    "BUILD_LOG",
    "CERTIFICATE",
    "CPU_MODEL",
    "ENGINE_FACTS",
    "FP16_MODEL",
    "FP16_WEIGHTS",
    "INT4_MODEL",
    "INT4_WEIGHTS",
    "MANIFEST",
    "MODEL",
    "PLAN",
    "WEIGHTS",
    "sha256_of",
]

MANIFEST = "manifest.json"
MODEL = "model.onnx"  # for TensorRT, and portable
CPU_MODEL = "model.cpu.onnx"  # for onnxruntime on CPU
FP16_MODEL = "model.fp16.onnx"  # for TensorRT: model.onnx with float16 where that is safe
INT4_MODEL = "model.int4.onnx"  # for TensorRT: model.fp16.onnx, or model.onnx, with INT4 blocks
WEIGHTS = "model.onnx.data"  # the tensors of all; each file refers to the same bytes
FP16_WEIGHTS = "model.fp16.onnx.data"  # what FP16_MODEL alone has: its float16 tensors
INT4_WEIGHTS = "model.int4.onnx.data"  # what INT4_MODEL alone has: its codes and scales
PLAN = "model.plan"  # the engine
BUILD_LOG = "build.log"  # of the engine
ENGINE_FACTS = "engine.json"  # what was built, by what, and what its log proves
CERTIFICATE = "certificate.json"  # what is proved of each of the files above
BENCH = "bench.json"  # how long they take on some machine; the manifest does not list it


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, never held in memory whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
