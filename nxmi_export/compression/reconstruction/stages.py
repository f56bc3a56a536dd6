"""Which linears of a model are reconstructed together, found by watching one forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from nxmi_export.errors import UnsupportedModel

__all__ = ["Stage", "stages_of"]

_Call = tuple[int, tuple[int, ...]]  # where the input lies, and its shape


@dataclass(frozen=True)
class Stage:
    """Linears that read one value, such as query, key and value; their Gram matrix is one.

    `calls` is how often each runs in a forward pass: more than once where blocks share weights.
    `block` is the name of the encoder block around them, None where there is none.
    """

    linears: tuple[str, ...]
    calls: int
    block: str | None


def stages_of(
    model: nn.Module, linears: Mapping[str, nn.Linear], feeds: Mapping[str, Tensor]
) -> tuple[Stage, ...]:
    """The stages in order of execution.

    Raises UnsupportedModel for a linear that a forward pass does not reach.
    """
    inputs: dict[str, list[Tensor]] = {}  # held, so that no two live at one address

    def watch(name: str, x: Tensor) -> None:
        inputs.setdefault(name, []).append(x)

    hooks = [
        linear.register_forward_pre_hook(lambda _, args, name=name: watch(name, args[0]))
        for name, linear in linears.items()
    ]
    try:
        model(**feeds)
    finally:
        for hook in hooks:
            hook.remove()
    if missing := [name for name in linears if name not in inputs]:
        raise UnsupportedModel(
            missing[0],
            expected="a linear that runs in every forward pass",
            found="no call on the calibration data",
            remedy="give the layer the scheme dense under overrides in the recipe",
        )
    readers: dict[tuple[_Call, ...], list[str]] = {}
    for name, seen in inputs.items():
        value = tuple((x.data_ptr(), tuple(x.shape)) for x in seen)
        readers.setdefault(value, []).append(name)
    return tuple(
        Stage(tuple(names), len(value), _block_of(model, names[0]))
        for value, names in readers.items()
    )


def _block_of(model: nn.Module, name: str) -> str | None:
    """The outermost element of a module list that holds `name`."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        if isinstance(model.get_submodule(".".join(parts[:depth])), nn.ModuleList):
            return ".".join(parts[: depth + 1])
    return None
