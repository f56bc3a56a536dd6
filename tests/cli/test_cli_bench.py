import errno
import json
import shutil
import statistics
import sys
from pathlib import Path

import openvino
import pytest

from nxmi_export.artefact import read_artefact, sha256_of
from nxmi_export.backends import onnxruntime_saturation
from nxmi_export.backends.tensorrt_engine.device import open_device
from nxmi_export.bench import SCHEMA, Alone, Contender, Memory, NotRun, measure_peaks
from nxmi_export.bench.latency_statistics import latency
from nxmi_export.bench.result import Measured, WorkloadResult
from nxmi_export.errors import ArtefactError, CapabilityMissing
from nxmi_export.latency import LinearShape, Workload
from nxmi_export.workflow.bench import BenchRequest, contenders, other_files, run
from nxmi_export.workflow.bench.memory import Processes, measure_memory
from nxmi_export.workflow.bench.memory_process import Question
from tests.cli.command_lines import Command, Outcome

TIMES = ("--shapes", "1x4,2x8", "--rounds", 3, "--seconds", 0, "--threads", 1)
QUICK = (*TIMES, "--no-memory")
CONTENDERS = [
    "pytorch",
    "pytorch-bfloat16",
    "onnxruntime-float32",
    "onnxruntime",
    "onnxruntime-portable",
    "openvino",
    "tensorrt",
    "tensorrt-dense-kernels",
]


ABSENT = ("pytorch-bfloat16", "tensorrt", "tensorrt-dense-kernels")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without one, whatever this one has."""
    from nxmi_export.backends.tensorrt_engine import runner

    monkeypatch.setattr(
        runner, "open_device", lambda subject: open_device(subject, look_for_driver=lambda: None)
    )


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that take no seconds, and an answer about bfloat16 that all machines share."""
    monkeypatch.setattr(measure_peaks, "SHAPES", (LinearShape(256, 256),))
    monkeypatch.setattr(measure_peaks, "ROWS", 256)
    monkeypatch.setattr(contenders, "_multiplies_bfloat16", lambda: False)


MEMORY = Memory(90_000_000, 60_000_000, 20_000_000, 70_000_000, 110_000_000)


@pytest.fixture
def benched(nxmi_export: Command, artefact: Path) -> Outcome:
    return nxmi_export("bench", artefact, *QUICK)


def test_everything_is_measured_on_every_shape_or_says_why_not(
    benched: Outcome, artefact: Path
) -> None:
    assert benched.code == 0, benched.err
    document = json.loads((artefact / "bench.json").read_text())
    assert document["schema"] == SCHEMA
    assert [(each["batch"], each["sequence"]) for each in document["workloads"]] == [(1, 4), (2, 8)]
    for found in document["workloads"]:
        assert list(found["results"]) == CONTENDERS
        ran = {key: each for key, each in found["results"].items() if each["ran"]}
        assert list(ran) == [key for key in CONTENDERS if key not in ABSENT]
        assert found["rounds"] == 3
        for each in ran.values():
            call = each["call"]
            assert call["runs"] == 9
            assert 0 < call["p10"] <= call["p50"] <= call["p90"] <= call["p99"]
            assert each["examples_per_second"] == pytest.approx(found["batch"] / call["p50"])
            assert each["of_int8_limit"] == found["limits"]["int8"] / call["p50"]
        assert found["results"]["pytorch"]["speedup"]["median"] == 1
    assert document["settings"]["threads"] == 1
    files = read_artefact(artefact).manifest.files
    assert document["contenders"]["onnxruntime"]["sha256"] == files["model.cpu.onnx"].sha256
    assert document["artefact"]["files"]["model.onnx"] == files["model.onnx"].sha256


@pytest.mark.parametrize(
    ("products", "what"),
    [("int8", "OpenVINO, model.onnx"), ("float32", "OpenVINO, model.onnx in float32")],
)
def test_openvino_says_in_what_it_multiplies(
    products: str, what: str, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "products", lambda: products)
    (openvino,) = _openvino_of(artefact)
    assert openvino.what == what
    assert openvino.facts["products"] == products


def test_without_openvino_its_place_is_empty_and_says_why(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise CapabilityMissing("OpenVINO", expected="one", found="none", remedy="install it")

    monkeypatch.setattr(contenders, "products", absent)
    (openvino,) = _openvino_of(artefact)
    assert openvino.open() == NotRun("OpenVINO: expected one, found none; install it")
    assert openvino.facts["file"] == "model.onnx"
    assert "products" not in openvino.facts


def _openvino_of(artefact: Path) -> list[Contender]:
    request = BenchRequest(workloads=())
    found = contenders.contenders(read_artefact(artefact), request)
    return [each for each in found if each.key == "openvino"]


def test_the_limit_is_of_the_models_products_at_the_measured_rates(
    benched: Outcome, artefact: Path
) -> None:
    document = json.loads((artefact / "bench.json").read_text())
    rates = document["peaks"]["operations_per_second"]
    config = json.loads((artefact / "config.json").read_text())
    width, inner, blocks, labels = (
        *(config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")),
        len(config["id2label"]),
    )
    for found in document["workloads"]:
        batch, tokens = found["batch"], found["sequence"]
        of_blocks = blocks * tokens * (4 * width * width + 2 * width * inner)
        # The pooler and the head read one token.
        linears = 2 * batch * (of_blocks + width * width + width * labels)
        attention = 2 * batch * blocks * 2 * tokens * tokens * width
        assert found["limits"] == pytest.approx(
            {
                "float32": (linears + attention) / rates["float32"],
                "int8": linears / rates["int8"] + attention / rates["float32"],
            }
        )
    assert "limit: linears at " in benched.out


def test_bfloat16_runs_where_the_processor_multiplies_it(
    nxmi_export: Command, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "_multiplies_bfloat16", lambda: True)
    outcome = nxmi_export("bench", artefact, *QUICK)
    assert outcome.code == 0, outcome.err
    document = json.loads((artefact / "bench.json").read_text())
    assert document["workloads"][0]["results"]["pytorch-bfloat16"]["ran"] is True


def test_the_table_and_the_reasons_are_shown(benched: Outcome, artefact: Path) -> None:
    words = " ".join(benched.out.split())
    assert "Batch 1 x 4 tokens" in words
    assert "speed is against PyTorch, dense float32" in words
    reason = "the artefact has no model.plan; nxmi-export build makes it"
    assert words.count(f"not run: TensorRT, model.plan: {reason}") == 1
    assert "not run: PyTorch, dense bfloat16: this processor does not multiply bfloat16" in words
    assert words.count(f"not run: TensorRT, sparse kernels forbidden: {reason}") == 1
    places = f"everything in {artefact / 'bench.json'}\na picture in {artefact / 'bench.svg'}\n"
    assert benched.out.endswith(places)
    assert (artefact / "bench.svg").read_text().startswith("<svg ")
    assert benched.err == f"no profile_model.json: {reason}\n"
    assert not (artefact / "profile_model.json").exists()


def test_memory_is_measured_of_what_was_timed(
    nxmi_export: Command, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Question] = []

    def answer(self: Processes, question: Question) -> Memory | NotRun:
        asked.append(question)
        return NotRun("it died") if question.key == "openvino" else MEMORY

    monkeypatch.setattr(Processes, "ask", answer)
    outcome = nxmi_export("bench", artefact, *TIMES)
    assert outcome.code == 0, outcome.err
    document = json.loads((artefact / "bench.json").read_text())
    memory = document["memory"]
    assert (memory["batch"], memory["sequence"]) == (2, 8)
    assert list(memory["results"]) == CONTENDERS
    ran = [key for key, each in memory["results"].items() if each["ran"]]
    assert ran == ["pytorch", "onnxruntime-float32", "onnxruntime", "onnxruntime-portable"]
    assert memory["results"]["onnxruntime"]["peak_running"] == 110_000_000
    # The dense model is a file of its own by then, so that the exporter's memory is not its.
    keys = ["pytorch", "dense.onnx", "onnxruntime", "onnxruntime-portable", "openvino"]
    assert [each.key for each in asked] == keys
    assert {(each.artefact, each.threads) for each in asked} == {(str(artefact), 1)}
    words = " ".join(outcome.out.split())
    assert words.count("60.0 │ 20.0 │ 70.0 │ 110.0") == len(ran)
    assert "above the 90 MB that it holds with its libraries imported" in words
    assert "no memory: OpenVINO, model.onnx" in words
    assert words.count("the artefact has no model.plan") == 2  # once for each place, as times said


def test_memory_may_be_left_out(benched: Outcome, artefact: Path) -> None:
    document = json.loads((artefact / "bench.json").read_text())
    assert document["memory"] == {"measured": False, "reason": "it was not asked for"}
    assert "no memory: it was not asked for" in benched.out


def test_json_is_the_content_of_the_file(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    outcome = nxmi_export("bench", artefact, *QUICK, "-o", path, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == json.loads(path.read_text())


def test_times_are_kept_where_measuring_memory_ends_the_run(
    nxmi_export: Command, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, **others: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure_memory", interrupted)
    assert nxmi_export("bench", artefact, *TIMES).code == 130
    document = json.loads((artefact / "bench.json").read_text())
    assert document["memory"] == {"measured": False, "reason": "the run ended before"}
    times = document["workloads"][0]["results"]["onnxruntime"]
    assert len(times["round_seconds"]) == 3
    assert statistics.median(times["round_seconds"]) == pytest.approx(times["call"]["p50"], rel=0.5)
    assert (artefact / "bench.svg").is_file()


def test_what_cannot_be_written_for_its_process_is_the_reason(artefact: Path) -> None:
    def full(folder: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    each = Contender("dense", "dense", lambda: NotRun(""), {}, alone=Alone(written=full))
    times = Measured(latency([0.1]), None, None, None)
    shape = Workload(1, 4)
    timed = WorkloadResult(shape, rounds=1, other_cores=None, results={"dense": times})
    request = BenchRequest((shape,))
    found = measure_memory(
        read_artefact(artefact), request, [each], [timed], on_progress=lambda *_: None
    )
    assert found.results["dense"] == NotRun(
        "what its process was to open could not be written: [Errno 28] No space left on device"
    )


@pytest.mark.parametrize("saturates", [False, True])
def test_other_files_take_part_and_may_be_the_baseline(
    nxmi_export: Command,
    artefact: Path,
    tmp_path: Path,
    saturates: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(other_files, "saturates_here", lambda: saturates)
    other = tmp_path / "other.onnx"
    shutil.copy(artefact / "model.onnx", other)
    shutil.copy(artefact / "model.onnx.data", tmp_path)
    arguments = (*QUICK, "--against", other, "--baseline", "other.onnx")
    outcome = nxmi_export("bench", artefact, *arguments)
    assert outcome.code == 0, outcome.err
    document = json.loads((artefact / "bench.json").read_text())
    exact = ["other.onnx+exact"] if saturates else []
    assert list(document["contenders"]) == [*CONTENDERS, "other.onnx", *exact]
    assert document["workloads"][0]["results"]["other.onnx"]["speedup"]["median"] == 1
    assert "speed is against onnxruntime, other file other.onnx" in " ".join(outcome.out.split())


def test_files_of_openvino_take_part_by_default_and_with_exact_products(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.xml"
    openvino.save_model(openvino.convert_model(artefact / "model.onnx"), path)
    outcome = nxmi_export("bench", artefact, *QUICK, "--against", path)
    assert outcome.code == 0, outcome.err
    document = json.loads((artefact / "bench.json").read_text())
    facts = {key: document["contenders"][key] for key in ("other.xml", "other.xml+exact")}
    assert [each["products"] for each in facts.values()] == ["default", "exact"]
    assert facts["other.xml"]["weights_sha256"] == sha256_of(path.with_suffix(".bin"))
    for found in document["workloads"]:
        first, second = (found["results"][key] for key in facts)
        assert (first["ran"], second["ran"]) == (True, True)
        # Ties of random codes, or sums that saturate; another file would be further away.
        assert 0 <= first["logits_from_exact"] < 1
        assert second["logits_from_exact"] is None


def test_a_file_that_does_not_open_with_exact_products_says_so_in_their_place(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **more: object) -> None:
        raise ArtefactError(path, expected="a model", found="the tensor twice", remedy="none")

    monkeypatch.setattr(other_files, "saturates_here", lambda: True)
    monkeypatch.setattr(other_files, "OnnxRuntimeRunner", refuse)
    first, second = other_files.other_contenders(artefact / "model.onnx", 1)
    assert (first.exact, second.key) == ("model.onnx+exact", "model.onnx+exact")
    assert second.open() == NotRun(
        "onnxruntime does not open it with exact products: the tensor twice"
    )
    with pytest.raises(ArtefactError):
        first.open()


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_without_its_library_another_file_says_what_to_install(
    artefact: Path, tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = artefact / "model.onnx"
    if library == "openvino":
        path = tmp_path / "other.xml"
        for suffix in (".xml", ".bin"):
            path.with_suffix(suffix).touch()
    monkeypatch.setattr(onnxruntime_saturation, "_known", {})
    monkeypatch.setitem(sys.modules, library, None)
    first, *_ = other_files.other_contenders(path, 1)
    with pytest.raises(first.refusals) as caught:
        first.open()
    assert "expected an installation that loads" in str(caught.value)


def test_an_engine_that_cannot_run_here_is_listed_with_the_reason(
    nxmi_export: Command, artefact: Path, rtx: object
) -> None:
    shapes = "min=1x1,opt=2x8,max=4x8"
    assert nxmi_export("build", artefact, "--shapes", shapes, "--library", "tensorrt_rtx").code == 0
    outcome = nxmi_export("bench", artefact, *QUICK)
    words = " ".join(outcome.out.split())
    assert outcome.code == 0, outcome.err
    assert (
        "not run: TensorRT, model.plan: running model.plan: expected an NVIDIA GPU with a driver, "
        "found no driver that answers; run on a machine with one"
    ) in words
    assert (
        "not run: TensorRT, sparse kernels forbidden: TensorRT-RTX builds the same plan with and "
        "without sparse kernels"
    ) in words
    document = json.loads((artefact / "bench.json").read_text())
    assert document["contenders"]["tensorrt"]["library"].startswith("tensorrt_rtx 1.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--baseline", "nothing"),
            "baseline 'nothing': expected one of pytorch, pytorch-bfloat16, onnxruntime-float32, "
            "onnxruntime, onnxruntime-portable, openvino, tensorrt, tensorrt-dense-kernels, "
            "found an unknown one; name one of them",
        ),
        (
            ("--shapes", "8"),
            "shapes: expected the form 1x128,8x128 (batch x sequence of each), found '8'; "
            "write whole numbers, and commas between the shapes",
        ),
        (
            ("--shapes", "1x999"),
            "shape 1x999: expected at most 64 tokens, the model's position table, found 999; "
            "name a shorter sequence",
        ),
        (
            ("--against", "absent.onnx"),
            "absent.onnx: expected an ONNX model to compare with, found no file; correct the path",
        ),
        (
            ("--against", "absent.xml"),
            "absent.xml: expected a model of OpenVINO, which openvino.save_model writes as two "
            "files side by side, found no file; correct the path, or write both again",
        ),
        (
            ("--against", "other.plan"),
            "--against other.plan: expected an .onnx file, or an .xml of OpenVINO with its .bin "
            "beside it, found the suffix '.plan'; name a file in one of these formats",
        ),
        (
            ("-o", "bench.svg"),
            "-o, -o, the picture beside it: expected a file each, found bench.svg, bench.svg; "
            "give them different names",
        ),
        (
            ("-o", "absent/bench.json"),
            "absent/bench.json: expected a file to write in a folder that exists, found no such "
            "folder; choose another with -o",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_compared_is_refused(
    nxmi_export: Command, artefact: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    outcome = nxmi_export("bench", artefact, *QUICK, *arguments)
    assert (outcome.code, outcome.sentence) == (2, sentence)
    assert not (artefact / "bench.json").exists()


def test_two_files_of_one_name_are_refused(nxmi_export: Command, artefact: Path) -> None:
    model = artefact / "model.onnx"
    outcome = nxmi_export("bench", artefact, *QUICK, "--against", model, "--against", model)
    assert (outcome.code, outcome.sentence) == (
        2,
        "--against: expected files whose names tell them apart in the results, "
        "found two of model.onnx; rename one",
    )
