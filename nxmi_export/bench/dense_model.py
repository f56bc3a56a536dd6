"""A configuration in, the dense float32 model of its size out, as PyTorch users run it."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

__all__ = ["dense_model"]


def dense_model(architecture: str, config: Mapping[str, Any], *, seed: int = 0) -> PreTrainedModel:
    """Random weights, since time does not depend on them; attention is transformers' own choice.

    `config` is the content of config.json. The global random state is left as it was.
    """
    kind: Any = getattr(transformers, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = kind._from_config(kind.config_class.from_dict(dict(config)))
    model.float().eval()
    return model
