"""Kept models of finished cells in, the share of moved mask entries in their results out."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import restore
from nxmi_export.workflow.compress.stored import magnitude_masks_of, moved_of, stored_layers
from samples.cell_table import read_result
from samples.glue_table.cells import DENSE, Cell

__all__ = ["recount"]


@torch.no_grad()
def recount(
    chosen: Iterable[Cell], models: Path, results: Path
) -> Iterator[tuple[Cell, float | None]]:
    """Of these cells those whose model and dense model are kept, with their shares.

    A file that told another is written again, with nothing else changed.
    """
    for cell in chosen:
        result = read_result(cell.name, results)
        kept = models / cell.name / "model.pt"
        dense = models / Cell(cell.task, DENSE, cell.seed).name / "dense"
        if result is None or cell.method == DENSE or not (kept.exists() and dense.exists()):
            continue
        model = restore(read_checkpoint(str(kept)))
        masks = magnitude_masks_of(model, read_checkpoint(str(dense)).state)
        moved = moved_of(stored_layers(model, masks).values())
        if result.get("mask_moved", moved) != moved:
            path = results / f"{cell.name}.json"
            path.write_text(json.dumps(result | {"mask_moved": moved}, indent=1) + "\n")
        yield cell, moved
