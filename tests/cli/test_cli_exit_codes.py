"""0 ok · 1 gate failed · 2 usage · 3 capability missing · 4 internal error · 130 interrupted."""

import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from nxmi_export.__main__ import main
from nxmi_export.artefact import read_artefact
from nxmi_export.backends.tensorrt_engine import Library
from nxmi_export.doctor import examine
from tests.cli.command_lines import Command

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds; what a slow machine may need to get going


def test_a_library_that_gives_up_in_words_is_an_internal_error(
    nxmi_export: Command, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself would end with 1 there, which is the answer of a gate."""

    def gives_up(directory: Path) -> None:
        raise SystemExit("no memory left")

    monkeypatch.setattr("nxmi_export.workflow.inspect.read_artefact", gives_up)
    outcome = nxmi_export("inspect", artefact)
    assert outcome.code == 4
    assert "no memory left" in outcome.err


def test_a_gate_that_fails_is_1_after_the_results(
    nxmi_export: Command, artefact: Path, rtx: Library
) -> None:
    outcome = nxmi_export("build", artefact, "--strict")
    assert outcome.code == 1
    assert "TensorRT engine" in outcome.out
    assert outcome.err == (
        f"error: {artefact / 'build.log'}: expected every promise proved, "
        "found INT8 proved, sparse kernels unproven; "
        "read engine.json for the modules and the reasons\n"
    )
    # Unproven is no reason to throw the engine away.
    assert "model.plan" in read_artefact(artefact).manifest.files


# Scales along the inputs of the weight: TensorRT builds this without a word, as a float product.
DEGRADED = """
    <ir_version: 10, opset_import: ["": 20]>
    g (int64[batch, sequence] ids) => (float[batch, sequence, 16] y)
    <float scale = {0.01}, int8 zero = {0}>
    {
      hidden = Gather (table, ids)
      codes = QuantizeLinear (hidden, scale, zero)
      data = DequantizeLinear (codes, scale, zero)
      weight = DequantizeLinear <axis = 0> (integers, scales)
      ["layer/MatMul"] product = MatMul (data, weight)
      y = Tanh (product)
    }"""


def _write(text: str, graph: Path) -> Path:
    numbers = np.random.default_rng(0)
    model = onnx.parser.parse_model(text)
    arrays = {
        "table": numbers.normal(size=(32, 16)).astype(np.float32),
        "integers": numbers.integers(-127, 128, (16, 16), dtype=np.int8),
        "scales": np.linspace(0.01, 0.02, 16, dtype=np.float32),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()
    )
    onnx.save(model, graph)
    return graph


def test_a_graph_that_tensorrt_degrades_is_1_and_named(
    nxmi_export: Command, tmp_path: Path, rtx: Library
) -> None:
    graph = _write(DEGRADED, tmp_path / "other.onnx")
    outcome = nxmi_export("build", graph, "--optShapes=ids:2x8", "--strict")
    assert outcome.code == 1
    assert "weight-scale-axis layer/MatMul" in " ".join(outcome.out.replace("│", " ").split())
    assert outcome.err.endswith(
        f"error: {tmp_path / 'other.build.log'}: expected every promise proved, found INT8 "
        "refuted, sparse kernels not claimed, and 1 degraded by the graph, first "
        "weight-scale-axis at layer/MatMul; read other.engine.json for the modules and the "
        "reasons\n"
    )
    assert (tmp_path / "other.plan").exists()


def test_a_graph_with_fixed_shapes_is_built_for_them(
    nxmi_export: Command, tmp_path: Path, rtx: Library
) -> None:
    graph = _write(DEGRADED.replace("batch, sequence", "2, 8"), tmp_path / "other.onnx")
    outcome = nxmi_export("build", graph)
    assert outcome.code == 1  # INT8 refuted, as with open shapes
    facts = json.loads((tmp_path / "other.engine.json").read_text())
    assert facts["profiles"] == [{"min": [2, 8], "opt": [2, 8], "max": [2, 8]}]
    assert not [each for each in facts["trtexec"] if "Shapes" in each]


def test_a_graph_whose_values_tensorrt_alters_is_2_and_not_built(
    nxmi_export: Command, tmp_path: Path, rtx: Library
) -> None:
    graph = _write(DEGRADED.replace("int8 zero", "uint8 zero"), tmp_path / "other.onnx")
    outcome = nxmi_export("build", graph, "--optShapes=ids:2x8")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{graph}: expected a graph whose values TensorRT computes as they are written, found "
        "uint8-activation at codes: uint8 codes around 0, which TensorRT takes for int8; quantize "
        "to int8, or let --requantize double the scale (not exact), or mend a copy with "
        f"nxmi-export lint {graph} --fix --requantize -o FILE"
    )
    assert list(tmp_path.iterdir()) == [graph]


def test_a_mistake_of_the_user_is_2(nxmi_export: Command) -> None:
    assert nxmi_export("no-such-model.pt").code == 2
    assert nxmi_export("--no-such-option").code == 2


def test_a_missing_library_is_3(
    nxmi_export: Command, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)  # how Python marks what cannot be imported
    before = read_artefact(artefact)
    outcome = nxmi_export("build", artefact)
    assert outcome.code == 3
    assert outcome.sentence == (
        "TensorRT: expected an installed tensorrt or tensorrt_rtx, found "
        "import of tensorrt halted; None in sys.modules; "
        "import of tensorrt_rtx halted; None in sys.modules; "
        'run `pip install "nxmi-export[rtx]"` (builds without a GPU) or '
        'run `pip install "nxmi-export[trt]"` (needs an NVIDIA GPU)'
    )
    assert read_artefact(artefact) == before


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_machine_without_a_required_library_is_3_after_the_diagnosis(
    nxmi_export: Command, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    wanted = [
        "numpy>=999",
        "no-such-library>=1",
        "packaging>=1",
        'no-such-extra>=1; extra == "hub"',
    ]
    monkeypatch.setattr(
        "nxmi_export.cli.doctor.examine", functools.partial(examine, requirements=wanted)
    )
    outcome = nxmi_export("doctor", *options)
    assert outcome.code == 3
    assert all(name in outcome.out for name in ("numpy", "no-such-library", "no-such-extra"))
    assert outcome.err == (
        "error: this machine: expected every required library, "
        "found numpy>=999 too old, no-such-library>=1 missing; "
        'run `pip install "numpy>=999"` and `pip install "no-such-library>=1"`\n'
    )


def test_a_library_that_this_platform_cannot_have_is_3(
    nxmi_export: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ['numpy>=1; sys_platform == "plan9"']
    monkeypatch.setattr(
        "nxmi_export.cli.doctor.examine", functools.partial(examine, requirements=wanted)
    )
    outcome = nxmi_export("doctor")
    assert outcome.code == 3
    assert outcome.err == (
        "error: this machine: expected every required library, found numpy>=1 missing; "
        "use a supported platform\n"
    )


def test_an_unexpected_error_is_4_with_its_trace(
    nxmi_export: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divide(subject: str, **others: object) -> None:
        raise ZeroDivisionError("a bug [red] of ours")

    monkeypatch.setattr("nxmi_export.workflow.inspect.inspect", divide)
    outcome = nxmi_export("inspect", "model.pt")
    assert (outcome.code, outcome.out) == (4, "")
    assert "in divide" in outcome.err
    assert "ZeroDivisionError: a bug [red] of ours" in outcome.err
    assert outcome.err.endswith("internal error: please report it with the trace above\n")


def test_ctrl_c_in_a_command_is_130(nxmi_export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(subject: str, **others: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nxmi_export.workflow.inspect.inspect", interrupted)
    outcome = nxmi_export("inspect", "model.pt")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.strip() == "interrupted: nothing was left half-written"


def test_ctrl_c_outside_of_a_command_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nxmi_export.cli.run", interrupted)
    assert main(["doctor"]) == 130


def interrupt(arguments: list[str], *, begun: Callable[[], bool]) -> tuple[int, str]:
    """Run a command line, send SIGINT once `begun`; exit code and the last line of its errors."""
    # What ignores the signal passes that on: a shell does so with what it runs in the background.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "nxmi_export", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, previous)
    with process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not begun():
                assert process.poll() is None, "it ended before it could be interrupted"
                assert time.monotonic() < deadline, "it did not get going"
                time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    # A signal inside of exec(), as when a dataclass is made, has CPython end itself by the signal
    # whatever the exit code; a shell reports 130 for both. And inside of a constructor it may leave
    # an object whose destructor then fails (ZipFile's does), which CPython tells on lines before.
    code = 130 if process.returncode == -signal.SIGINT else process.returncode
    return code, "\n".join(errors.splitlines()[-1:])


def test_ctrl_c_during_an_export_leaves_what_was_there(
    model_file: Path, artefact: Path, tmp_path: Path
) -> None:
    before = read_artefact(artefact)
    code, errors = interrupt(
        ["export", str(model_file), "-o", str(artefact), "--overwrite"],
        begun=lambda: any(tmp_path.glob(".artefact.*")),
    )
    assert (code, errors) == (130, "interrupted: nothing was left half-written")
    assert list(tmp_path.iterdir()) == [artefact]
    assert read_artefact(artefact) == before


def test_ctrl_c_during_a_build_leaves_the_artefact_as_it_was(
    artefact: Path, tmp_path: Path, rtx: Library
) -> None:
    before = read_artefact(artefact)
    code, errors = interrupt(
        ["build", str(artefact), "--optimization-level", "5"],
        begun=lambda: any(artefact.glob(".temporary.*/.model.plan.*")),
    )
    assert (code, errors) == (130, "interrupted: nothing was left half-written")
    assert list(tmp_path.iterdir()) == [artefact]
    after = read_artefact(artefact)
    assert after == before
    left = {path.name for path in artefact.iterdir()}
    assert left == {"manifest.json", *after.manifest.files}
