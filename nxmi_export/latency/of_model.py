"""A checkpoint and a device in, the latency table of its encoder's linears there out."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import transformers
from accelerate import init_empty_weights
from transformers import PreTrainedModel

from nxmi_export.capture import capture
from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.errors import ShapeError
from nxmi_export.latency.devices import check_device, table_for
from nxmi_export.latency.encoder_shapes import encoder_in_words, encoder_shapes
from nxmi_export.latency.rest_onnxruntime import rest_onnxruntime
from nxmi_export.latency.shapes import Workload
from nxmi_export.latency.table import LatencyTable
from nxmi_export.model_facts import ModelFacts, model_facts

__all__ = ["OnProgress", "latency_of_model"]

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Hears what is being timed, how much of it is done, and of how much."""

LINEARS, REST = "linears", "all but the linears"


def latency_of_model(
    checkpoint: CompressedCheckpoint,
    device: str,
    workload: Workload,
    *,
    threads: int | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> LatencyTable:
    """Every linear of the dense model in every kind, at `workload`.

    On onnxruntime also what a forward pass spends outside them; elsewhere `rest` is empty: one
    linear's engine, or a datasheet, says nothing of kernels that a whole engine fuses. Only the
    configuration is used, never the weights. Raises ShapeError for more tokens than the model has
    positions, UnsupportedModel for an encoder whose linears are not known, and what `table_for`
    raises.
    """
    name, facts = check_device(device), model_facts(checkpoint.config)
    if workload.sequence > facts.position_limit:
        raise ShapeError(
            f"sequence {workload.sequence}",
            expected=f"at most {facts.position_limit} tokens, the model's position table",
            found=str(workload.sequence),
            remedy=f"lower the sequence to {facts.position_limit} or less",
        )
    with init_empty_weights(include_buffers=False):
        empty = _dense(checkpoint)
    shapes = encoder_shapes(empty)
    table = table_for(
        name, shapes, workload.rows, threads=threads, on_round=partial(on_progress, LINEARS)
    ).given(
        device=name,
        batch=workload.batch,
        sequence=workload.sequence,
        encoder=encoder_in_words(empty),
    )
    if name != "onnxruntime":
        return table
    on_progress(REST, 0, 1)
    graph = capture(
        _dense(checkpoint).eval(),
        input_names=facts.input_names,
        position_limit=facts.position_limit,
    )
    rest = rest_onnxruntime(graph.model, _feeds(facts, workload), shapes, threads=threads)
    on_progress(REST, 1, 1)
    return replace(table, rest=rest)


def _dense(checkpoint: CompressedCheckpoint) -> PreTrainedModel:
    """The architecture with random weights, none of its quantizers, and eager attention."""
    architecture = getattr(transformers, checkpoint.architecture)
    config = architecture.config_class.from_dict(dict(checkpoint.config))
    config.return_dict = True  # or outputs are tuples without names
    with torch.random.fork_rng(devices=()):
        model: PreTrainedModel = architecture._from_config(
            config, attn_implementation="eager", dtype=torch.float32
        )
    return model


def _feeds(facts: ModelFacts, workload: Workload) -> dict[str, npt.NDArray[np.int64]]:
    """A full batch: ones, but for the token types of a single text."""
    shape = (workload.batch, workload.sequence)
    return {name: np.full(shape, name != "token_type_ids", np.int64) for name in facts.input_names}
