"""MRPC as Microsoft published it, `msr_paraphrase_train.txt`, split as GLUE split it.

GLUE may not redistribute the corpus; it gives the identifiers of the dev pairs, `dev_ids.tsv`,
and everybody cuts the published file in two. Row numbers are those of the published file, which
is how the hub numbers MRPC too.
"""

from collections.abc import Iterator
from pathlib import Path

from nxmi_export.glue.dataset import Dataset
from nxmi_export.glue.tasks import TRAIN_SPLIT, Task
from nxmi_export.glue.tsv import Row, dataset_from_rows, numbered_rows

__all__ = ["DEV_IDS_FILE", "PUBLISHED_FILE", "read_paraphrases"]

PUBLISHED_FILE = "msr_paraphrase_train.txt"
DEV_IDS_FILE = "dev_ids.tsv"

PAIR_IDS = ("#1 ID", "#2 ID")


def read_paraphrases(task: Task, split: str, published: Path, dev_ids: Path) -> Dataset:
    """The pairs of `published` that are listed in `dev_ids`, or for the train split the others.

    Raises InvalidDataset as `read_tsv` does.
    """
    held_out = {_pair(row) for row in numbered_rows(dev_ids, PAIR_IDS, header=PAIR_IDS)}

    def in_split() -> Iterator[Row]:
        for row in numbered_rows(published, (*PAIR_IDS, task.tsv.label_column)):
            if (_pair(row) in held_out) == (split != TRAIN_SPLIT):
                yield row

    return dataset_from_rows(task, split, in_split(), [published, dev_ids])


def _pair(row: Row) -> tuple[str | None, ...]:
    return tuple(row.cells.get(name) for name in PAIR_IDS)
