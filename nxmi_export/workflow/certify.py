"""An artefact in, the same artefact with its certificate out."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from nxmi_export.artefact import CERTIFICATE, Artefact, replace_files, sha256_of
from nxmi_export.certificate import (
    Certificate,
    OutsideFile,
    Trained,
    Witnesses,
    built_engine,
    certify,
    engine_ran,
    inspected_engine,
)
from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.compression.restore import restore, without_weights
from nxmi_export.errors import ArtefactError, CheckpointError, InvalidScale, UnsupportedWeight
from nxmi_export.output_files import temporary_directory
from nxmi_export.parity.stored_document import read_run_document
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.parity.source import bound_checkpoint
from nxmi_export.workflow.parity.what_travels import CONFIG, check_recipe, check_what_travels

__all__ = ["CertifyRequest", "certify_artefact"]


@dataclass(frozen=True)
class CertifyRequest:
    """What to certify, and what lies outside of it."""

    artefact: Artefact
    checkpoint: str | None = None  # None: the one the manifest names
    layer_info: Path | None = None  # what the engine inspector wrote
    parity: Path | None = None  # the report that `nxmi-export parity -o` wrote


def certify_artefact(
    request: CertifyRequest, *, on_stage: Callable[[str], None] = lambda stage: None
) -> Certificate:
    """Judge every claim and write `certificate.json` into the artefact, whole or not at all.

    A certificate is written whatever it says. A checkpoint that is gone or another leaves claims
    unproven. Raises ArtefactError for files that cannot be read, and for a recipe, labels, a
    configuration or a tokenizer that are not the checkpoint's; so for a parity report of other
    files. UsageError for a file that no inspector wrote.
    """
    artefact = request.artefact
    on_stage("reading the engine's log")
    witnesses = _witnesses(request)
    on_stage("reading the checkpoint")
    trained = _trained(request)
    on_stage("comparing every layer")
    certificate = certify(artefact, trained, witnesses)
    with temporary_directory(artefact.directory) as workshop:
        text = json.dumps(certificate.as_json(), indent=1, allow_nan=False)
        (workshop / CERTIFICATE).write_text(f"{text}\n", encoding="utf-8")
        replace_files(artefact, workshop, (CERTIFICATE,))
    return certificate


def _witnesses(request: CertifyRequest) -> Witnesses:
    artefact, found = request.artefact, Witnesses(built_engine(request.artefact))
    if (path := request.layer_info) is not None:
        inspected = inspected_engine(path, found.built)
        told = _outside(artefact, path, sha256_of(path))
        found = replace(found, inspected=inspected, layer_info=told)
    if (path := request.parity) is not None:
        ran = engine_ran(read_run_document(artefact, path), path)
        found = replace(found, ran=ran, parity=_outside(artefact, path, sha256_of(path)))
    return found


def _trained(request: CertifyRequest) -> Trained:
    artefact = request.artefact
    source = artefact.manifest.source
    if source.sha256 is None:
        # A name on a hub is no file; what it stands for may have changed since.
        return _untrained(artefact, f"{source.path} is bound by no hash; export it from a file")
    try:
        checkpoint = bound_checkpoint(artefact, request.checkpoint)
    except (ArtefactError, CheckpointError) as error:
        return _untrained(artefact, str(error))
    check_what_travels(artefact, checkpoint)
    check_recipe(artefact, checkpoint)
    path = Path(request.checkpoint or artefact.source())
    structure = without_weights(checkpoint)
    model, why = _restored(checkpoint)
    return Trained(
        structure,
        checkpoint.recipe.placement if checkpoint.recipe else None,
        checkpoint.state,
        model,
        why,
        _outside(artefact, path, source.sha256),
    )


def _restored(checkpoint: CompressedCheckpoint) -> tuple[PreTrainedModel | None, str]:
    """The model, or the sentence why its weights cannot be compared with anything."""
    try:
        return restore(checkpoint), ""
    except (CheckpointError, InvalidScale, UnsupportedWeight) as error:
        return None, str(error)


def _untrained(artefact: Artefact, why: str) -> Trained:
    """The structure alone, from what the artefact says of it."""
    manifest = artefact.manifest
    path = artefact.path(CONFIG)
    recipe = None
    if manifest.recipe is not None:
        recipe = Recipe.from_mapping(manifest.recipe, source=artefact.directory)
    outline = CompressedCheckpoint(
        architecture=manifest.architecture,
        config=json.loads(path.read_text(encoding="utf-8")),
        state={},
        tokenizer={},
        recipe=recipe,
    )
    placement = recipe.placement if recipe else None
    return Trained(without_weights(outline), placement, None, None, why, None)


def _outside(artefact: Artefact, path: Path, digest: str) -> OutsideFile:
    """Named as seen from the artefact, so that both can move together."""
    named = os.path.relpath(path.resolve(), artefact.directory.resolve())
    return OutsideFile(path=named, sha256=digest)
