"""An artefact and its dev set in, logits and values inside its graph out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nxmi_export.artefact import read_artefact
from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import Batch, EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset
from nxmi_export.parity.logits import logits_of
from samples.fault_injection.projects import Projects

__all__ = ["dev_set", "logits_of_file", "unread_token", "values_of_file", "vocabulary"]

_EXAMPLES = 64
_BATCH = 8


def dev_set(artefact: Path, projects: Projects, examples: int | None = _EXAMPLES) -> EncodedDataset:
    """The first examples, or all for None, tokenized as the artefact's own tokenizer does."""
    opened = read_artefact(artefact)
    data = encode(
        load_dataset(projects.task, projects.task.dev_splits[0], projects.data),
        load_tokenizer(read_tokenizer_files(artefact), source=artefact),
        input_names=opened.manifest.input_names,
        max_length=min(128, opened.manifest.position_limit),
    )
    return data if examples is None else data.select(np.arange(min(examples, len(data))))


def vocabulary(artefact: Path) -> frozenset[int]:
    """Every id that the artefact's tokenizer can give."""
    tokenizer = load_tokenizer(read_tokenizer_files(artefact), source=artefact)
    return frozenset(tokenizer.get_vocab().values())


def unread_token(artefact: Path, projects: Projects) -> int:
    """The last id of the tokenizer that no text of the dev set holds."""
    data = dev_set(artefact, projects, examples=None)
    held = set(np.unique(data.rows.ids["input_ids"]).tolist())
    return max(vocabulary(artefact) - held)


def logits_of_file(path: Path, data: EncodedDataset, *, optimize: bool) -> npt.NDArray[Any]:
    """(examples, outputs), in batches padded to their longest text."""
    with OnnxRuntimeRunner(path, optimize=optimize, threads=1) as runner:
        return logits_of(runner, data, list(data.cut(_BATCH)))


def values_of_file(
    path: Path, data: EncodedDataset, tensors: Sequence[str]
) -> Iterator[tuple[Batch, Outputs]]:
    """Tensors inside the graph as written, batch by batch."""
    names = tuple(dict.fromkeys(tensors))
    with OnnxRuntimeRunner(path, optimize=False, threads=1, extra_outputs=names) as runner:
        for together in data.cut(_BATCH):
            batch = data.batch(together)
            yield batch, runner.run(batch.feeds)
