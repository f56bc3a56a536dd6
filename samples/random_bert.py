"""A BERT-base with random weights, compressed to 2:4 + INT8 without training, as model.pt.

    python -m samples.random_bert -o runs/bert-base.pt [--placement attention]

For what depends on shapes and not on what was learned: export cost, engines. Masks are by
magnitude, scales calibrated on random tokens.
"""

import argparse
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from nxmi_export.checkpoint import write_checkpoint
from nxmi_export.compression import checkpoint_of, compressed_linears, insert_quantizers, project
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.recipe import Placement, Recipe

__all__ = ["SEED", "write_random_bert"]

SEED = 0


def write_random_bert(
    path: Path,
    placement: Placement = Placement.SPARSE,
    config: BertConfig | None = None,
    recipe: Recipe | None = None,
) -> None:
    """Write model.pt of a BERT of `config` (default: BERT-base) under `recipe`.

    Without one it is 2:4 + INT8 under `placement`.
    """
    torch.manual_seed(SEED)
    config = config or BertConfig()
    model = BertForSequenceClassification(config).eval()
    recipe = recipe or Recipe(placement=placement)
    insert_quantizers(model, recipe)
    linears = compressed_linears(model)
    project(linears)
    for linear in linears.values():
        if linear.weight_quantizer is not None:
            linear.weight_quantizer.fit(linear.weight)
    quantizers = [each for each in model.modules() if isinstance(each, ActivationQuantizer)]
    for each in quantizers:
        each.observe()
    with torch.no_grad():
        model(input_ids=torch.randint(0, config.vocab_size, (4, 32)))
    for each in quantizers:
        each.calibrate()
    checkpoint = checkpoint_of(model, recipe=recipe, tokenizer={}, provenance={"seed": SEED})
    write_checkpoint(path, checkpoint)


def main() -> None:
    """Write the file that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--placement", choices=tuple(Placement), default=Placement.SPARSE)
    arguments = parser.parse_args()
    write_random_bert(arguments.output, Placement(arguments.placement))


if __name__ == "__main__":
    main()
