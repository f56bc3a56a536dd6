"""A task, a split and a place to a Dataset: Parquet or TSV files in a directory, or the hub."""

from collections.abc import Iterator
from pathlib import Path

from nxmi_export.errors import DatasetNotFound
from nxmi_export.glue.dataset import Dataset
from nxmi_export.glue.hub import load_from_hub
from nxmi_export.glue.paraphrases import DEV_IDS_FILE, PUBLISHED_FILE, read_paraphrases
from nxmi_export.glue.tasks import TRAIN_SPLIT, Task
from nxmi_export.glue.tsv import read_tsv

__all__ = ["load_dataset"]


def load_dataset(task: Task, split: str, data_dir: Path | None) -> Dataset:
    """The labelled rows of `split`, read from `data_dir`, or from the hub where it is None.

    `data_dir` holds a folder for the task, or is that folder. Per folder the first that exists is
    read, and `Dataset.source` names it:

    1. `<split>.parquet`, or the hub's `<split>-00000-of-00001.parquet`, in the folder `sst2`;
    2. for MRPC the pair `msr_paraphrase_train.txt` and `dev_ids.tsv`, in the folder `MRPC`;
    3. the classic `train.tsv`, `dev.tsv` (MNLI: `dev_matched.tsv`), in the folder `SST-2`;
    4. for the train split, `train_subset.parquet`.

    Raises DatasetNotFound for a split without labels and where there is no such file,
    InvalidDataset for a file that is not the task's, CapabilityMissing for the hub without its
    library.
    """
    _check_split(task, split)
    if data_dir is None:
        return load_from_hub(task, split)
    candidates = list(_candidates(task, split, data_dir))
    for paths in candidates:
        if all(path.is_file() for path in paths):
            return _read(task, split, paths)
    tried = (" with ".join(str(path) for path in paths) for paths in candidates)
    raise DatasetNotFound(
        f"{task.name} {split}",
        expected=f"one of {', '.join(tried)}",
        found="none of these files" if data_dir.is_dir() else f"no directory {data_dir}",
        remedy="give the directory that holds the task's files"
        + (", or none to read the hub" if task.hub_config else ""),
    )


def _check_split(task: Task, split: str) -> None:
    if split in task.splits:
        return
    raise DatasetNotFound(
        f"{task.name}, split",
        expected=f"one of {', '.join(task.splits)}",
        found=repr(split),
        remedy="test splits carry no labels, so there is nothing to score on them"
        if split.startswith("test")
        else "choose one of these",
    )


def _candidates(task: Task, split: str, data_dir: Path) -> Iterator[tuple[Path, ...]]:
    """The files that would hold the split, best first; a tuple is needed as a whole."""
    for folder in (data_dir / task.name, data_dir):
        yield (folder / f"{split}.parquet",)
        yield (folder / f"{split}-00000-of-00001.parquet",)
    for folder in (data_dir / task.tsv.folder, data_dir):
        if task.name == "mrpc":
            yield (folder / PUBLISHED_FILE, folder / DEV_IDS_FILE)
        yield (folder / f"{split.replace('validation', 'dev')}.tsv",)
    if split == TRAIN_SPLIT:
        for folder in (data_dir / task.name, data_dir):
            yield (folder / f"{TRAIN_SPLIT}_subset.parquet",)


def _read(task: Task, split: str, paths: tuple[Path, ...]) -> Dataset:
    match paths:
        case (published, dev_ids):
            return read_paraphrases(task, split, published, dev_ids)
        case (path,) if path.suffix == ".parquet":
            # Here, so that tasks and tokens need no pyarrow.
            from nxmi_export.glue.parquet import read_parquet

            return read_parquet(task, split, path)
        case _:
            return read_tsv(task, split, paths[0])
