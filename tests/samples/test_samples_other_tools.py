"""What other tools quantize: through the linter, its fixes and the engine, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nxmi_export.backends.tensorrt_engine import ShapeProfile, find_library
from nxmi_export.errors import CapabilityMissing
from samples.fine_tune import INPUTS
from samples.other_tools import RESULTS, SETTINGS, Feeds, capture_dense, markdown, measure, quantize
from tests.pipeline.exports import LAYERS, SIZES
from tests.tiny_models import POSITION_LIMIT, tiny_model

PROFILE = ShapeProfile.parse("min=1x8,opt=2x16,max=4x32", position_limit=POSITION_LIMIT)
LINEARS, ATTENTIONS = 6 * LAYERS, LAYERS


def _feeds() -> list[Feeds]:
    batches = np.random.default_rng(0).integers(0, 96, (3, 2, 16))
    return [
        dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))
        for ids in batches
    ]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    try:
        library = find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("other")
    capture_dense(tiny_model(**SIZES), folder / "dense.onnx")
    found = {}
    for settings in ("defaults", "linears"):
        path = folder / f"{settings}.onnx"
        quantize(folder / "dense.onnx", path, _feeds(), settings)
        found[settings] = measure(path, library, PROFILE)
    return found


def test_defaults_are_refused_and_build_once_mended(measured: dict[str, dict[str, Any]]) -> None:
    found = measured["defaults"]
    assert "refused" in found["before"]["engine"]
    assert set(found["before"]["findings"]["refuse"]) == {
        "activation-zero-point",
        "stored-bias",
        "weight-zero-point",
    }
    assert found["after"]["findings"]["refuse"] == {}
    assert found["after"]["engine"]["linears"] == {"total": LINEARS, "int8": LINEARS}
    assert set(found["fixes"]) == {"StoreFloats", "SymmetricActivations"}


def test_symmetric_linears_pass_as_they_are(measured: dict[str, dict[str, Any]]) -> None:
    before = measured["linears"]["before"]
    assert [before["findings"][name] for name in ("refuse", "alter", "degrade")] == [{}, {}, {}]
    assert before["engine"]["linears"] == {"total": LINEARS, "int8": LINEARS}
    assert before["engine"]["attentions"] == {"total": ATTENTIONS, "fused_int8": 0}


def test_mending_what_passes_changes_no_count(measured: dict[str, dict[str, Any]]) -> None:
    found = measured["linears"]
    assert found["after"]["engine"]["linears"] == found["before"]["engine"]["linears"]


def test_the_table_says_what_is_left(measured: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps({"model": "tiny", "settings": measured}))
    text = markdown(tmp_path)
    assert "| tiny | defaults | refused | refuse: " in text
    linears = f"{LINEARS}/{LINEARS} linears INT8, 0/{ATTENTIONS} attentions fused"
    assert f"| tiny | linears | {linears} | none but notes |" in text


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_stored_results_are_whole(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found["settings"]) == set(SETTINGS)
    for each in found["settings"].values():
        engine = each["after"]["engine"]
        assert engine["linears"]["int8"] == engine["linears"]["total"]
    passing = found["settings"]["linears"]["before"]["findings"]
    assert [passing[name] for name in ("refuse", "alter", "degrade")] == [{}, {}, {}]
    told = [json.dumps(each) for each in found["settings"].values()]
    assert len(set(told)) == len(told)  # else two settings are one
