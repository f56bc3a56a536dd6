"""A configuration in, the dense float32 model of its size out, as PyTorch users run it."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

__all__ = ["dense_model"]


def dense_model(
    architecture: str, config: Mapping[str, Any], *, seed: int = 0, attention: str | None = None
) -> PreTrainedModel:
    """Random weights, since time does not depend on them.

    `config` is the content of config.json, `attention` a name of transformers' attention functions;
    None leaves it the choice. The global random state is left as it was.
    """
    kind: Any = getattr(transformers, architecture)
    configuration = kind.config_class.from_dict(dict(config))
    configuration.return_dict = True  # or outputs are tuples without names
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = kind._from_config(configuration, attn_implementation=attention)
    model.float().eval()
    return model
