"""A task and an artefact in, its texts out as two ways to batch them."""

import numpy as np

from nxmi_export.artefact import Artefact
from nxmi_export.bench import Texts
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import EncodedDataset, check_ids, encode, load_tokenizer
from nxmi_export.glue import load_dataset
from nxmi_export.workflow.bench.contenders import model_config
from nxmi_export.workflow.bench.request import TextsRequest

__all__ = ["texts_to_time"]

_TOGETHER = 32  # examples of a batch that is padded to one length


def texts_to_time(artefact: Artefact, request: TextsRequest) -> tuple[Texts, Texts]:
    """The same texts by length, as `load` and parity batch them, and in the plain way.

    Raises DataError where the task's dev split cannot be read, and CheckpointError for a tokenizer
    that does not fit the model.
    """
    split = request.task.dev_splits[0]
    dataset = load_dataset(request.task, split, request.data_dir).head(request.examples)
    manifest = artefact.manifest
    limit = min(request.max_length, manifest.position_limit)
    data = encode(
        dataset,
        load_tokenizer(
            read_tokenizer_files(artefact.directory),
            source=artefact.directory,
            model_type=manifest.model_type,
        ),
        input_names=manifest.input_names,
        max_length=limit,
    )
    check_ids(data, model_config(artefact), source=artefact.directory)
    source = f"{len(data)} of {request.task.name} {split}"
    by_length = data.bucketed(request.batch_tokens)
    plain = data.cut(_TOGETHER, order=np.arange(len(data)))
    return (
        _texts(
            data, source, f"by length, at most {request.batch_tokens} tokens a batch", by_length
        ),
        _texts(data, source, f"{_TOGETHER} a batch, padded to {limit} tokens", plain, limit),
    )


def _texts(
    data: EncodedDataset,
    source: str,
    batching: str,
    batches: list[np.ndarray[tuple[int], np.dtype[np.int64]]],
    pad_to: int | None = None,
) -> Texts:
    return Texts(
        source,
        batching,
        examples=len(data),
        tokens=int(data.lengths.sum()),
        batches=tuple(data.padded(indices, pad_to) for indices in batches),
    )
