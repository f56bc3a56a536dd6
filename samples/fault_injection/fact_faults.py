"""Labels, tokenizer, configuration and manifest that are not the trained model's."""

import json
from collections.abc import Callable
from typing import Any

from nxmi_export.artefact import MANIFEST, Manifest, file_record
from samples.fault_injection.fault import Fault, Plant
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

CONFIG, TOKENIZER = "config.json", "tokenizer.json"


def _fact(phrase: str, **changed: Any) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.facts(**changed)
        return (phrase,)

    return plant


def _labels_exchanged(site: Site) -> tuple[str, ...]:
    labels = Manifest.read(site.directory).labels
    site.facts(labels=labels[::-1])
    return ("labels", ", ".join(labels))


def _one_label_more(site: Site) -> tuple[str, ...]:
    labels = Manifest.read(site.directory).labels
    site.facts(labels=(*labels, "neutral"))
    return ("labels",)


def _config(change: Callable[[dict[str, Any]], None], *phrases: str) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.rewrite(CONFIG, change)
        return (CONFIG, *phrases)

    return plant


def _config_labels(config: dict[str, Any]) -> None:
    names = config["id2label"]
    config["id2label"] = dict(zip(names, reversed(names.values()), strict=True))


def _tokenizer(change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.rewrite(TOKENIZER, change)
        return (TOKENIZER, "tokenizer file of the checkpoint")

    return plant


def _cased(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = None


def _shifted_words(tokenizer: dict[str, Any]) -> None:
    words = tokenizer["model"]["vocab"]
    last = max(words.values())
    tokenizer["model"]["vocab"] = {word: min(at + 1, last) for word, at in words.items()}


def _cut_words(tokenizer: dict[str, Any]) -> None:
    words = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {word: at for word, at in words.items() if at < len(words) // 2}


def _truncation(tokenizer: dict[str, Any]) -> None:
    tokenizer["truncation"] = {
        "direction": "Right",
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
    }


def _added_tokens(site: Site) -> tuple[str, ...]:
    """A file that the checkpoint has not, and that transformers would read."""
    path = site.directory / "added_tokens.json"
    path.write_text(json.dumps({"film": 3}), encoding="utf-8")
    files = Manifest.read(site.directory).files
    site.facts(files={**files, path.name: file_record(path)})
    return (path.name, "tokenizer")


def _recipe(site: Site) -> tuple[str, ...]:
    recipe = Manifest.read(site.directory).recipe
    assert recipe is not None
    site.facts(recipe={**recipe, "default": "2:4+int4"})
    return ("recipe of the checkpoint",)


def _checkpoint(site: Site) -> tuple[str, ...]:
    """The manifest names another checkpoint's file, and the right hash."""
    other = site.projects.other().parent / "model.pt"
    source = Manifest.read(site.directory).source
    site.facts(source=source.model_copy(update={"path": str(other.resolve())}))
    return ("model.pt", "SHA-256")


def _linears(site: Site) -> tuple[str, ...]:
    """A record that claims a layer to be 2:4 and INT8 that is float."""
    linears = dict(Manifest.read(site.directory).linears)
    linears["classifier"] = linears["classifier"].model_copy(update={"storage": "2:4+int8"})
    site.facts(linears=linears)
    return (f"classifier: record in {MANIFEST} is storage='2:4+int8'",)


FAULTS = (
    Fault("labels of the manifest exchanged", "facts", _labels_exchanged),
    Fault("one label too many", "facts", _one_label_more),
    Fault("labels of config.json exchanged", "facts", _config(_config_labels, "id2label")),
    Fault(
        "fewer positions in config.json",
        "facts",
        _config(lambda c: c.update(max_position_embeddings=8), "max_position_embeddings"),
    ),
    Fault(
        "another GELU in config.json",
        "facts",
        _config(lambda c: c.update(hidden_act="gelu_new"), "hidden_act"),
    ),
    Fault("texts cut at eight tokens", "facts", _fact("position_limit", position_limit=8)),
    Fault(
        "token types not among the inputs",
        "facts",
        _fact("input_names", input_names=("input_ids", "attention_mask")),
    ),
    Fault(
        "options for exact products missing",
        "facts",
        _fact(f"session_options in {MANIFEST} is {{}}", session_options={}),
    ),
    Fault("recipe missing from the manifest", "facts", _fact("recipe", recipe=None)),
    Fault("another recipe in the manifest", "facts", _recipe),
    Fault("a record of a layer that promises more", "facts", _linears),
    Fault("checkpoint of another model", "facts", _checkpoint),
    Fault("tokenizer that keeps capitals", "facts", _tokenizer(_cased)),
    Fault("tokenizer off by one row", "facts", _tokenizer(_shifted_words)),
    Fault("tokenizer of half the vocabulary", "facts", _tokenizer(_cut_words)),
    Fault("tokenizer that truncates at eight tokens", "facts", _tokenizer(_truncation)),
    Fault("added tokens that the checkpoint has not", "facts", _added_tokens),
)
