"""The comparison with other tools' files: what it says of made-up times, and of what failed."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import openvino
import pytest

from nxmi_export.processor import Processor
from nxmi_export.workflow.bench.other_files import EXACT
from samples.cell_table import read_result
from samples.cpu_peers import __main__ as cpu_peers
from samples.cpu_peers import environment, peers, place
from samples.cpu_peers.__main__ import RESULTS, main
from samples.cpu_peers.aims import sentences
from samples.cpu_peers.cells import Cell, cell_named, cells
from samples.cpu_peers.compare import Fastest, shapes_of
from samples.cpu_peers.environment import python_of
from samples.cpu_peers.make_onnxruntime import DYNAMIC, STATIC, quantize_both
from samples.cpu_peers.peers import PEERS, made_by
from samples.cpu_peers.place import Failed, Place, run_program
from samples.cpu_peers.table import markdown
from samples.fine_tune import INPUTS
from samples.other_tools import capture_dense
from tests.pipeline.exports import SIZES
from tests.tiny_models import tiny_model

MILLISECONDS = {
    "pytorch": 100.0,
    "onnxruntime": 20.0,
    "openvino": 25.0,
    "tensorrt": None,
    "quantize_dynamic.onnx": 18.0,
    f"quantize_dynamic.onnx{EXACT}": 30.0,
    "quantize_static.onnx": 26.0,
    f"quantize_static.onnx{EXACT}": 40.0,
    "nncf.xml": 15.0,
    f"nncf.xml{EXACT}": 60.0,
}
OFF = {"quantize_dynamic.onnx": 0.314, "quantize_static.onnx": 0.0, "nncf.xml": 0.02}
LIMIT = 14.0  # ms
OPTIMUM_FAILED = "no environment for requirements-optimum.txt: no | space"


def result(
    cell: Cell,
    milliseconds: dict[str, float | None] | None = None,
    rounds: Mapping[str, list[float]] = MappingProxyType({}),
) -> dict[str, Any]:
    given = MILLISECONDS if milliseconds is None else milliseconds
    results = {
        key: {"ran": False, "reason": "no plan"}
        if each is None
        else {
            "ran": True,
            "call": {"p50": each / 1e3},
            "of_int8_limit": LIMIT / each,
            "logits_from_exact": OFF.get(key),
            "round_seconds": rounds.get(key, []),
        }
        for key, each in given.items()
    }
    shape = {"batch": 8, "sequence": 128, "rounds": 6, "other_cores": 0.01, "results": results}
    return {
        "cell": {"model": cell.model, "threads": cell.threads},
        "peers": {
            "onnxruntime": _peer("onnxruntime==1.32.0", "quantize_dynamic", "quantize_static"),
            "optimum": {**_peer("optimum==2.1.0"), "not_run": OPTIMUM_FAILED},
            "nncf": {**_peer("nncf==3.4.0"), "files": ["nncf.xml"]},
        },
        "bench": {
            "contenders": {key: {"what": f"run of {key}"} for key in given},
            "peaks": {
                "measured": True,
                "operations_per_second": {"float32": 1e11, "int8": 2.5e11},
            },
            "workloads": [shape],
        },
    }


def _peer(versions: str, *stems: str) -> dict[str, Any]:
    files = [f"{stem}.onnx" for stem in stems]
    return {"with": versions, "calibration": "64 texts of mrpc", "files": files, "not_run": None}


def stored(folder: Path, *these: Cell) -> Path:
    for cell in these or cells():
        (folder / f"{cell.name}.json").write_text(json.dumps(result(cell)))
    return folder


# ----------------------------------------------------------------------------------- the table


def test_a_peer_that_may_lose_sums_is_exact_only_where_it_is_told_to_be() -> None:
    (shape,) = shapes_of(result(Cell("minilm", 2)))
    assert (shape.onnxruntime_any and shape.onnxruntime_any.key) == "quantize_dynamic.onnx"
    # Not quantize_static.onnx by default, whose logits happen to be equal.
    exact = f"quantize_dynamic.onnx{EXACT}"
    assert (shape.onnxruntime_exact and shape.onnxruntime_exact.key) == exact
    assert (shape.openvino_any and shape.openvino_any.key) == "nncf.xml"
    assert (shape.ours_openvino and shape.ours_openvino.key) == "openvino"
    assert (shape.ours and shape.ours.key) == "onnxruntime"


def test_what_disturbed_a_round_cancels_in_its_ratio() -> None:
    ours = Fastest("ours", 2.0, None, (1.0, 2.0, 2.0, 4.0, 2.0))
    other = Fastest("other", 3.0, None, (1.5, 3.0, 3.0, 6.0, 9.0))
    assert ours.times_faster_than(other) == 1.5
    # Without rounds, or of another run, medians are all there is.
    assert ours.times_faster_than(Fastest("other", 5.0, None)) == 2.5
    assert ours.times_faster_than(Fastest("other", 5.0, None, (5.0,))) == 2.5
    (shape,) = shapes_of(result(Cell("minilm", 2), rounds={"pytorch": [0.2, 0.3, 0.1]}))
    assert (shape.pytorch and shape.pytorch.rounds) == (0.2, 0.3, 0.1)


def test_where_no_kernel_loses_sums_default_runs_are_exact() -> None:
    given = {key: each for key, each in MILLISECONDS.items() if not key.endswith(f"onnx{EXACT}")}
    (shape,) = shapes_of(result(Cell("minilm", 2), given))
    assert (shape.onnxruntime_exact and shape.onnxruntime_exact.key) == "quantize_dynamic.onnx"


def test_a_file_whose_exact_run_failed_is_not_counted_as_exact() -> None:
    given = {**MILLISECONDS, f"quantize_dynamic.onnx{EXACT}": None}
    (shape,) = shapes_of(result(Cell("minilm", 2), given))
    exact = f"quantize_static.onnx{EXACT}"
    assert (shape.onnxruntime_exact and shape.onnxruntime_exact.key) == exact


def test_a_row_has_times_ratios_and_how_far_logits_are_off(tmp_path: Path) -> None:
    text = markdown(stored(tmp_path, Cell("minilm", 2)))
    lines = text.splitlines()
    assert "| run of pytorch | 100 (1.00×, 0.30×, 14%) |  |" in lines
    assert "| run of onnxruntime | 20 (5.00×, 1.50×, 70%) |  |" in lines
    assert "| run of quantize_dynamic.onnx | 18 (5.56×, 1.67×, 78%) | 0.31 |" in lines
    assert "| run of quantize_static.onnx | 26 (3.85×, 1.15×, 54%) |  |" in lines
    assert not any("run of tensorrt" in line for line in lines)


def test_what_did_not_run_keeps_its_place_with_the_reason(tmp_path: Path) -> None:
    lines = markdown(stored(tmp_path, Cell("minilm", 2))).splitlines()
    for name in ("optimum_dynamic.onnx", "optimum_static.onnx"):
        why = "not run: no environment for requirements-optimum.txt: no ¦ space"
        assert f"| {name} | {why} |  |" in lines
    assert "**BERT-base, random weights, 1 thread**: not run" in lines


def test_a_busy_machine_is_told(tmp_path: Path) -> None:
    found = result(Cell("minilm", 2))
    found["bench"]["workloads"][0]["other_cores"] = 1.25
    (tmp_path / "minilm_2.json").write_text(json.dumps(found))
    told = "Rounds: 6. Other processes kept up to 1.2 processors busy: measure again."
    assert told in markdown(tmp_path)


# ------------------------------------------------------------------------------------ the aims


def test_every_aim_is_met_or_missed_with_its_worst_case() -> None:
    found = {cell: result(cell) for cell in cells()}
    slow = result(
        Cell("minilm", 1),
        {**MILLISECONDS, "onnxruntime": 22.0, f"quantize_dynamic.onnx{EXACT}": 24.2},
    )
    assert sentences(found | {Cell("minilm", 1): slow}) == [
        "At least 4.0× PyTorch float32 on BERT-base: met; 5.00× at worst (bert-base, 2 threads, "
        "8x128), 5.00× at best; reached at 2 of 2.",
        "At least 1.2× the best exact peer on onnxruntime at every shape: missed; 1.10× at worst "
        "(minilm, 1 thread, 8x128), 1.50× at best; reached at 3 of 4; beside default runs as well, "
        "exact or not, 0.82× to 0.90×.",
        "At least 1.0× NNCF, both on OpenVINO: missed; 0.60× at worst (bert-base, 2 threads, "
        "8x128), 0.60× at best; reached at 0 of 4; where NNCF's products are exact as well, 2.40× "
        "to 2.40×; the fastest of ours on either library, 0.68× to 0.75×.",
        "At least 75 % of the INT8 limit on BERT-base: missed; 70% at worst (bert-base, 2 threads, "
        "8x128), 70% at best; reached at 0 of 2.",
        "At least 60 % of the INT8 limit on MiniLM: met; 64% at worst (minilm, 1 thread, 8x128), "
        "70% at best; reached at 2 of 2.",
    ]


def test_an_aim_is_open_while_cells_or_sides_are_missing() -> None:
    without = result(Cell("bert-base", 2), {**MILLISECONDS, "pytorch": None})
    found = {Cell("bert-base", 1): result(Cell("bert-base", 1)), Cell("bert-base", 2): without}
    first, *_, last = sentences(found)
    assert first == (
        "At least 4.0× PyTorch float32 on BERT-base: open; 5.00× at worst (bert-base, 1 thread, "
        "8x128), 5.00× at best; reached at 1 of 1; bert-base, 2 threads, 8x128 lacks a side."
    )
    assert last == "At least 60 % of the INT8 limit on MiniLM: open, as nothing was measured."


def test_nothing_measured_prints_as_such(tmp_path: Path) -> None:
    text = markdown(tmp_path)
    assert text.count(": not run") == len(list(cells()))
    assert text.count("open, as nothing was measured.") == 5


def test_cells_are_named_as_they_are_listed() -> None:
    assert [cell.name for cell in cells()] == ["bert-base_2", "bert-base_1", "minilm_2", "minilm_1"]
    assert cell_named("minilm_1") == Cell("minilm", 1)
    with pytest.raises(SystemExit, match="minilm_3: no such cell; --list names them"):
        cell_named("minilm_3")


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_stored_results_are_whole(path: Path) -> None:
    found = read_result(path.stem, path.parent)
    assert found is not None
    assert found["cell"] == vars(cell_named(path.stem))
    assert [each["rounds"] >= 6 for each in found["bench"]["workloads"]] == [True] * 3
    for shape in shapes_of(found):
        assert None not in (shape.pytorch, shape.ours, shape.onnxruntime_exact)


# ------------------------------------------------------------------------------ peers' files


def test_onnxruntimes_quantizers_write_both_files(tmp_path: Path) -> None:
    capture_dense(tiny_model(**SIZES), tmp_path / "dense.onnx")
    ids = np.random.default_rng(0).integers(0, 96, (3, 16))
    feeds = dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))
    np.savez(tmp_path / "calibration.npz", **feeds)
    (tmp_path / "made").mkdir()
    quantize_both(tmp_path / "dense.onnx", tmp_path / "calibration.npz", tmp_path / "made")
    assert PEERS[0].files == (DYNAMIC, STATIC)
    for name in (DYNAMIC, STATIC):
        model = openvino.convert_model(tmp_path / "made" / name)
        assert {each.get_any_name() for each in model.inputs} == set(INPUTS)


def test_a_tool_whose_environment_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*command: object) -> None:
        raise Failed("python -m pip failed: No matching distribution found for nncf==3.4.0")

    monkeypatch.setattr(environment, "run_program", fail)
    made = made_by(PEERS[2], "minilm", Place(tmp_path, tmp_path))
    assert made.files == ()
    assert made.not_run == (
        "no environment for requirements-nncf.txt: python -m pip failed: No matching distribution "
        "found for nncf==3.4.0"
    )
    assert made.facts["with"] == "nncf==3.4.0, numpy==2.4.6, openvino==2026.4.1"


def test_files_are_kept_until_they_would_be_made_with_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    def make(*command: object) -> None:
        begun.append(Path(str(command[-1])))
        (begun[-1] / DYNAMIC).write_text(f"{len(begun)}")

    monkeypatch.setattr(peers, "run_program", make)
    monkeypatch.setattr(peers, "_command", lambda *given: ("make", given[-1]))
    where = Place(tmp_path, tmp_path)
    contents = []
    for release in ("1", "1", "2"):
        monkeypatch.setattr(peers, "version", lambda name, release=release: release)
        contents.append(made_by(PEERS[0], "minilm", where).files[0].read_text())
    assert contents == ["1", "1", "2"]


def test_an_environment_is_kept_until_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[object, ...]] = []

    def note(*command: object) -> None:
        commands.append(command)
        (tmp_path / "environment").mkdir(exist_ok=True)

    monkeypatch.setattr(environment, "run_program", note)
    requirements = tmp_path / "requirements.txt"
    for text in ("a==1", "a==1", "a==2"):
        requirements.write_text(text)
        python = python_of(requirements, tmp_path / "environment")
    assert python.parent.parent == tmp_path / "environment"
    assert [command[2] for command in commands] == ["venv", "pip"] * 2


def test_a_program_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(Failed) as caught:
        run_program(
            sys.executable, "-c", "print('first'); print('the reason '); raise SystemExit(3)"
        )
    assert str(caught.value).endswith(" failed: the reason")


def test_the_requirements_are_pinned() -> None:
    for peer in PEERS:
        if peer.requirements is not None:
            lines = (place.HERE / peer.requirements).read_text().splitlines()
            assert all("==" in line for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--list", "bert-base_2"),
        ("--print", "### Processors with avx2\n\n"),
        ("--print", "**BERT-base, random weights, "),
    ],
)
def test_what_there_is_is_listed_and_printed(
    option: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cpu_peers", option])
    main()
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("instructions", "name"), [(("avx2", "avx512_vnni"), "avx512_vnni"), ((), "none")]
)
def test_results_lie_with_those_of_processors_like_it(
    instructions: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Processor("Imaginary Xeon", 2, instructions)
    monkeypatch.setattr(cpu_peers, "this_processor", lambda: here)
    assert cpu_peers.results_here() == RESULTS / name


def test_data_are_needed_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cpu_peers", "--only", "minilm_2"])
    with pytest.raises(SystemExit):
        main()
    assert "--data is needed: a directory of GLUE's Parquet files" in capsys.readouterr().err
