"""Fine-tuning and masked straight-through QAT: a model and batches in, the trained model out.

The simplest baseline of the field: magnitude projection once, then training under a fixed mask
with fake-quantized weights and activations in the forward pass and identity gradients.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.quantizers import COVERED, ActivationQuantizer
from nxmi_export.compression.restore import check_scales
from nxmi_export.compression.sparsity import magnitude_masks
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.errors import UsageError

__all__ = ["Schedule", "Step", "calibrate", "train"]


@dataclass(frozen=True)
class Schedule:
    """How to train. The learning rate rises over `warmup` of the steps, then falls to zero."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    seed: int = 0
    freeze_embeddings: bool = True  # the largest part of a small encoder, least in need of training


@dataclass(frozen=True)
class Step:
    """One optimizer step, for whoever shows progress."""

    number: int  # from 1
    total: int
    loss: float


def calibrate(
    model: PreTrainedModel,
    data: EncodedDataset,
    *,
    batches: int,
    batch_size: int,
    covered: float = COVERED,
) -> None:
    """Fix every scale, those of activations over `batches` batches spread over the lengths.

    Activations beyond the share `covered` of a value's magnitudes saturate.

    Leaves the model in eval mode. Raises InvalidScale where a value of the network is not finite.
    """
    quantizers = [m for m in model.modules() if isinstance(m, ActivationQuantizer)]
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None:
            linear.weight_quantizer.fit(linear.weight)
    for quantizer in quantizers:
        quantizer.observe()
    model.eval()
    count = min(len(data), batches * batch_size)
    chosen = data.by_length()[np.linspace(0, len(data) - 1, count).astype(np.int64)]
    with torch.inference_mode():
        for batch in data.batches(batch_size, order=chosen):
            model(**_tensors(batch, model.device))
    for quantizer in quantizers:
        quantizer.calibrate(covered)
    check_scales(model)


def train(
    model: PreTrainedModel,
    data: EncodedDataset,
    schedule: Schedule,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
) -> None:
    """Train in place; linears with a pattern are projected first and keep their mask throughout.

    A model without compressed linears is fine-tuned as it is. Ends in eval mode with the weight
    scales of the final weights. Raises InvalidScale for a model that was never calibrated.
    """
    check_scales(model)
    embeddings = model.get_input_embeddings()
    with _frozen(embeddings) if schedule.freeze_embeddings else nullcontext():
        _optimize(model, data, schedule, on_step)
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None:
            linear.weight_quantizer.fit(linear.weight)
    model.eval()


def _optimize(
    model: PreTrainedModel,
    data: EncodedDataset,
    schedule: Schedule,
    on_step: Callable[[Step], None],
) -> None:
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        # Each process would train on the same batches and report the work of one.
        raise UsageError(
            "train",
            expected="one process",
            found=f"{accelerator.num_processes} of a distributed launch",
            remedy="start it without accelerate launch or torchrun",
        )
    torch.manual_seed(schedule.seed)
    model.to(accelerator.device)  # before the masks, which must be where the weights are
    linears = compressed_linears(model)
    masks = magnitude_masks(linears)
    weights = {name: linears[name].weight for name in masks}
    _apply(masks, weights)
    trainable = [p for p in model.parameters() if p.requires_grad]
    total = schedule.epochs * -(-len(data) // schedule.batch_size)
    optimizer = torch.optim.AdamW(
        trainable, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    slope = get_linear_schedule_with_warmup(optimizer, int(schedule.warmup * total), total)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    prepared.train()
    for number, batch in enumerate(_epochs(data, schedule), start=1):
        feeds = _tensors(batch, accelerator.device)
        loss = prepared(**feeds, labels=_labels(data, batch).to(accelerator.device)).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trainable, schedule.clip_norm)
        optimizer.step()
        slope.step()
        optimizer.zero_grad()
        _apply(masks, weights)  # momentum would otherwise move pruned weights away from zero
        on_step(Step(number, total, float(loss.detach())))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Keep the parameters of `module` out of training, and leave them as they were."""
    wanted = {parameter: parameter.requires_grad for parameter in module.parameters()}
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad)


@torch.no_grad()
def _apply(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        weights[name].mul_(mask)


def _epochs(data: EncodedDataset, schedule: Schedule) -> Iterator[Batch]:
    """Shuffled batches of similar length: sorted within pools of 50 batches, then shuffled."""
    generator = np.random.default_rng(schedule.seed)
    pool = 50 * schedule.batch_size
    for _ in range(schedule.epochs):
        order = generator.permutation(len(data))
        batches: list[Batch] = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.argsort(data.lengths[part], kind="stable")]
            batches += data.batches(schedule.batch_size, order=part)
        for index in generator.permutation(len(batches)):
            yield batches[index]


def _tensors(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).to(device) for name, array in batch.feeds.items()}


def _labels(data: EncodedDataset, batch: Batch) -> Tensor:
    labels = torch.from_numpy(data.dataset.labels[batch.indices])
    # scores are float64, and the squared error must have the type of the logits
    return labels.float() if labels.is_floating_point() else labels
