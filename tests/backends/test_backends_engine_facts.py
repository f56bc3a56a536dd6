"""engine.json has one reader, which takes what `build` writes and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.artefact import Artefact, file_record
from nxmi_export.backends.tensorrt_engine import EngineOptions, HardwareCompatibility, ShapeProfile
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.errors import ArtefactError, ShapeError
from tests.engine_documents import engine_document, profiles_of, with_engine_document
from tests.sample_manifest import sample_manifest


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    """A plan and nothing else."""
    (tmp_path / "model.plan").write_bytes(b"a plan")
    manifest = sample_manifest()
    manifest.write(tmp_path)
    return Artefact(tmp_path, manifest)


def read(artefact: Artefact, **changes: Any) -> EngineFacts:
    facts = EngineFacts.read(with_engine_document(artefact, **changes))
    assert facts is not None
    return facts


def test_an_artefact_without_an_engine_has_no_facts_of_one(artefact: Artefact) -> None:
    assert EngineFacts.read(artefact) is None


def test_a_document_is_read_whole(artefact: Artefact) -> None:
    assert read(artefact).as_json() == engine_document(artefact.directory)


def test_profiles_and_options_are_those_that_another_build_repeats(artefact: Artefact) -> None:
    asked = EngineOptions(
        workspace_bytes=1 << 20,
        sparse_weights=False,
        hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
    )
    profiles = profiles_of(([1, 1], [2, 8], [4, 16]), ([1, 1], [8, 32], [8, 64]))
    facts = read(artefact, options=asked.as_json(), profiles=profiles)
    assert facts.engine_options() == asked
    assert facts.shape_profiles(64) == tuple(
        ShapeProfile.parse(text, position_limit=64)
        for text in ("min=1x1,opt=2x8,max=4x16", "min=1x1,opt=8x32,max=8x64")
    )
    assert facts.longest == 64


def test_a_profile_beyond_the_position_table_is_refused(artefact: Artefact) -> None:
    facts = read(artefact, profiles=profiles_of(([1, 1], [1, 8], [1, 65])))
    with pytest.raises(ShapeError):
        facts.shape_profiles(64)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"graph": ...}, "graph: Field required"),
        ({"log": ...}, "log: Field required"),
        ({"shapes": "min=1x1"}, "shapes: Extra inputs are not permitted"),
        ({"profiles": []}, "profiles: Tuple should have at least 1 item after validation, not 0"),
        ({"seconds": "1.5"}, "seconds: Input should be a valid number"),
        (
            {"library": {"name": "other", "version": "1"}},
            "library.name: Input should be 'tensorrt' or 'tensorrt_rtx'",
        ),
        (
            {"compute_capabilities": ["ampere"]},
            "compute_capabilities.0: String should match pattern '^sm\\d{2,3}$'",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_content_is_refused(
    artefact: Artefact, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(ArtefactError) as caught:
        read(artefact, **changes)
    assert str(caught.value) == (
        f"{artefact.directory / 'engine.json'}: expected what nxmi-export build writes under the "
        f"schema nxmi-export/engine/3, found {found}; build the engine again"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"schema": "nxmi-export/engine/2"}), "nxmi-export/engine/2"),
        ("{}", "None"),
        ("[]", "no mapping"),
        ("a plan", "no JSON"),
    ],
)
def test_another_schema_is_refused(artefact: Artefact, text: str, found: str) -> None:
    path = artefact.directory / "engine.json"
    path.write_text(text)
    files = {name: file_record(artefact.directory / name) for name in ("model.plan", path.name)}
    changed = artefact.manifest.model_copy(update={"files": files})
    with pytest.raises(ArtefactError) as caught:
        EngineFacts.read(Artefact(artefact.directory, changed))
    assert str(caught.value) == (
        f"{path}: expected the schema nxmi-export/engine/3, found {found}; build the engine again"
    )


@pytest.mark.parametrize(
    ("there", "wanted"), [("model.plan", "engine.json"), ("engine.json", "model.plan")]
)
def test_a_plan_and_its_facts_come_together(artefact: Artefact, there: str, wanted: str) -> None:
    whole = with_engine_document(artefact)
    files = {there: whole.manifest.files[there]}
    half = Artefact(artefact.directory, whole.manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtefactError, match=f"expected an artefact with {wanted}"):
        EngineFacts.read(half)
