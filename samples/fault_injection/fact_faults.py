"""Labels, tokenizer, configuration and manifest that are not the trained model's."""

import json
from collections.abc import Callable
from typing import Any

from nxmi_export.artefact import CPU_MODEL, MANIFEST, Manifest, file_record
from samples.fault_injection.fault import Fault, Plant
from samples.fault_injection.naming import Naming, refused, stored
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

CONFIG, TOKENIZER = "config.json", "tokenizer.json"


def _fact(naming: Naming, **changed: Any) -> Plant:
    def plant(site: Site) -> Naming:
        site.facts(**changed)
        return naming

    return plant


def _labels_exchanged(site: Site) -> Naming:
    labels = Manifest.read(site.directory).labels
    site.facts(labels=labels[::-1])
    return refused(
        "the checkpoint's labels ", subject=site.directory.name, found=", ".join(labels[::-1])
    )


def _one_label_more(site: Site) -> Naming:
    labels = Manifest.read(site.directory).labels
    site.facts(labels=(*labels, "neutral"))
    return refused("the checkpoint's labels ", subject=site.directory.name, found="neutral")


def _config(change: Callable[[dict[str, Any]], None], key: str) -> Plant:
    def plant(site: Site) -> Naming:
        site.rewrite(CONFIG, change)
        return refused(f"the checkpoint's {key}, ", subject=CONFIG)

    return plant


def _config_labels(config: dict[str, Any]) -> None:
    names = config["id2label"]
    config["id2label"] = dict(zip(names, reversed(names.values()), strict=True))


def _tokenizer(change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(site: Site) -> Naming:
        site.rewrite(TOKENIZER, change)
        return refused("the tokenizer file of the checkpoint", subject=TOKENIZER)

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


def _added_tokens(site: Site) -> Naming:
    """A file that the checkpoint has not, and that transformers would read."""
    path = site.directory / "added_tokens.json"
    path.write_text(json.dumps({"film": 3}), encoding="utf-8")
    files = Manifest.read(site.directory).files
    site.facts(files={**files, path.name: file_record(path)})
    return refused("no tokenizer file that the checkpoint lacks", subject=path.name)


def _recipe(site: Site) -> Naming:
    recipe = Manifest.read(site.directory).recipe
    assert recipe is not None
    site.facts(recipe={**recipe, "default": "2:4+int4"})
    return refused(
        "the recipe of the checkpoint, whose default", subject=MANIFEST, found="2:4+int4"
    )


def _checkpoint(site: Site) -> Naming:
    """The manifest names another checkpoint's file, and the right hash."""
    other = site.projects.other().parent / "model.pt"
    source = Manifest.read(site.directory).source
    site.facts(source=source.model_copy(update={"path": str(other.resolve())}))
    return refused("the checkpoint with SHA-256 ", subject="model.pt", found="other contents")


def _linears(site: Site) -> Naming:
    """A record that claims a layer to be 2:4 and INT8 that is float."""
    linears = dict(Manifest.read(site.directory).linears)
    linears["classifier"] = linears["classifier"].model_copy(update={"storage": "2:4+int8"})
    site.facts(linears=linears)
    return stored("classifier", f"record in {MANIFEST}", file=MANIFEST)


def _trained_on_less(site: Site) -> Naming:
    """A server truncates to what training did."""
    provenance = dict(Manifest.read(site.directory).provenance)
    site.facts(provenance=provenance | {"options": {"max_length": 4}})
    return refused("the checkpoint's provenance, ", subject=MANIFEST, found='"max_length": 4')


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
    Fault(
        "texts cut at eight tokens",
        "facts",
        _fact(
            refused("the checkpoint's position_limit, ", subject=MANIFEST, found="8"),
            position_limit=8,
        ),
    ),
    Fault("texts cut at four tokens, as if in training", "facts", _trained_on_less),
    Fault(
        "token types not among the inputs",
        "facts",
        _fact(
            refused("the checkpoint's input_names, ", subject=MANIFEST),
            input_names=("input_ids", "attention_mask"),
        ),
    ),
    Fault(
        "options for exact products missing",
        "facts",
        _fact(
            stored(CPU_MODEL, f"session_options in {MANIFEST}", file=MANIFEST, found={}),
            session_options={},
        ),
    ),
    Fault(
        "recipe missing from the manifest",
        "facts",
        _fact(refused("recipe of the checkpoint", found="none"), recipe=None),
    ),
    Fault("another recipe in the manifest", "facts", _recipe),
    Fault("a record of a layer that promises more", "facts", _linears),
    Fault("checkpoint of another model", "facts", _checkpoint),
    Fault("tokenizer that keeps capitals", "facts", _tokenizer(_cased)),
    Fault("tokenizer off by one row", "facts", _tokenizer(_shifted_words)),
    Fault("tokenizer of half the vocabulary", "facts", _tokenizer(_cut_words)),
    Fault("tokenizer that truncates at eight tokens", "facts", _tokenizer(_truncation)),
    Fault("added tokens that the checkpoint has not", "facts", _added_tokens),
)
