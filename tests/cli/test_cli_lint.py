"""`nxmi-export lint`: what it prints, writes and returns."""

import json
import shutil
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from nxmi_export.artefact import file_record, read_artefact
from passes.lint import RULES
from samples.bad_graphs import BAD_GRAPHS
from tests.cli.command_lines import Command


@pytest.fixture
def bad(artefact: Path, tmp_path: Path) -> Path:
    """A graph with an int32 bias and a quantizer too many, beside its tensors."""
    model = ir.load(artefact / "model.onnx")
    ir.external_data.load_to_model(model)
    for each in BAD_GRAPHS:
        if each.rule in {"stored-bias", "duplicate-quantizers"}:
            each.mutate(model)
    path = tmp_path / "bad.onnx"
    ir.save(model, path)
    return path


def test_an_artefact_of_ours_is_clean(nxmi_export: Command, artefact: Path) -> None:
    outcome = nxmi_export("lint", artefact)
    assert (outcome.code, outcome.err) == (0, "")
    assert "TensorRT linter: 0 refuse, 0 alter, 0 degrade, 12 note" in outcome.out


def test_every_graph_of_an_artefact_is_read(
    nxmi_export: Command, artefact: Path, bad: Path
) -> None:
    shutil.copyfile(bad, artefact / "model.fp16.onnx")
    manifest = read_artefact(artefact).manifest
    files = manifest.files | {"model.fp16.onnx": file_record(artefact / "model.fp16.onnx")}
    manifest.model_copy(update={"files": files}).write(artefact)
    outcome = nxmi_export("lint", artefact)
    assert outcome.code == 1
    assert (
        "TensorRT linter over model.onnx, model.fp16.onnx: 1 refuse, 0 alter, 0 degrade, 25 note"
    ) in " ".join(outcome.out.split())
    assert "found 1 refused, 0 altered and 0 degraded" in outcome.err
    report = json.loads(nxmi_export("lint", artefact, "--json").out)
    assert report["graphs"] == ["model.onnx", "model.fp16.onnx"]
    assert {each["graph"] for each in report["findings"] if each["severity"] == "refuse"} == {
        "model.fp16.onnx"
    }


def test_a_mended_copy_is_of_the_first_graph_alone(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    outcome = nxmi_export("lint", artefact, "--fix", "-o", tmp_path / "fixed.onnx", "--json")
    report = json.loads(outcome.out)
    assert report["graphs"] == ["fixed.onnx"]
    assert {each["graph"] for each in report["findings_before"]} == {"model.onnx"}


def test_a_refused_graph_is_1_and_named(nxmi_export: Command, bad: Path) -> None:
    outcome = nxmi_export("lint", bad)
    assert outcome.code == 1
    assert "stored-bias" in outcome.out
    assert outcome.err == (
        f"error: {bad}: expected nothing that TensorRT refuses, alters or degrades, found 1 "
        "refused, 0 altered and 0 degraded; do what the findings say, or mend what is fixable with "
        "--fix -o FILE\n"
    )


def test_json_has_every_finding(nxmi_export: Command, bad: Path) -> None:
    outcome = nxmi_export("lint", bad, "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 1
    assert report["schema"] == "nxmi-export/lint/2"
    assert report["graphs"] == ["bad.onnx"]
    assert report["counts"] == {"refuse": 1, "alter": 0, "degrade": 0, "note": 13}
    assert {each["rule"] for each in report["findings"]} == {
        "stored-bias",
        "duplicate-quantizers",
        "small-sparse-layer",
    }
    assert all(
        set(each) == {"graph", "rule", "severity", "node", "module", "found", "remedy"}
        for each in report["findings"]
    )


def test_fix_writes_a_mended_copy_and_leaves_the_graph(
    nxmi_export: Command, bad: Path, tmp_path: Path
) -> None:
    before = bad.read_bytes()
    fixed = tmp_path / "fixed.onnx"
    outcome = nxmi_export("lint", bad, "--fix", "-o", fixed, "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert bad.read_bytes() == before
    assert {each["rule"] for each in report["findings"]} == {"small-sparse-layer"}
    assert {each["pass"]: each["changes"] for each in report["fixes"] if each["changes"]} == {
        "StoreFloats": 1,
        "ShareQuantizers": 2,
    }
    assert nxmi_export("lint", fixed).code == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_mended_copy_holds_its_tensors_wherever_it_is(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    outcome = nxmi_export("lint", artefact, "--fix", "-o", elsewhere / "fixed.onnx")
    assert outcome.code == 0
    copied = ir.load(elsewhere / "fixed.onnx").graph.initializers
    original = ir.load(artefact / "model.onnx").graph.initializers
    assert copied.keys() == original.keys()
    for name, value in original.items():
        expected, found = value.const_value, copied[name].const_value
        assert expected is not None
        assert found is not None
        assert found.tobytes() == expected.tobytes()
    assert [path.name for path in elsewhere.iterdir()] == ["fixed.onnx"]


def test_capability_and_sequence_are_passed_on(nxmi_export: Command, artefact: Path) -> None:
    turing = nxmi_export("lint", artefact, "--compute-capability", "SM75", "--json")
    assert "turing-float" in {each["rule"] for each in json.loads(turing.out)["findings"]}
    long = nxmi_export("lint", artefact, "--sequence", 65, "--json")
    assert "position-limit" in {each["rule"] for each in json.loads(long.out)["findings"]}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--fix"],
            "--fix: expected together with -o FILE, the mended copy, found one without the other; "
            "name both or none",
        ),
        (
            ["--requantize"],
            "--requantize: expected together with --fix, found it alone; add --fix -o FILE",
        ),
        (
            ["--compute-capability", "ada"],
            "compute capability ada: expected sm and two or three digits, found 'ada'; name a GPU "
            "generation such as sm86",
        ),
    ],
)
def test_usage_errors(
    nxmi_export: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    outcome = nxmi_export("lint", tmp_path, *arguments)
    assert (outcome.code, outcome.sentence) == (2, sentence)


def test_what_is_no_graph(nxmi_export: Command, tmp_path: Path) -> None:
    garbage, empty = tmp_path / "garbage.onnx", tmp_path / "empty.onnx"
    garbage.write_bytes(b"\xff" * 64)
    odd = tmp_path / "odd.onnx"
    tensor = onnx.TensorProto(name="weight", dims=[1], data_type=999, raw_data=b"0000")
    onnx.save(onnx.ModelProto(graph=onnx.GraphProto(name="odd", initializer=[tensor])), odd)
    empty.touch()
    text = tmp_path / "config.json"
    text.write_text("{}")
    end = "; export it again or correct the path"
    for path, sentence in {
        tmp_path: "expected an ONNX file or an artefact, found a folder without a manifest; "
        "correct the path",
        tmp_path / "no": "expected an ONNX file or an artefact, found no file; correct the path",
        garbage: f"expected an ONNX model, found a file that cannot be decoded{end}",
        odd: f"expected an ONNX model, found a file that cannot be decoded{end}",
        text: f"expected an ONNX model, found a file that cannot be decoded{end}",
        empty: f"expected an ONNX model, found a graph without nodes{end}",
    }.items():
        outcome = nxmi_export("lint", path)
        assert (outcome.code, outcome.sentence) == (2, f"{path}: {sentence}")


def test_tensors_that_are_not_beside_the_graph(nxmi_export: Command, artefact: Path) -> None:
    lonely = artefact.parent / "lonely.onnx"
    lonely.write_bytes((artefact / "model.onnx").read_bytes())
    outcome = nxmi_export("lint", lonely)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{lonely}: expected an ONNX model, found tensors in model.onnx.data, which is not beside "
        "it; export it again or correct the path",
    )


def test_an_output_in_use_is_kept(nxmi_export: Command, bad: Path) -> None:
    before = bad.read_bytes()
    outcome = nxmi_export("lint", bad, "--fix", "-o", bad)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{bad}: expected an unused output path, found a file of that name; choose another with "
        "-o, or delete it",
    )
    assert bad.read_bytes() == before


def test_rule_names_are_unique() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
