"""What the files of an artefact are called, what they read, and what tells their contents apart.

Needs nothing but Python, so that whoever serves an artefact needs no more than that of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nxmi_export.errors import ArtefactError

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
    "facts_sha256",
    "sha256_of",
    "tensor_files",
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


# What is no fact of the model: files have hashes of their own, and an export may be repeated.
_NO_FACTS = {"created", "files"}
# Of ONNX's messages, the fields that lead to tensors, by number, and what they hold.
_LEADING = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        10: "tensor",
        6: "graph",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # of an entry
_VARINT, _EIGHT_BYTES, _SIZED, _GROUP, _END, _FOUR_BYTES = range(6)  # how protobuf writes a field
_TAG_BITS = 32


def facts_sha256(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of all that a manifest, as JSON has it, says besides its files.

    What says nothing is as if it was left out, as by a version that did not know of it.
    """
    facts = _said({name: fact for name, fact in manifest.items() if name not in _NO_FACTS})
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _said(fact: Any) -> Any:
    if not isinstance(fact, Mapping):
        return fact
    said = {name: _said(each) for name, each in fact.items()}
    return {name: each for name, each in said.items() if each not in (None, {}, [])}


def tensor_files(model: bytes, path: Path) -> set[str]:
    """The files in which an ONNX model, serialized, has tensors, as it names them.

    Raises ArtefactError for what is no message, by the name of its file: what cannot be read here
    might be read there.
    """
    found: set[str] = set()
    try:
        _add_files(memoryview(model), "model", found)
    except (IndexError, ValueError) as error:
        raise ArtefactError(
            path,
            expected="a readable ONNX model",
            found=str(error) if isinstance(error, ValueError) else "one that is cut off",
            remedy="export the model again, or restore the file",
        ) from error
    return found


def _add_files(message: memoryview, kind: str, found: set[str]) -> None:
    if kind == "entry":
        entry = {number: bytes(part) for number, part in _parts(message)}
        if entry.get(_KEY) == b"location":
            found.add(entry.get(_VALUE, b"").decode("utf-8", "replace"))
        return
    for number, part in _parts(message):
        if number in _LEADING[kind]:
            _add_files(part, _LEADING[kind][number], found)


def _parts(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Every field that has a size, which texts and messages have; those of groups are unknown ones.

    Raises ValueError or IndexError where it breaks off.
    """
    at = groups = 0
    while at < len(message):
        tag, at = _varint(message, at, _TAG_BITS)
        number, written = tag >> 3, tag & 7
        if written == _VARINT:
            _, at = _varint(message, at, 64)
        elif written == _SIZED:
            size, at = _varint(message, at, _TAG_BITS)
            if not groups:
                yield number, message[at : at + size]
            at += size
        elif written in (_GROUP, _END):
            groups += 1 if written == _GROUP else -1
        elif written in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if written == _EIGHT_BYTES else 4
        else:
            raise ValueError("no protobuf")
        if at > len(message) or groups < 0:
            raise ValueError("one that is cut off")
    if groups:
        raise ValueError("one that is cut off")


def _varint(message: memoryview, at: int, bits: int) -> tuple[int, int]:
    """A number in groups of seven bits, the least first, and where the next field is."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            if value >> bits:  # which others cut to its lower bits
                raise ValueError("no protobuf")
            return value, at


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, never held in memory whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
