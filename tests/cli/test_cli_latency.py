import functools
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from nxmi_export.cli.latency import latency_table
from nxmi_export.latency import DEVICES, LatencyTable, Workload, roofline
from nxmi_export.latency.gpus import GPUS
from nxmi_export.latency.measure_tensorrt import measure_tensorrt
from nxmi_export.latency.shapes import parse_shapes
from tests.cli.command_lines import Command

SHAPES = "768x768,768x3072"
GAINS = r".*\(\d\.\d\dx\)" * 3  # of the quantized kinds, in one line


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_datasheet_becomes_a_table_and_a_file(nxmi_export: Command) -> None:
    outcome = nxmi_export("latency", "--shapes", SHAPES, "--device", "L4", "--batch", 32)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Analytical latency on L4, batch 32 x 128 tokens" in outcome.out
    assert "a bound from the datasheet, nothing was run" in " ".join(outcome.out.split())
    assert re.search(rf"768 x 3072 {GAINS}", outcome.out)
    assert outcome.out.endswith("everything in l4.latency.json\n")
    rows = Workload(32, 128).rows
    expected = roofline("l4", parse_shapes(SHAPES), rows).given(batch=32, sequence=128)
    assert LatencyTable.read(Path("l4.latency.json")) == expected


@pytest.mark.parametrize("gpu", GPUS)
def test_a_table_of_large_linears_fits_a_terminal(gpu: str) -> None:
    table = roofline(gpu, parse_shapes("1024x1024,1024x4096,4096x1024"), 64)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(latency_table(table.given(batch=1, sequence=64)))
    shown = console.export_text()
    assert "…" not in shown
    assert re.search(r"in x out +┃ +float +┃ +int8 +┃ +int8 out +┃ +int8 2:4 ", shown)
    assert len(re.findall(rf"\d x \d+ .*\d{GAINS}", shown)) == 3


def test_json_is_the_content_of_the_file(nxmi_export: Command) -> None:
    arguments = ("--shapes", SHAPES, "--device", "t4", "-o", "my.json", "--json")
    outcome = nxmi_export("latency", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == json.loads(Path("my.json").read_text())


def test_a_model_is_computed_from_its_shape(nxmi_export: Command, model_file: Path) -> None:
    arguments = (model_file, "--device", "a100", "--sequence", 16, "-o", "a100.json")
    outcome = nxmi_export("latency", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert {rows for rows, _, _ in LatencyTable.read(Path("a100.json")).shapes} == {8 * 16}


def test_linears_are_timed_here(nxmi_export: Command) -> None:
    arguments = ("--shapes", "128x256", "--device", "onnxruntime", "--threads", 1)
    outcome = nxmi_export("latency", *arguments, "--batch", 4, "--sequence", 64)
    assert outcome.code == 0, outcome.err
    assert "Measured latency on onnxruntime" in outcome.out
    assert "float: float32" in outcome.out
    assert outcome.err == "" or outcome.err.startswith("note: runs of one linear took up to ")


def test_a_busy_machine_is_told(nxmi_export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = roofline("l4", parse_shapes(SHAPES), 1024)
    monkeypatch.setattr(
        "nxmi_export.cli.latency.table_for", lambda *_, **__: quiet.given(spread=1.26)
    )
    assert nxmi_export("latency", "--shapes", SHAPES, "--device", "l4").err == (
        "note: runs of one linear took up to 1.3 times its table entry; "
        "the machine was busy, so measure again when it is idle\n"
    )


@pytest.mark.parametrize(("model", "found"), [((), "neither"), (("model.pt",), "both")])
def test_a_model_or_shapes_are_asked_for(
    nxmi_export: Command, model: tuple[str, ...], found: str
) -> None:
    shapes = ("--shapes", SHAPES) if model else ()
    outcome = nxmi_export("latency", *model, *shapes, "--device", "l4")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"latency: expected a model or --shapes, found {found}; name one of them"
    )


def test_a_base_of_bare_shapes_is_refused(nxmi_export: Command) -> None:
    outcome = nxmi_export("latency", "--shapes", SHAPES, "--device", "l4", "--base", "bert")
    assert outcome.code == 2
    assert outcome.sentence == (
        "--base: expected a model whose configuration it is, found --shapes; leave --base out"
    )


def test_an_unknown_device_is_refused(nxmi_export: Command) -> None:
    outcome = nxmi_export("latency", "--shapes", SHAPES, "--device", "l40")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"device 'l40': expected one of {', '.join(DEVICES)}, found an unknown one; "
        "did you mean l40s?"
    )


@pytest.mark.parametrize(
    ("place", "found"), [("none/l4.json", "no such folder"), (".", "a folder")]
)
def test_a_place_for_no_file_is_refused_before_the_work(
    nxmi_export: Command, place: str, found: str
) -> None:
    outcome = nxmi_export("latency", "no-such-model.pt", "--device", "l4", "-o", place)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{place}: expected a file to write in a folder that exists, found {found}; "
        "choose another with -o"
    )


def test_a_table_may_be_made_again_and_nothing_else_is_replaced(
    nxmi_export: Command, model_file: Path, tmp_path: Path
) -> None:
    content = model_file.read_bytes()
    asked = ("latency", "--shapes", "64x64", "--device", "l4", "-o")
    outcome = nxmi_export(*asked, model_file)
    assert (outcome.code, model_file.read_bytes()) == (2, content)
    assert outcome.sentence == (
        f"{model_file}: expected a latency table to replace or an unused name, found another file; "
        "choose another with -o, or delete it yourself"
    )
    for _ in range(2):
        assert nxmi_export(*asked, tmp_path / "l4.json").code == 0


def test_a_machine_without_a_gpu_is_3(
    nxmi_export: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = functools.partial(measure_tensorrt, look_for_driver=lambda: None)
    monkeypatch.setattr("nxmi_export.latency.measure_tensorrt.measure_tensorrt", refuse)
    outcome = nxmi_export("latency", "--shapes", SHAPES, "--device", "tensorrt")
    assert outcome.code == 3
    assert not Path("tensorrt.latency.json").exists()
    assert outcome.sentence == (
        "timing TensorRT: expected an NVIDIA GPU with a driver, found no driver that answers; run "
        "on a machine with one, or name a GPU to compute from its datasheet (--device a100)"
    )
