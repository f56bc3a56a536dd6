"""What each verb prints and returns; results on standard output, the rest on standard error."""

import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nxmi_export._version import __version__
from nxmi_export.artefact import read_artefact
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    HardwareCompatibility,
    Library,
    ShapeProfile,
    build_engine,
)
from nxmi_export.cli import console
from nxmi_export.errors import UsageError
from tests.cli.command_lines import Command, Outcome
from tests.pipeline.exports import ENCODER_LINEARS, LAYERS

ROOT = Path(__file__).resolve().parents[2]
VERBS = (
    *("search", "compress", "export", "lint", "build", "parity"),
    *("inspect", "latency", "doctor"),
)


def test_a_path_alone_is_exported_beside_itself(first_export: Outcome, model_file: Path) -> None:
    assert (first_export.code, first_export.err) == (0, "")
    artefact = read_artefact(model_file.parent / "model.artefact")
    assert artefact.source() == model_file
    for name in artefact.manifest.files:
        assert name in first_export.out
    assert f"{ENCODER_LINEARS} x 2:4+int8, 2 x dense" in first_export.out


def test_overwrite_replaces_a_whole_artefact(
    nxmi_export: Command, model_file: Path, artefact: Path, tmp_path: Path
) -> None:
    (artefact / "model.plan").write_text("of the model before")
    # Options may come first: the verb is still export.
    outcome = nxmi_export("--overwrite", "-o", artefact, model_file)
    assert (outcome.code, outcome.err) == (0, "")
    assert list(tmp_path.iterdir()) == [artefact]
    listed = {"manifest.json", *read_artefact(artefact).manifest.files}
    assert {path.name for path in artefact.iterdir()} == listed


def test_nothing_that_is_not_for_a_terminal_has_control_codes(
    first_export: Outcome, nxmi_export: Command
) -> None:
    outcomes = [nxmi_export(*each) for each in (["--help"], ["doctor"], ["nope.pt"], ["--nope"])]
    texts = [first_export.out, *(text for each in outcomes for text in (each.out, each.err))]
    assert sum(map(bool, texts)) == 1 + len(outcomes)
    assert not any("\x1b" in text or "\r" in text for text in texts)


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "build"]])
def test_version(nxmi_export: Command, arguments: list[str]) -> None:
    outcome = nxmi_export(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"nxmi-export {__version__}\n", "")
    assert importlib.metadata.version("nxmi-export") == __version__


def _as_a_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nxmi_export", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_module_runs_as_a_program() -> None:
    run = _as_a_program("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"nxmi-export {__version__}\n", "")


@pytest.mark.slow
def test_an_export_in_a_process_of_its_own_says_nothing_beside(
    model_file: Path, tmp_path: Path
) -> None:
    run = _as_a_program(model_file, "--no-autotune", "-o", tmp_path / "artefact")
    assert (run.returncode, run.stderr) == (0, "")
    assert f"{ENCODER_LINEARS} x 2:4+int8, 2 x dense" in run.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_every_verb_and_exit_code(nxmi_export: Command, arguments: list[str]) -> None:
    outcome = nxmi_export(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert all(f"│ {verb} " in outcome.out for verb in VERBS)
    text = " ".join(outcome.out.split())
    assert "Without a verb, export: nxmi-export model.pt means" in text
    assert text.endswith(
        "Exit codes: 0 ok, 1 the work was done and the answer is no: a gate failed, or training "
        "diverged, 2 usage or configuration, 3 capability missing, 4 internal error, "
        "130 interrupted."
    )


def test_no_arguments_are_answered_with_help_and_code_2(nxmi_export: Command) -> None:
    outcome = nxmi_export()
    assert outcome.code == 2
    assert all(f"│ {verb} " in outcome.out + outcome.err for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_each_example_on_a_line_of_its_own(
    nxmi_export: Command, verb: str
) -> None:
    outcome = nxmi_export(verb, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.strip() for line in outcome.out.splitlines()]
    examples = [line for line in lines if line.startswith("nxmi-export ")]
    assert lines.index("Examples") < lines.index(examples[0])
    assert len(examples) >= 2
    # A paragraph would hold more than one. What can be copied is indented, its codes told.
    assert f"     {examples[0]}" in outcome.out
    assert "Exit codes: 0 " in " ".join(lines)
    assert all(line.count("nxmi-export ") == 1 for line in examples)
    assert not re.search(r"[^\s,]…", outcome.out.replace("0…1", ""))  # nothing cut off


def test_inspect_lists_what_an_artefact_stores(nxmi_export: Command, artefact: Path) -> None:
    outcome = nxmi_export("inspect", artefact, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    manifest = read_artefact(artefact).manifest
    assert (facts["schema"], facts["kind"]) == ("nxmi-export/inspection/1", "artefact")
    assert facts["files"] == {name: record.bytes for name, record in manifest.files.items()}
    assert facts["recipe"] == manifest.recipe
    assert {name: each["scheme"] for name, each in facts["linears"].items()} == {
        name: record.storage for name, record in manifest.linears.items()
    }


def test_inspect_says_whether_a_report_is_of_the_artefact(
    nxmi_export: Command, artefact: Path, model_file: Path, tmp_path: Path
) -> None:
    manifest = read_artefact(artefact).manifest
    report = tmp_path / "parity.json"
    files = {name: record.sha256 for name, record in manifest.files.items()}
    document = {"schema": "nxmi-export/parity-run/4", "ok": True, "artefact": files}
    document["checkpoint"] = {"sha256": manifest.source.sha256}
    document["facts"] = manifest.facts_sha256
    document["splits"] = [{"ok": True, "failures": []}]
    document |= {"limit": None, "allowances": []}
    report.write_text(json.dumps(document))
    outcome = nxmi_export("inspect", artefact, "--report", report)
    assert outcome.code == 0
    assert outcome.out.endswith(f"{report} is of these files, and its gate holds\n")
    for less, found in (
        ({"limit": 8}, "no dev set was read beyond 8 examples"),
        (
            {"allowances": ["max_changed", "max_length"]},
            "it was run with other settings than usual: max_changed, max_length",
        ),
        ({"allowances": None}, "it was run with other settings than usual: None"),
    ):
        report.write_text(json.dumps(document | less))
        outcome = nxmi_export("inspect", artefact, "--report", report)
        assert outcome.code == 1
        assert outcome.out.endswith(f"its gate holds, but {found}\n")
        assert outcome.err == (
            f"error: {report}: expected a report of whole dev sets by the usual gate, found "
            f"{found}; run nxmi-export parity again without --limit and with the usual settings\n"
        )
    report.write_text(json.dumps({**document, "artefact": {}}))
    assert nxmi_export("inspect", artefact, "--report", report).code == 2
    failed = {**document, "ok": False, "splits": [{"ok": False, "failures": ["It drifts."]}]}
    report.write_text(json.dumps(failed))
    outcome = nxmi_export("inspect", artefact, "--report", report)
    assert outcome.code == 1
    assert outcome.out.endswith(f"{report} is of these files, and its gate failed\n")
    assert outcome.err == (
        f"error: {report}: expected a report whose gate holds, found one whose gate failed; its "
        "page says what failed\n"
    )
    outcome = nxmi_export("inspect", model_file, "--report", report)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{model_file}: the parity report {report}: expected an artefact that it may speak of, "
        "found a checkpoint; name the artefact, or leave --report out",
    )


def test_inspect_lists_what_a_checkpoint_holds(nxmi_export: Command, model_file: Path) -> None:
    outcome = nxmi_export("inspect", model_file, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    assert (facts["kind"], facts["files"]) == ("checkpoint", {})
    assert facts["architecture"] == "BertForSequenceClassification"
    assert facts["provenance"] == {"task": "sst2", "seed": 0}
    assert facts["linears"]["bert.encoder.layer.0.output.dense"] == {
        "scheme": "2:4+int8",
        "inputs": 128,
        "outputs": 64,
        "zeros": 0.5,
    }
    assert len(facts["linears"]) == ENCODER_LINEARS


@pytest.mark.parametrize("subject", ["model_file", "artefact"])
def test_inspect_shows_a_row_for_every_linear(
    nxmi_export: Command, request: pytest.FixtureRequest, subject: str
) -> None:
    outcome = nxmi_export("inspect", request.getfixturevalue(subject))
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line for line in outcome.out.splitlines() if "2:4+int8" in line]
    assert len(rows) == ENCODER_LINEARS
    assert all("50" in row.rpartition("│")[0].rpartition("│")[2] for row in rows)


def test_doctor_describes_this_machine(nxmi_export: Command) -> None:
    table, facts = nxmi_export("doctor"), nxmi_export("doctor", "--json")
    assert (table.code, table.err, facts.code, facts.err) == (0, "", 0, "")
    content = json.loads(facts.out)
    assert content["ok"] is True
    names = {each["name"] for each in content["components"]}
    assert {"nxmi-export", "torch", "onnxruntime", "tensorrt-rtx-cu13"} <= names
    assert all(name in table.out for name in names)


def test_build_takes_the_options_of_trtexec(
    nxmi_export: Command, artefact: Path, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[EngineOptions] = []

    def note(artefact: object, *, options: EngineOptions, **others: object) -> None:
        heard.append(options)
        raise UsageError("build", expected="a test", found="one", remedy="stop here")

    monkeypatch.setattr("nxmi_export.workflow.build.build", note)
    nxmi_export("build", artefact)
    nxmi_export("build", artefact, "--workspace", "3", "--no-tf32", "--optimization-level", "2")
    plan = ("--version-compatible", "--refit", "--strip-weights", "--timing-cache", "my.cache")
    kind = ("--sparsity", "disable", "--hardware-compatibility", "ampere-plus")
    gpus = ("--compute-capability", "sm86", "--compute-capability", "sm89")
    nxmi_export("build", artefact, *plan, *kind, *gpus)
    assert heard == [
        EngineOptions(),
        EngineOptions(workspace_bytes=3 << 20, tf32=False, optimization_level=2),
        EngineOptions(
            compute_capabilities=("sm86", "sm89"),
            sparse_weights=False,
            version_compatible=True,
            hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
            refit=True,
            strip_weights=True,
            timing_cache=Path("my.cache"),
        ),
    ]


def test_build_takes_several_profiles_in_either_spelling(
    nxmi_export: Command, artefact: Path, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[list[str]] = []

    def note(artefact: object, *, profiles: tuple[ShapeProfile, ...], **others: object) -> None:
        heard.append([str(profile) for profile in profiles])
        raise UsageError("build", expected="a test", found="one", remedy="stop here")

    monkeypatch.setattr("nxmi_export.workflow.build.build", note)
    first, second = "min=1x1,opt=1x8,max=1x64", "min=8x1,opt=8x32,max=8x64"
    nxmi_export("build", artefact, "--shapes", first, "--shapes", second)
    trtexec = [
        f"--{which}Shapes=input_ids:{shape},attention_mask:{shape},token_type_ids:{shape}"
        for profile in (first, second)
        for which, shape in (side.split("=") for side in profile.split(","))
    ]
    nxmi_export("build", artefact, *trtexec)
    assert heard == [[first, second], [first, second]]


def test_build_warns_of_what_may_make_the_engine_slower(
    nxmi_export: Command, artefact: Path, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "[I] Some tactics do not have sufficient workspace memory to run."

    def warned(*arguments: Any, **others: Any) -> BuildResult:
        result = build_engine(*arguments, **others)
        return replace(result, log=f"{result.log}{line}\n")

    monkeypatch.setattr("nxmi_export.workflow.make_engine.build_engine", warned)
    outcome = nxmi_export("build", artefact, "--library", rtx.name)
    assert (outcome.code, outcome.err) == (
        0,
        "warning: kernels that need more scratch memory than this GPU has were not tried: "
        f"{line}; lower the maximum shape to let them compete\n",
    )


def test_build_writes_an_engine_and_says_what_is_proved(
    nxmi_export: Command, artefact: Path, rtx: Library
) -> None:
    outcome = nxmi_export("build", artefact, "--library", rtx.name, "--optimization-level", "0")
    assert (outcome.code, outcome.err) == (0, "")
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in outcome.out.splitlines()
        if len(cells := line.split("│")) == 4
    }
    assert rows["built by"] == f"tensorrt_rtx {rtx.version}"
    assert rows["INT8 linears"].startswith(f"{ENCODER_LINEARS} of {ENCODER_LINEARS}, ")
    assert rows["fused INT8 attention"] == f"{LAYERS} of {LAYERS} layers"
    assert rows["INT8"] == "proved"
    assert rows["2:4 kernels"].startswith("unproven: TensorRT-RTX ignores SPARSE_WEIGHTS")
    assert rows["run"] == "unproven: the plan was not run on a GPU"
    assert rows["ignored"].startswith("--optimization-level 0: ")
    assert outcome.out.splitlines()[-1] == (
        f"the same with NVIDIA's tool: cd {artefact} && "
        f"{(artefact / 'trtexec.txt').read_text().strip()}"
    )
    assert "model.plan" in read_artefact(artefact).manifest.files


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    """Standard error as a terminal that records what it is shown."""
    shown = Console(force_terminal=True, record=True, width=100, stderr=True, color_system=None)
    monkeypatch.setattr(console, "ERRORS", shown)
    return shown


def test_a_terminal_sees_the_stages_of_an_export(terminal: Console) -> None:
    with console.stages() as begin:
        begin("reading [red] things")
        begin("writing")
    assert "reading [red] things" in terminal.export_text(clear=False)
    assert "writing" in terminal.export_text()


def test_a_terminal_sees_a_bar_for_each_phase(terminal: Console) -> None:
    with console.bars() as move:
        move("Building engine", 1, 4)
        move("Building engine", 4, 4)
    text = terminal.export_text()
    assert "Building engine" in text
    assert "4/4" in text


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    content: dict[str, Any] = {"value": float("nan")}
    with pytest.raises(ValueError, match="Out of range float values"):
        console.write_json(tmp_path / "result.json", content)
    assert list(tmp_path.iterdir()) == []
    console.write_json(tmp_path / "result.json", {"value": 1})
    assert json.loads((tmp_path / "result.json").read_text()) == {"value": 1}
