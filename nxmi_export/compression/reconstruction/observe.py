"""A model and calibration data in, what each of its linears reads out, in order of execution."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.compression.reconstruction.objective import InputGram, OutputError
from nxmi_export.compression.reconstruction.replay import BlockReplay
from nxmi_export.compression.reconstruction.stages import Stage, stages_of
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import InvalidDataset

__all__ = ["Feeds", "calibration_feeds", "in_full_precision", "objectives"]

Feeds = Mapping[str, Tensor]


def calibration_feeds(
    model: PreTrainedModel, data: EncodedDataset, *, batches: int, batch_size: int = 32
) -> list[Feeds]:
    """`batches` batches of model inputs, their examples spread over the lengths of `data`.

    Raises InvalidDataset for data without rows.
    """
    if not len(data):
        raise InvalidDataset(
            "reconstruction",
            expected="calibration examples",
            found="none",
            remedy="give it a dataset with rows",
        )
    chosen = data.spread(batches * batch_size)
    return [
        {name: torch.from_numpy(array).to(model.device) for name, array in batch.feeds.items()}
        for batch in data.batches(batch_size, order=chosen)
    ]


def objectives(
    model: PreTrainedModel, linears: Mapping[str, nn.Linear], feeds: Sequence[Feeds]
) -> Generator[tuple[Stage, OutputError]]:
    """Each stage with its output error, measured once the caller has dealt with those before.

    Close it before using the model for anything else: until then finished blocks are replayed.
    """
    stages = stages_of(model, linears, {name: x[:1] for name, x in feeds[0].items()})
    blocks = _chain(stages)
    with BlockReplay([model.get_submodule(name) for name in blocks]) as replay:
        for stage in stages:
            if stage.block in blocks:
                replay.begin_pass(blocks.index(stage.block))
            first = linears[stage.linears[0]]
            gram = InputGram(first.in_features, first.weight.device)
            for index, batch in enumerate(feeds):
                replay.begin_batch(index)
                _add_inputs(model, first, batch, gram, stage.calls)
            yield stage, OutputError.of(gram.total, stage.linears[0])


@contextmanager
def in_full_precision(model: nn.Module) -> Iterator[None]:
    """Quantizers let values through and dropout is off, whatever they do before and after."""
    training = {module: module.training for module in model.modules()}
    kinds = ActivationQuantizer | WeightQuantizer
    enabled = {m: m.enabled for m in model.modules() if isinstance(m, kinds)}
    model.eval()
    for quantizer in enabled:
        quantizer.enabled = False
    try:
        yield
    finally:
        for quantizer, was in enabled.items():
            quantizer.enabled = was
        for module, was in training.items():
            module.training = was


def _chain(stages: Sequence[Stage]) -> list[str]:
    """The blocks in order, if every linear sits in one and every block runs once; else none."""
    names = [stage.block for stage in stages if stage.calls == 1 and stage.block is not None]
    return list(dict.fromkeys(names)) if len(names) == len(stages) else []


class _Enough(Exception):
    """Everything that was wanted of a forward pass has been seen."""


def _add_inputs(
    model: PreTrainedModel, linear: nn.Linear, batch: Feeds, gram: InputGram, calls: int
) -> None:
    mask = batch.get("attention_mask")
    real = None if mask is None else mask.bool()
    seen = 0

    def look(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal seen
        gram.add(args[0], real)
        seen += 1
        if seen == calls:
            raise _Enough  # the rest of the model would run for nothing

    hook = linear.register_forward_pre_hook(look)
    try:
        model(**batch)
    except _Enough:
        pass
    finally:
        hook.remove()
