"""One split of `nyu-mll/glue` on the Hugging Face hub to Dataset, through the `datasets` library.

`datasets` is an optional dependency: the extra `hub`.
"""

import importlib
from pathlib import Path
from types import ModuleType

from nxmi_export.errors import CapabilityMissing, DatasetNotFound
from nxmi_export.glue.dataset import Dataset
from nxmi_export.glue.digest import sha256_of
from nxmi_export.glue.tasks import Task

__all__ = ["load_from_hub"]

HUB_NAME = "nyu-mll/glue"


def load_from_hub(task: Task, split: str) -> Dataset:
    """The split as the hub has it, downloaded or from the library's cache.

    `sha256` is that of the cached Arrow files.

    Raises CapabilityMissing without `datasets`, DatasetNotFound where the hub has no such task or
    does not answer.
    """
    if task.hub_config is None:
        raise DatasetNotFound(
            task.name,
            expected="a data directory, because the hub has no such task",
            found="none",
            remedy="give the directory of its files",
        )
    library = _datasets_library()
    try:
        rows = library.load_dataset(HUB_NAME, task.hub_config, split=split)
    # The library's own errors derive from these: no connection, no such dataset, no such config.
    except (OSError, ValueError) as error:
        raise DatasetNotFound(
            f"{task.name} {split}",
            expected=f"an answer from the hub for {HUB_NAME}",
            found=f"{type(error).__name__} ({str(error).partition(chr(10))[0]})",
            remedy="connect to the hub, or give a data directory",
        ) from error
    from nxmi_export.glue.parquet import dataset_from_table

    table = rows.with_format("arrow")[:]
    cached = [Path(file["filename"]) for file in rows.cache_files]
    source = f"{HUB_NAME}/{task.hub_config}/{split}"
    return dataset_from_table(task, split, table, source, sha256_of(cached))


def _datasets_library() -> ModuleType:
    try:
        return importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise CapabilityMissing(
            "reading GLUE from the hub",
            expected="the library datasets",
            found="none",
            remedy='run pip install "nxmi-export[hub]", or give a data directory',
        ) from error
