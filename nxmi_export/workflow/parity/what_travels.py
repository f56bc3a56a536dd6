"""An artefact and its checkpoint in, a refusal out where what travels with the graphs differs.

Labels, tokenizer, configuration and the manifest's facts are read by whoever deploys the model,
and by every rung alike: where one is wrong, all rungs are, so that comparing them shows nothing.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nxmi_export.artefact import MANIFEST, Artefact
from nxmi_export.checkpoint import TOKENIZER_FILES, CompressedCheckpoint
from nxmi_export.errors import ArtefactError
from nxmi_export.model_facts import model_facts
from nxmi_export.recipe import Recipe

__all__ = ["CONFIG", "check_recipe", "check_what_travels"]

CONFIG = "config.json"
_REMEDY = "export it again"
_ABSENT = object()
_PLACES = {"base", "source"}  # of a provenance


def check_what_travels(artefact: Artefact, checkpoint: CompressedCheckpoint) -> None:
    """Refuse labels, facts, a configuration or a tokenizer that are not the checkpoint's.

    Raises ArtefactError, which names the file and what in it differs.
    """
    _check_facts(artefact, checkpoint)
    _check_configuration(artefact, checkpoint)
    _check_tokenizer(artefact.directory, checkpoint.tokenizer)


def check_recipe(artefact: Artefact, checkpoint: CompressedCheckpoint) -> None:
    """Refuse a manifest whose recipe promises something else than the checkpoint's.

    What it leaves out has its default, as when a recipe is read: an earlier version knew fewer
    keys. Raises RecipeError for a recipe that is none.
    """
    told, place = artefact.manifest.recipe, artefact.directory / MANIFEST
    promised = None if told is None else Recipe.from_mapping(told, source=place)
    if promised is None or checkpoint.recipe is None:
        if promised is not checkpoint.recipe:
            raise ArtefactError(
                place,
                expected="no recipe" if promised else "the recipe of the checkpoint",
                found="one" if promised else "none",
                remedy=_REMEDY,
            )
        return
    wanted, found = checkpoint.recipe.as_mapping(), promised.as_mapping()
    for key in _differing(wanted, found):
        raise ArtefactError(
            place,
            expected=f"the recipe of the checkpoint, whose {key} is {_told(wanted[key])}",
            found=_told(found[key]),
            remedy=_REMEDY,
        )


def _check_facts(artefact: Artefact, checkpoint: CompressedCheckpoint) -> None:
    manifest, facts = artefact.manifest, model_facts(checkpoint.config)
    if manifest.labels != facts.labels:
        raise ArtefactError(
            artefact.directory,
            expected=f"the checkpoint's labels {', '.join(facts.labels)}, in this order",
            found=", ".join(manifest.labels) or "none",
            remedy=_REMEDY,
        )
    pairs = {
        "architecture": (checkpoint.architecture, manifest.architecture),
        "model_type": (facts.model_type, manifest.model_type),
        "input_names": (facts.input_names, manifest.input_names),
        "position_limit": (facts.position_limit, manifest.position_limit),
        # A server reads the task and the length of training there.
        "provenance": (_origin(checkpoint.provenance), _origin(manifest.provenance)),
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            raise ArtefactError(
                artefact.directory / MANIFEST,
                expected=f"the checkpoint's {name}, {_told(expected)}",
                found=_told(found),
                remedy=_REMEDY,
            )


def _check_configuration(artefact: Artefact, checkpoint: CompressedCheckpoint) -> None:
    """What transformers reads: label names, positions, activation functions."""
    path = artefact.path(CONFIG)
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtefactError(
            path, expected="a configuration in JSON", found=str(error), remedy=_REMEDY
        ) from error
    wanted = _plain(checkpoint.config)
    for key in _differing(wanted, found if isinstance(found, dict) else {}):
        raise ArtefactError(
            path,
            expected=f"the checkpoint's {key}, {_told(wanted.get(key, _ABSENT))}",
            found=_told(found.get(key, _ABSENT) if isinstance(found, dict) else found),
            remedy=_REMEDY,
        )


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Where a directory lies is written as it was named, which may change."""
    plain = _plain(provenance).items()
    return {name: each for name, each in plain if name not in _PLACES or isinstance(each, dict)}


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """As a file has it: keys are texts, tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(mapping)))
    return plain


def _differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key, _ABSENT) != found.get(key, _ABSENT):
            yield key


def _check_tokenizer(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        if not path.is_file() or path.read_bytes() != content:
            raise ArtefactError(
                path,
                expected="the tokenizer file of the checkpoint, byte for byte",
                found="another one" if path.is_file() else "no file",
                remedy=_REMEDY,
            )
    for name in TOKENIZER_FILES:
        # transformers would read it, and split texts otherwise than the checkpoint's tokenizer.
        if name not in files and (directory / name).is_file():
            raise ArtefactError(
                directory / name,
                expected="no tokenizer file that the checkpoint lacks",
                found="one",
                remedy="remove it, or export again from a checkpoint that has it",
            )


def _told(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
