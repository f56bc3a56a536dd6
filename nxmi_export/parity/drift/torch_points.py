"""A PyTorch model in, the values of its modules during one forward pass out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from nxmi_export.backends import Feeds
from nxmi_export.compression.encoder_block import EncoderBlock
from nxmi_export.compression.encoder_layout import SUPPORTED, layout_of
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.parity.drift.point import Kind, Observations, Point

__all__ = ["TorchPoints", "watched"]

See: TypeAlias = Callable[[Point, NDArray[Any]], None]
_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")


class TorchPoints:
    """`model` as a rung whose values can be seen; puts it into evaluation mode."""

    def __init__(self, model: nn.Module, *, name: str = "pytorch") -> None:
        self._model = model.eval()
        self.name = name

    def points(self, feeds: Feeds) -> tuple[Point, ...]:
        """What there is to see, found by running the first example of a batch."""
        return tuple(self.observe({name: ids[:1] for name, ids in feeds.items()}))

    def observe(self, feeds: Feeds) -> Observations:
        """Every point of one batch; copies, so that later operations cannot change them."""
        seen: Observations = {}
        device = next(self._model.parameters()).device
        batch = {
            name: torch.from_numpy(np.ascontiguousarray(ids)).to(device)
            for name, ids in feeds.items()
        }
        with watched(self._model, seen.__setitem__), torch.inference_mode():
            logits = self._model(**batch).logits
        seen[Point("", Kind.LOGITS)] = _array(logits, len(logits))
        return seen


@contextmanager
def watched(model: nn.Module, see: See) -> Iterator[None]:
    """Call `see` with every value but the logits, in order of execution, in one forward pass.

    An encoder whose blocks are not known is watched without attention probabilities and blocks.
    """
    runs: dict[tuple[str, Kind], int] = {}
    rows = [0]
    handles = [model.register_forward_pre_hook(partial(_count, rows), with_kwargs=True)]

    def note(module: str, kind: Kind, value: Tensor) -> None:
        run = runs.get((module, kind), 0)
        runs[module, kind] = run + 1
        see(Point(module, kind, run), _array(value, rows[0]))

    for name in _read_as_they_are(model):
        hook = partial(_before, name, Kind.INPUT, note)
        handles.append(model.get_submodule(name).register_forward_pre_hook(hook))
    for name, kind in _points(model).items():
        module = model.get_submodule(name)
        attribute = "softmax_quantizer" if kind is Kind.ATTENTION else "output_quantizer"
        quantizer = None if kind is Kind.BLOCK else getattr(module, attribute, None)
        if quantizer is None:
            hook = partial(_after, name, kind, note)
            handles.append(module.register_forward_hook(hook))
        else:
            hook = partial(_before, name, kind, note)
            handles.append(quantizer.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read_as_they_are(model: nn.Module) -> list[str]:
    """Modules whose input no quantizer shows: norms, which read sums, and unquantized linears."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | NoNorm)
        or (isinstance(module, nn.Linear) and not isinstance(module, CompressedLinear))
    ]


def _points(model: nn.Module) -> Mapping[str, Kind]:
    blocks = _blocks(model)
    found = {
        name: kind for name, module in model.named_modules() if (kind := _kind(module)) is not None
    }
    found |= {block.attention: Kind.ATTENTION for block in blocks}
    return found | {_prefix(block): Kind.BLOCK for block in blocks}


def _blocks(model: nn.Module) -> tuple[EncoderBlock, ...]:
    if isinstance(model, PreTrainedModel) and model.config.model_type in SUPPORTED:
        return tuple(layout_of(model))
    return ()


def _prefix(block: EncoderBlock) -> str:
    """The module that holds the whole block: what its members' names begin with."""
    names = [name.split(".") for name in (block.attention, *block.linears)]
    parts = zip(*names, strict=False)
    shared = []
    for each in parts:
        if len(set(each)) > 1:
            break
        shared.append(each[0])
    return ".".join(shared)


def _kind(module: nn.Module) -> Kind | None:
    match module:
        case nn.Embedding():
            return Kind.EMBEDDING
        case nn.Linear():
            return Kind.LINEAR
        case nn.LayerNorm() | NoNorm():
            return Kind.NORM
    return Kind.ACTIVATION if type(module).__module__ in _ACTIVATIONS else None


def _count(rows: list[int], _: nn.Module, __: Any, feeds: dict[str, Any]) -> None:
    rows[0] = len(feeds["input_ids"])


def _before(
    name: str, kind: Kind, note: Callable[..., None], _: nn.Module, arguments: tuple[Any, ...]
) -> None:
    note(name, kind, arguments[0])


def _after(
    name: str, kind: Kind, note: Callable[..., None], _: nn.Module, __: Any, output: Any
) -> None:
    if kind is Kind.ATTENTION:
        output = output[1]  # the probabilities; the context comes first
    elif isinstance(output, tuple):
        output = output[0]
    if output is not None:  # sdpa and flash attention hand over no probabilities
        note(name, kind, output)


def _array(value: Tensor, rows: int) -> NDArray[Any]:
    """Float32 with `rows` examples: position embeddings are made once for all of them."""
    array = np.array(value.detach().float().cpu().numpy())
    return np.broadcast_to(array, (rows, *array.shape[1:])) if len(array) == 1 else array
