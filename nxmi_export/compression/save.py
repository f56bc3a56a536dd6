"""A trained PyTorch model in, the `CompressedCheckpoint` that rebuilds it out."""

import json
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.compression.restore import check_patterns, check_scales
from nxmi_export.recipe import Recipe

__all__ = ["checkpoint_of"]


def checkpoint_of(
    model: PreTrainedModel,
    *,
    recipe: Recipe | None,
    tokenizer: Mapping[str, bytes],
    provenance: Mapping[str, Any],
) -> CompressedCheckpoint:
    """Describe `model` as data; its tensors are shared, not copied.

    Raises InvalidScale or UnsupportedWeight for a model that could not be restored.
    """
    check_scales(model)
    check_patterns(model)
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return CompressedCheckpoint(
        architecture=type(model).__name__,
        config=config,
        state=model.state_dict(),
        tokenizer=tokenizer,
        recipe=recipe,
        provenance=provenance,
    )
