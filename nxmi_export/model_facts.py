"""What later stages must know of a task model: its inputs, its labels, its longest sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nxmi_export.errors import UnsupportedModel

__all__ = ["ModelFacts", "model_facts"]

_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert"}
_WITHOUT_TOKEN_TYPES = {*_OFFSET_POSITIONS, "distilbert", "modernbert"}


@dataclass(frozen=True)
class ModelFacts:
    """Facts read from a transformers configuration."""

    model_type: str
    input_names: tuple[str, ...]
    position_limit: int  # tokens
    labels: tuple[str, ...]  # in the order of the logits; one for a regression


def model_facts(config: Mapping[str, Any]) -> ModelFacts:
    """Read `config` as `PretrainedConfig.to_dict()` or config.json gives it.

    Raises UnsupportedModel for a configuration without a type or a position table.
    """
    for key in ("model_type", "max_position_embeddings"):
        if config.get(key) is None:
            raise UnsupportedModel(
                config.get("model_type") or "configuration",
                expected="a transformers encoder with a position table",
                found=f"no {key} in its configuration",
                remedy="start from one of the encoders that the README lists",
            )
    model_type = str(config["model_type"])
    limit = int(config["max_position_embeddings"])
    if model_type in _OFFSET_POSITIONS:
        # position ids start behind the padding index
        padding = config.get("pad_token_id")
        limit -= (1 if padding is None else int(padding)) + 1
    names = ["input_ids", "attention_mask"]
    if model_type not in _WITHOUT_TOKEN_TYPES:
        names.append("token_type_ids")
    return ModelFacts(model_type, tuple(names), limit, _labels(config))


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    by_id = config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    return tuple(str(by_id[key]) for key in sorted(by_id, key=int))
