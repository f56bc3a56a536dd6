import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf.text_format import ParseError

from nxmi_export.artefact import Artefact
from nxmi_export.backends.tensorrt_engine import EngineOptions
from nxmi_export.errors import ArtefactError, NxmiError, OutputError, UsageError
from nxmi_export.recipe import Placement
from nxmi_export.workflow.triton import TritonRequest
from nxmi_export.workflow.triton import repository as repository_module
from nxmi_export.workflow.triton.pbtxt import Symbol, to_pbtxt
from nxmi_export.workflow.triton.repository import write_repository
from tests.engine_documents import profiles_of, with_engine_document
from tests.pipeline.exports import Exported
from tests.pipeline.triton_schema import name_of, parse_config

NAMES = ["input_ids", "attention_mask", "token_type_ids"]


@pytest.fixture
def artefact(export_of: Callable[[Placement], Exported]) -> Artefact:
    return export_of(Placement.SPARSE).artefact


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., TritonRequest]:
    def make(backend: Any = "onnxruntime", **more: Any) -> TritonRequest:
        return TritonRequest(tmp_path / "repository", more.pop("name", "bert"), backend, **more)

    return make


RequestFor = Callable[..., TritonRequest]


def with_plan(
    artefact: Artefact, *profiles: tuple[list[int], ...], library: str = "tensorrt"
) -> Artefact:
    """The same artefact with a plan that nothing here reads."""
    (artefact.directory / "model.plan").write_bytes(b"a plan")
    return with_engine_document(
        artefact,
        library={"name": library, "version": "10.14.1"},
        profiles=profiles_of(*profiles),
    )


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------ onnxruntime


def test_a_repository_for_onnxruntime_holds_the_cpu_graph_and_its_weights(
    artefact: Artefact, request_for: RequestFor
) -> None:
    request = request_for()
    written = write_repository(artefact, request)
    assert written.folder == request.repository / "bert"
    assert files_in(request.repository) == [
        "bert/1/model.cpu.onnx",
        "bert/1/model.onnx.data",
        "bert/config.pbtxt",
        "bert/labels.txt",
        "bert/warmup/ones_64",
    ]
    for name in ("model.cpu.onnx", "model.onnx.data"):
        copied = (written.folder / "1" / name).read_bytes()
        assert copied == (artefact.directory / name).read_bytes()
    labels = (written.folder / "labels.txt").read_text().splitlines()
    assert tuple(labels) == artefact.manifest.labels


def test_the_config_for_onnxruntime_says_what_the_graph_takes(
    artefact: Artefact, request_for: RequestFor
) -> None:
    written = write_repository(artefact, request_for(queue_delay=250))
    config = parse_config((written.folder / "config.pbtxt").read_text())
    assert (config.name, config.backend) == ("bert", "onnxruntime")
    assert (config.default_model_filename, config.max_batch_size) == ("model.cpu.onnx", 64)
    assert [each.name for each in config.input] == NAMES
    assert {name_of("DataType", each.data_type) for each in config.input} == {"TYPE_INT64"}
    assert {tuple(each.dims) for each in config.input} == {(-1,)}
    (output,) = config.output
    assert (output.name, list(output.dims), output.label_filename) == ("logits", [2], "labels.txt")
    assert name_of("DataType", output.data_type) == "TYPE_FP32"
    (group,) = config.instance_group
    assert (group.count, name_of("Kind", group.kind)) == (1, "KIND_CPU")
    assert list(config.dynamic_batching.preferred_batch_size) == [32, 64]
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert not config.HasField("optimization")


def test_the_served_graph_runs_its_own_warm_up(artefact: Artefact, request_for: RequestFor) -> None:
    folder = write_repository(artefact, request_for()).folder
    config = parse_config((folder / "config.pbtxt").read_text())
    session = ort.InferenceSession(
        str(folder / "1" / config.default_model_filename), providers=["CPUExecutionProvider"]
    )
    assert [sample.batch_size for sample in config.model_warmup] == [1, 32]
    for sample in config.model_warmup:
        feeds = {}
        for entry in sample.inputs:
            one = np.zeros(tuple(entry.value.dims), np.int64)
            if entry.value.input_data_file:
                content = (folder / "warmup" / entry.value.input_data_file).read_bytes()
                one = np.frombuffer(content, np.int64).reshape(one.shape)
                assert one.all()
            else:
                assert entry.value.zero_data
            feeds[entry.key] = np.repeat(one[None], sample.batch_size, axis=0)
        (logits,) = session.run(["logits"], feeds)
        assert logits.shape == (sample.batch_size, 2)
        assert np.isfinite(logits).all()


def test_a_smaller_batch_is_the_one_it_is_warmed_up_for(
    artefact: Artefact, request_for: RequestFor
) -> None:
    folder = write_repository(artefact, request_for(max_batch=4)).folder
    config = parse_config((folder / "config.pbtxt").read_text())
    assert config.max_batch_size == 4
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert [sample.batch_size for sample in config.model_warmup] == [1, 4]


def test_the_config_tells_where_the_model_came_from(
    artefact: Artefact, request_for: RequestFor
) -> None:
    folder = write_repository(artefact, request_for()).folder
    comment = [
        line for line in (folder / "config.pbtxt").read_text().splitlines() if line[0] == "#"
    ]
    files = artefact.manifest.files
    assert comment[1:] == [
        f"# model.cpu.onnx has SHA-256 {files['model.cpu.onnx'].sha256}.",
        f"# model.onnx.data has SHA-256 {files['model.onnx.data'].sha256}.",
        f"# Its checkpoint has SHA-256 {artefact.manifest.source.sha256}.",
        "# Needs Triton's onnxruntime backend, on a CPU with VNNI (others saturate).",
        "# Tuned for 32 x 64 tokens, 64 at most. Only requests of one length share",
        "# a batch: pad to few lengths.",
    ]


def test_a_regression_has_no_labels(sparse_copy: Artefact, request_for: RequestFor) -> None:
    manifest = sparse_copy.manifest.model_copy(update={"labels": ("score",)})
    regression = Artefact(sparse_copy.directory, manifest)
    folder = write_repository(regression, request_for()).folder
    (output,) = parse_config((folder / "config.pbtxt").read_text()).output
    assert (list(output.dims), output.label_filename) == ([1], "")
    assert not (folder / "labels.txt").exists()


# --------------------------------------------------------------------------------- TensorRT


def test_the_config_for_tensorrt_follows_the_profile_of_the_plan(
    sparse_copy: Artefact, request_for: RequestFor
) -> None:
    artefact = with_plan(sparse_copy, ([1, 1], [16, 32], [48, 64]))
    folder = write_repository(artefact, request_for("tensorrt")).folder
    assert files_in(folder / "1") == ["model.plan"]
    text = (folder / "config.pbtxt").read_text()
    assert "# Needs Triton's tensorrt backend with TensorRT 10.14.1, and the GPU of" in text
    config = parse_config(text)
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.max_batch_size == 48
    assert list(config.dynamic_batching.preferred_batch_size) == [16, 48]
    (group,) = config.instance_group
    assert (name_of("Kind", group.kind), list(group.profile)) == ("KIND_GPU", [])
    cuda = config.optimization.cuda
    assert cuda.graphs
    graphs = [
        (spec.batch_size, {each.key: list(each.value.dim) for each in spec.input})
        for spec in cuda.graph_spec
    ]
    assert graphs == [(batch, {name: [32] for name in NAMES}) for batch in (1, 16)]
    assert [sample.batch_size for sample in config.model_warmup] == [1, 16]


def test_every_profile_is_named_and_the_largest_batch_fits_all(
    sparse_copy: Artefact, request_for: RequestFor
) -> None:
    short, long = ([1, 1], [32, 16], [64, 16]), ([1, 1], [4, 64], [8, 64])
    artefact = with_plan(sparse_copy, short, long)
    written = write_repository(artefact, request_for("tensorrt"))
    text = (written.folder / "config.pbtxt").read_text()
    config = parse_config(text)
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert config.max_batch_size == 8
    assert written.served.narrowed == (
        "batches are of 8 at most, not 64: Triton does not ask which profile will run one, and "
        "min=1x1,opt=4x64,max=8x64 holds no more"
    )
    assert f"# Note: {written.served.narrowed}.\n" in text


def test_a_batch_that_was_asked_for_needs_no_note(
    sparse_copy: Artefact, request_for: RequestFor
) -> None:
    short, long = ([1, 1], [32, 16], [64, 16]), ([1, 1], [4, 64], [8, 64])
    artefact = with_plan(sparse_copy, short, long)
    request = request_for("tensorrt", max_batch=8)
    assert write_repository(artefact, request).served.narrowed is None


@pytest.mark.parametrize(
    ("low", "library", "more", "error", "sentence"),
    [
        (
            1,
            "tensorrt_rtx",
            {},
            UsageError,
            "{folder}/model.plan: expected a plan of TensorRT, the only ones that Triton's backend "
            "loads, found one of tensorrt_rtx; build it with --library tensorrt, or serve with "
            "--backend onnxruntime",
        ),
        (
            2,
            "tensorrt",
            {},
            UsageError,
            "{folder}/model.plan: expected a profile that begins at one example, for a request may "
            "come alone, found none below 2; build it with --shapes min=1x…",
        ),
        (
            1,
            "tensorrt",
            {"max_batch": 9},
            UsageError,
            "--max-batch: expected at most 8, what {folder}/model.plan was built for, found 9; "
            "lower it, or build the engine for larger batches",
        ),
    ],
    ids=["RTX", "no single example", "batch too large"],
)
def test_a_plan_that_cannot_be_served_is_refused(
    sparse_copy: Artefact,
    request_for: RequestFor,
    low: int,
    library: str,
    more: dict[str, int],
    error: type[NxmiError],
    sentence: str,
) -> None:
    artefact = with_plan(sparse_copy, ([low, 1], [8, 16], [8, 16]), library=library)
    request = request_for("tensorrt", **more)
    with pytest.raises(error) as caught:
        write_repository(artefact, request)
    assert str(caught.value) == sentence.format(folder=artefact.directory)
    assert not request.repository.exists()


def test_a_plan_without_its_weights_is_not_published(
    sparse_copy: Artefact, request_for: RequestFor
) -> None:
    artefact = with_plan(sparse_copy, ([1, 1], [8, 16], [8, 16]))
    stripped = EngineOptions(strip_weights=True).as_json()
    artefact = with_engine_document(artefact, options=stripped)
    request = request_for("tensorrt")
    with pytest.raises(ArtefactError) as caught:
        write_repository(artefact, request)
    assert str(caught.value) == (
        f"{artefact.directory / 'model.plan'}: expected a plan with its weights, found one built "
        "with --strip-weights, which runs only after a refit; build it again without the option"
    )
    assert not request.repository.exists()


def test_an_artefact_without_an_engine_is_told_how_to_get_one(
    artefact: Artefact, request_for: RequestFor
) -> None:
    with pytest.raises(ArtefactError) as caught:
        write_repository(artefact, request_for("tensorrt"))
    assert str(caught.value) == (
        f"{artefact.directory}: expected an artefact with model.plan, found none; build it with "
        "nxmi-export build, or serve with --backend onnxruntime"
    )


# ------------------------------------------------------------------------- whole or not at all


def test_a_second_model_joins_a_repository_and_leaves_the_first_alone(
    artefact: Artefact, request_for: RequestFor
) -> None:
    request = request_for(name="first")
    write_repository(artefact, request)
    before = files_in(request.repository)
    write_repository(artefact, request_for(name="second"))
    after = files_in(request.repository)
    assert after == before + [name.replace("first", "second", 1) for name in before]


def test_a_model_of_the_same_name_is_refused(artefact: Artefact, request_for: RequestFor) -> None:
    folder = write_repository(artefact, request_for()).folder
    before = files_in(folder)
    with pytest.raises(OutputError) as caught:
        write_repository(artefact, request_for(max_batch=4))
    assert str(caught.value) == (
        f"{folder}: expected a model that the repository does not have yet, found one of this "
        "name; choose another with --name, or delete the folder yourself"
    )
    assert files_in(folder) == before


def test_a_file_in_the_place_of_the_repository_is_refused(
    artefact: Artefact, request_for: RequestFor
) -> None:
    request = request_for()
    request.repository.write_text("notes")
    with pytest.raises(OutputError) as caught:
        write_repository(artefact, request)
    assert str(caught.value) == (
        f"{request.repository}: expected a folder or an unused name, found a file; "
        "choose another with -o"
    )


@pytest.mark.parametrize("exists", [False, True], ids=["new repository", "old repository"])
def test_a_full_device_leaves_nothing(
    artefact: Artefact, request_for: RequestFor, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(repository_module.shutil, "copyfile", full)
    request = request_for()
    if exists:
        request.repository.mkdir()
    with pytest.raises(OutputError, match="found no space left on the device"):
        write_repository(artefact, request)
    assert request.repository.exists() is exists
    assert list(request.repository.parent.rglob("*")) == ([request.repository] if exists else [])


def test_a_file_that_changes_while_it_is_copied_is_refused(
    artefact: Artefact, request_for: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        repository_module.shutil, "copyfile", lambda source, target: target.write_bytes(b"new")
    )
    request = request_for()
    with pytest.raises(ArtefactError) as caught:
        write_repository(artefact, request)
    assert str(caught.value) == (
        f"{artefact.directory / 'model.cpu.onnx'}: expected the file that the manifest describes, "
        "found other contents, written while it was copied; run the command again"
    )
    assert not request.repository.exists()


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "a/b", "näme"])
def test_a_name_that_is_no_folder_of_a_url_is_refused(name: str, request_for: RequestFor) -> None:
    with pytest.raises(UsageError) as caught:
        request_for(name=name)
    assert str(caught.value) == (
        f"model name {name!r}: expected letters, digits, '_', '-' and '.', for it is a folder and "
        "part of a URL, found others; choose another with --name"
    )


# ------------------------------------------------------------------------------- text format


def test_text_is_one_field_a_line() -> None:
    message = {
        "name": 'a "b"\\c',
        "backend": "x",
        "max_batch_size": 3,
        "input": [{"name": "i", "data_type": Symbol("TYPE_INT32"), "dims": [-1, 2]}],
        "optimization": {"cuda": {"graphs": True}},
    }
    text = to_pbtxt(message, comment=["one", "two"])
    assert text == (
        "# one\n# two\n"
        'name: "a \\"b\\"\\\\c"\nbackend: "x"\nmax_batch_size: 3\n'
        'input {\n  name: "i"\n  data_type: TYPE_INT32\n  dims: -1\n  dims: 2\n}\n'
        "optimization {\n  cuda {\n    graphs: true\n  }\n}\n"
    )
    parsed = parse_config(text)
    assert parsed.name == message["name"]
    assert list(parsed.input[0].dims) == [-1, 2]


@pytest.mark.parametrize(
    "text", ["nam: 'a'", "name: 3", "max_batch_size: 'a'", "input { data_type: INT64 }", "name"]
)
def test_the_parser_that_configs_are_held_to_is_strict(text: str) -> None:
    with pytest.raises(ParseError):
        parse_config(text)
