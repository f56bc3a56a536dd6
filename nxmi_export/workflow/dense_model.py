"""A path or hub name in, the checkpoint of a dense model out; a compressed one is refused."""

from nxmi_export.checkpoint import CompressedCheckpoint, read_checkpoint
from nxmi_export.errors import UsageError

__all__ = ["read_dense"]


def read_dense(model: str, *, base: str | None) -> CompressedCheckpoint:
    """As `read_checkpoint` reads it; raises UsageError where it has a recipe already."""
    checkpoint = read_checkpoint(model, base=base)
    if checkpoint.recipe is not None:
        raise UsageError(
            model,
            expected="a dense model",
            found=f"one that is compressed already, to {checkpoint.recipe.default}",
            remedy="start from the dense model that it was made from",
        )
    return checkpoint
