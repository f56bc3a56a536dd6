"""Exports of equal models trace once a process: tracing takes seconds, a copy of it none.

A directory's conftest imports the fixture. What `capture` itself does is tested without it, and so
is that two traces are equal (tests/pipeline/test_pipeline_artefact.py).
"""

import hashlib
import io
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor, nn

from nxmi_export.capture import CapturedGraph, capture

__all__ = ["traced_once"]

LARGEST = 1_000_000  # parameters of a model whose trace is kept; real ones are met once

_STAGES = ("export", "bench.contenders", "parity.captured_graph")  # that trace a model
_TRACES: dict[str, CapturedGraph] = {}


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Let whatever traces a model look first whether it has met that very one."""
    with pytest.MonkeyPatch.context() as patch:
        for stage in _STAGES:
            patch.setattr(f"nxmi_export.workflow.{stage}.capture", _capture_once)
        yield


def _capture_once(
    model: nn.Module, *, input_names: tuple[str, ...], position_limit: int
) -> CapturedGraph:
    if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
        return capture(model, input_names=input_names, position_limit=position_limit)
    # Weights, buffers and every attribute, whatever it is: what differs anywhere is traced anew.
    content = io.BytesIO()
    _ByContent(content).dump((model, input_names, position_limit))
    key = hashlib.sha256(content.getvalue()).hexdigest()
    if key not in _TRACES:
        _TRACES[key] = capture(model, input_names=input_names, position_limit=position_limit)
    traced = _TRACES[key]
    return replace(traced, model=traced.model.clone())  # passes edit it in place


class _ByContent(pickle.Pickler):
    """Tensors by their values: torch would note their addresses as well."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Tensor):
            return tuple, ((str(value.dtype), *value.shape, value.detach().numpy().tobytes()),)
        return NotImplemented
