"""What later stages must know of a task model: its inputs, its labels, its longest sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ModelFacts", "model_facts"]

_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert"}
_WITHOUT_TOKEN_TYPES = {*_OFFSET_POSITIONS, "distilbert", "modernbert"}


@dataclass(frozen=True)
class ModelFacts:
    """Facts read from a transformers configuration."""

    model_type: str
    input_names: tuple[str, ...]
    position_limit: int  # tokens
    labels: tuple[str, ...]  # one empty-named label for regression


def model_facts(config: Mapping[str, Any]) -> ModelFacts:
    """Read `config` as `PretrainedConfig.to_dict()` or config.json gives it."""
    model_type = str(config["model_type"])
    limit = int(config["max_position_embeddings"])
    if model_type in _OFFSET_POSITIONS:
        # position ids start behind the padding index
        limit -= int(config.get("pad_token_id") or 1) + 1
    names = ["input_ids", "attention_mask"]
    if model_type not in _WITHOUT_TOKEN_TYPES:
        names.append("token_type_ids")
    return ModelFacts(model_type, tuple(names), limit, _labels(config))


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    by_id = config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    return tuple(str(by_id[key]) for key in sorted(by_id, key=int))
