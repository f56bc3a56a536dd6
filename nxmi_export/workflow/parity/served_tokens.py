"""An artefact and a tokenized dev set in, a refusal out where a server would split texts otherwise.

`nxmi_export.load` reads tokenizer.json alone; transformers rebuilds parts of a tokenizer from its
other files, so that the two may differ, and then what is served is not what was measured.
"""

import numpy as np

from nxmi_export.artefact import Artefact
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import ArtefactError
from nxmi_export.runtime.text_encoder import SIDE_FILES, TOKENIZER, TextEncoder

__all__ = ["check_served_tokens"]

EXAMPLES = 1024  # of a dev set that are split again


def check_served_tokens(artefact: Artefact, data: EncodedDataset, max_length: int) -> None:
    """Compare the ids of examples spread evenly over `data`, and the padding.

    Raises ArtefactError, which names the first example that differs. An artefact without
    tokenizer.json cannot be served this way, and there is nothing to compare.
    """
    if TOKENIZER not in artefact.manifest.files or not len(data):
        return
    named = [name for name in (TOKENIZER, *SIDE_FILES) if name in artefact.manifest.files]
    encoder = TextEncoder(
        artefact.directory,
        {name: artefact.path(name).read_bytes() for name in named},
        input_names=artefact.manifest.input_names,
        max_length=max_length,
    )
    count = min(EXAMPLES, len(data))
    sample = data.select(np.linspace(0, len(data) - 1, count).astype(np.int64))
    columns = sample.dataset.texts
    served = encoder.encode(list(columns[0] if len(columns) == 1 else zip(*columns, strict=True)))
    for place, (ours, trained) in enumerate(zip(served, sample.rows, strict=True)):
        if not all(np.array_equal(ours[name], ids) for name, ids in trained.items()):
            named_example = f"example {sample.dataset.ids[place]} of {sample.dataset.task.name}"
            raise _differs(artefact, "the token ids of training", f"others for {named_example}")
    if encoder.padding != dict(sample.padding):
        wanted, found = (each["input_ids"] for each in (sample.padding, encoder.padding))
        raise _differs(artefact, f"the padding of training, {wanted}", f"{found}")


def _differs(artefact: Artefact, expected: str, found: str) -> ArtefactError:
    return ArtefactError(
        artefact.directory / TOKENIZER,
        expected=expected,
        found=found,
        remedy="save the tokenizer again with tokenizer.save_pretrained beside the model it was "
        "compressed from, and repeat compression and export",
    )
