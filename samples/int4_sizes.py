"""What weights cost in an engine: plan bytes of one encoder in float32, INT8, INT4 and its blocks.

    python -m samples.int4_sizes

Random weights of a small BERT, each quantized alone; TensorRT-RTX builds for SM86 without a GPU.
"""

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers import BertConfig

from nxmi_export.artefact import Artefact
from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    Library,
    Precision,
    ShapeProfile,
    find_library,
)
from nxmi_export.recipe import Placement, Recipe, Scheme
from nxmi_export.workflow.build import build
from nxmi_export.workflow.export import ExportRequest, export
from samples.random_bert import write_random_bert

__all__ = ["BLOCKS", "main", "sizes"]

BLOCKS = (16, 32, 64, 128)
CONFIG = BertConfig(
    vocab_size=96,
    max_position_embeddings=64,
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=2,
    num_attention_heads=8,
)


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    library = find_library("tensorrt_rtx")
    with tempfile.TemporaryDirectory() as folder:
        found = sizes(Path(folder), library, CONFIG)
    table = Table(title=f"plans by {library.name} {library.version}", title_justify="left")
    for heading in ("weights", "plan bytes", "of float32"):
        table.add_column(heading, justify="right")
    for name, size in found.items():
        table.add_row(name, f"{size:,}", f"{size / found['float32']:.1%}")
    Console().print(table)
    if arguments.json:
        facts = {"library": {"name": library.name, "version": library.version}, "bytes": found}
        arguments.json.write_text(f"{json.dumps(facts, indent=1)}\n", encoding="utf-8")


def sizes(folder: Path, library: Library, config: BertConfig) -> dict[str, int]:
    """Plan bytes by what is stored; everything is made under `folder`."""
    found = {}
    for scheme, name in (("dense", "float32"), ("int8", "INT8")):
        artefact = _exported(folder / scheme, scheme, config, None)
        found[name] = _plan_bytes(artefact, library, Precision.FP32)
    for block in BLOCKS:
        artefact = _exported(folder / f"int4-{block}", "int4", config, block)
        found[f"INT4, blocks of {block}"] = _plan_bytes(artefact, library, Precision.INT4)
    return found


def _exported(folder: Path, scheme: str, config: BertConfig, block: int | None) -> Artefact:
    folder.mkdir()
    recipe = Recipe(default=Scheme.parse(scheme), placement=Placement.WEIGHTS)
    write_random_bert(folder / "model.pt", config=config, recipe=recipe)
    request = ExportRequest(str(folder / "model.pt"), folder / "model.artefact", int4_blocks=block)
    return export(request)


def _plan_bytes(artefact: Artefact, library: Library, precision: Precision) -> int:
    report = build(
        artefact,
        profiles=[ShapeProfile.parse("min=1x8,opt=8x32,max=8x64", position_limit=64)],
        library=library,
        options=EngineOptions(compute_capabilities=("sm86",)),
        precision=precision,
    )
    return report.result.size_bytes


if __name__ == "__main__":
    main()
