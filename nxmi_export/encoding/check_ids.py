"""Tokenized texts and a configuration in, a refusal out where the model's tables lack their ids."""

from collections.abc import Mapping
from typing import Any

from nxmi_export.encoding.dataset import EncodedDataset
from nxmi_export.errors import CheckpointError

__all__ = ["check_ids"]

_TABLES = {
    "input_ids": ("vocab_size", "save the tokenizer that the model was trained with beside it"),
    "token_type_ids": ("type_vocab_size", "use a model that was trained on pairs of texts"),
}


def check_ids(data: EncodedDataset, config: Mapping[str, Any], *, source: object) -> None:
    """Raise CheckpointError for the first input with an id that the model's table has no row for.

    What fills up shorter texts counts where texts are not all of one length. `config` is a
    transformers configuration as plain data.
    """
    for name, (key, remedy) in _TABLES.items():
        if name not in data.rows.ids or config.get(key) is None:
            continue
        highest = int(data.rows.ids[name].max(initial=0))
        if len(set(data.lengths.tolist())) > 1:
            highest = max(highest, data.padding[name])
        if highest >= int(config[key]):
            raise CheckpointError(
                source,
                expected=f"{name} below its {key}, {config[key]}",
                found=f"{highest} in {data.dataset.task.name} {data.dataset.split}",
                remedy=remedy,
            )
