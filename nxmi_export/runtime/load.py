"""A directory in, the model in it ready to predict out; every file that is read is checked."""

import json
import os
from pathlib import Path
from typing import Literal

from nxmi_export.artefact_files import CPU_MODEL, MANIFEST, MODEL, tensor_files
from nxmi_export.backends.names import Backend
from nxmi_export.backends.onnxruntime_options import FLOAT_PRODUCTS
from nxmi_export.errors import ArtefactError, UnsupportedModel, UsageError
from nxmi_export.glue.tasks import TASKS
from nxmi_export.model_facts import model_facts
from nxmi_export.runtime.choose_backend import Chosen, choose_backend
from nxmi_export.runtime.openvino_session import OpenVinoSession
from nxmi_export.runtime.prediction import Head
from nxmi_export.runtime.served_files import ServedFiles
from nxmi_export.runtime.session import Session
from nxmi_export.runtime.task_model import Batching, Executes, TaskModel
from nxmi_export.runtime.text_encoder import CONFIG, SIDE_FILES, TOKENIZER, TextEncoder

__all__ = ["load"]

BATCH_TOKENS = 1024  # as parity's own batches
_AUTO = "auto"
_FILES = {Backend.ONNXRUNTIME: CPU_MODEL, Backend.OPENVINO: MODEL}


def load(
    directory: str | os.PathLike[str],
    *,
    backend: Literal["onnxruntime", "openvino", "auto"] = "onnxruntime",
    file: str | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    max_length: int | None = None,
) -> TaskModel:
    """The model of an artefact, ready to predict; hashes of all files that it reads are checked.

    `backend` is the library to run it with, "auto" the fastest by the bench.json beside it, if that
    is of as many threads and a parity report there passed with it, or else onnxruntime;
    `backend_reason` of the model says why. `file` is the ONNX file to run, by default the one that
    was made for the library. `threads` are those of one operator, for all callers together in
    onnxruntime, for each call in OpenVINO, where as many calls run at once as there are processors
    for; None leaves the choice to the library, and OpenVINO then runs one call after the other:
    take 1 where as many callers predict at once as there are processors, and all processors for one
    caller that waits. A batch holds at most `batch_tokens` tokens, padding included, and at most
    `batch_size` texts. Texts are truncated to `max_length` tokens, by default to those of training,
    or else to as many as the model has positions. Load after a fork, not before: threads do not
    survive one.

    Raises ArtefactError for a directory, manifest or file that cannot be used, UsageError for a
    number or name that cannot be, CapabilityMissing without the library or tokenizers.
    """
    _check_counts(threads=threads, batch_size=batch_size, batch_tokens=batch_tokens)
    _check_backend(backend)
    served = ServedFiles.read(Path(directory))
    files = _tokenizer_files(served)
    encoder = TextEncoder(
        served.directory,
        files,
        input_names=served.input_names,
        max_length=_length(served, max_length),
    )
    _check_facts(served, files[CONFIG])
    chosen = _chosen(served, backend, file, threads)
    return TaskModel(
        str(served.directory),
        encoder,
        _session(served, chosen.backend, file, threads),
        Head.of(served.labels, json.loads(files[CONFIG]).get("problem_type")),
        chosen=chosen,
        columns=served.texts or _columns(served.task),
        batching=Batching(batch_tokens, batch_size),
    )


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 1):
            raise UsageError(
                name, expected="a whole number from 1", found=repr(count), remedy="correct it"
            )


def _check_backend(name: str) -> None:
    if name != _AUTO and name not in tuple(Backend):
        raise UsageError(
            "backend",
            expected=f"{', '.join(Backend)} or {_AUTO}",
            found=repr(name),
            remedy="name one of them",
        )


def _chosen(served: ServedFiles, name: str, file: str | None, threads: int | None) -> Chosen:
    if name != _AUTO:
        return Chosen(Backend(name), "it was asked for")
    if file is not None:
        return Chosen(
            Backend.ONNXRUNTIME, f"{file} was asked for, and only the default files are compared"
        )
    return choose_backend(served, threads)


def _columns(task: str | None) -> int | None:
    """How many texts make one input of the task; None where that is not known."""
    return None if task is None or task not in TASKS else len(TASKS[task].text_columns)


def _tokenizer_files(served: ServedFiles) -> dict[str, bytes]:
    if TOKENIZER not in served.hashes:
        raise ArtefactError(
            served.directory,
            expected=f"an artefact with {TOKENIZER}, for texts to be encoded without transformers",
            found="none",
            remedy="save a fast tokenizer beside the model with tokenizer.save_pretrained, and "
            "export it again",
        )
    present = [name for name in SIDE_FILES if name in served.hashes or name == CONFIG]
    return {name: served.content(name) for name in (TOKENIZER, *present)}


def _check_facts(served: ServedFiles, config: bytes) -> None:
    """The manifest has no hash, and the configuration has."""
    try:
        facts = model_facts(json.loads(config))
    except (UnsupportedModel, TypeError, ValueError) as error:
        raise ArtefactError(
            served.directory / CONFIG,
            expected="the configuration of a transformers encoder",
            found=str(error),
            remedy="export the model again, or restore the file",
        ) from error
    for name in ("labels", "input_names", "position_limit"):
        expected, found = getattr(facts, name), getattr(served, name)
        if expected != found:
            raise ArtefactError(
                served.directory / MANIFEST,
                expected=f"the {name} of {CONFIG}, {json.dumps(expected)}",
                found=json.dumps(found),
                remedy="export the model again, or restore the file",
            )


def _length(served: ServedFiles, asked: int | None) -> int:
    _check_counts(max_length=asked)
    limit = served.position_limit
    if asked is not None and asked > limit:
        raise UsageError(
            "max_length",
            expected=f"at most the {limit} positions of the model",
            found=f"{asked}",
            remedy="truncate to fewer tokens",
        )
    return asked or min(served.trained_length or limit, limit)


def _session(
    served: ServedFiles, backend: Backend, file: str | None, threads: int | None
) -> Executes:
    file = file or _FILES[backend]
    content = served.content(file)
    for name in sorted(tensor_files(content, served.directory / file)):
        served.check(name)
    if backend is Backend.OPENVINO:
        return OpenVinoSession(
            served.directory / file,
            input_names=served.input_names,
            outputs=len(served.labels),
            threads=threads,
        )
    return Session(
        served.directory / file,
        content,
        input_names=served.input_names,
        outputs=len(served.labels),
        threads=threads,
        # Those of the manifest are of one file; that floats stay floats is right for each.
        entries=served.session_options if file == CPU_MODEL else FLOAT_PRODUCTS,
    )
