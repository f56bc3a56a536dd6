"""What cannot be done as asked: exit code 2, one exact sentence on standard error, nothing left."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from nxmi_export.artefact import read_artefact
from nxmi_export.backends.tensorrt_engine import Library
from nxmi_export.checkpoint import CompressedCheckpoint, read_checkpoint, write_checkpoint
from nxmi_export.recipe import Recipe
from tests.cli.command_lines import Command
from tests.pipeline.exports import SIZES
from tests.tiny_models import tiny_model, write_hugging_face

QUERY = "bert.encoder.layer.0.attention.self.query"


class Payload:
    """A pickle that leaves a file behind if it is ever executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def rewritten(source: Path, target: Path, **state: torch.Tensor) -> Path:
    """A copy of a model file in which some tensors are others."""
    read = read_checkpoint(str(source))
    names = {name.replace("__", "."): tensor for name, tensor in state.items()}
    assert names.keys() <= read.state.keys()
    checkpoint = CompressedCheckpoint(
        architecture=read.architecture,
        config=read.config,
        state={**read.state, **names},
        tokenizer=read.tokenizer,
        recipe=read.recipe,
        provenance=read.provenance,
    )
    write_checkpoint(target, checkpoint)
    return target


def files_under(folder: Path) -> Mapping[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_file_that_is_not_there(nxmi_export: Command, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{path}: expected a model file, a Hugging Face directory or a hub name, "
        "found nothing at this path; check the spelling and the working directory"
    )
    assert files_under(tmp_path) == {}


def test_a_pickle_with_code_is_not_executed(nxmi_export: Command, tmp_path: Path) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "executed"
    torch.save({"weights": Payload(trace)}, path)
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{path}: expected tensors and plain data only, found a pickle that wants to import "
        f"{os.mkdir.__module__}.mkdir, which was not executed; "
        "save model.state_dict() instead of the model object"
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_bare_pickle_with_code_is_not_executed(nxmi_export: Command, tmp_path: Path) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Payload(trace)))
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert "which was not executed" in outcome.sentence
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_model_file(nxmi_export: Command, model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(model_file.read_bytes()[:-1000])
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{path}: expected a complete torch file, found an archive without its directory at the "
        "end; copy or save the file again"
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_dict_without_a_base(nxmi_export: Command, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(tiny_model().state_dict(), path)
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{path}: expected a configuration beside the weights, found a bare state dict; "
        "pass --base with the directory or hub name it was trained from"
    )


def test_a_state_dict_that_does_not_fit_its_base(nxmi_export: Command, tmp_path: Path) -> None:
    base = write_hugging_face(tmp_path / "base", tiny_model(**SIZES))
    path = tmp_path / "weights.pt"
    torch.save(tiny_model(**SIZES | {"intermediate_size": 64}).state_dict(), path)
    outcome = nxmi_export(path, "--base", base)
    assert outcome.code == 2
    assert outcome.sentence == (
        "state dict: expected the weights of this BertForSequenceClassification, found "
        "bert.encoder.layer.0.intermediate.dense.weight as float32 (64, 64) where "
        "float32 (128, 64) belongs; "
        "use the configuration and recipe that the weights were trained with"
    )


def test_a_width_that_two_to_four_does_not_divide(nxmi_export: Command, tmp_path: Path) -> None:
    model = tiny_model(intermediate_size=37)
    checkpoint = CompressedCheckpoint(
        architecture=type(model).__name__,
        config=model.config.to_dict(),
        state=model.state_dict(),
        tokenizer={},
        recipe=Recipe(),
    )
    write_checkpoint(tmp_path / "model.pt", checkpoint)
    outcome = nxmi_export(tmp_path / "model.pt")
    assert outcome.code == 2
    assert outcome.sentence == (
        "bert.encoder.layer.0.output.dense: expected an input width that is a multiple of 4 for "
        "2:4, found width 37; give the layer another scheme under overrides in the recipe"
    )


@pytest.mark.parametrize("value", [float("nan"), 0.0, float("inf"), -0.5])
def test_a_scale_that_divides_nothing(
    nxmi_export: Command, model_file: Path, tmp_path: Path, value: float
) -> None:
    scale = read_checkpoint(str(model_file)).state[f"{QUERY}.weight_quantizer.scale"].clone()
    scale[3] = value
    name = f"{QUERY}.weight_quantizer.scale".replace(".", "__")
    path = rewritten(model_file, tmp_path / "model.pt", **{name: scale})
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{QUERY}.weight_quantizer: expected positive finite scales, "
        f"found {value} at index 3; calibrate the model before saving it"
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_weight_that_breaks_its_pattern(
    nxmi_export: Command, model_file: Path, tmp_path: Path
) -> None:
    name = f"{QUERY}.weight".replace(".", "__")
    path = rewritten(model_file, tmp_path / "model.pt", **{name: torch.ones(64, 64)})
    outcome = nxmi_export(path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{QUERY}: expected 2:4 sparsity along in_features, found 4 non-zeros in group 0 of row 0; "
        "project the weights onto the pattern before saving them"
    )


def test_an_output_directory_that_is_not_empty(
    nxmi_export: Command, model_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = files_under(tmp_path)
    outcome = nxmi_export(model_file, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{tmp_path / 'out'}: expected an empty or new output folder, found a folder with files in "
        "it; choose another with -o, or pass --overwrite to replace it"
    )
    assert files_under(tmp_path) == before


def test_overwrite_leaves_a_folder_that_is_no_artefact(
    nxmi_export: Command, model_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "web application"
    output.mkdir()
    (output / "manifest.json").write_text('{"name": "mine", "start_url": "/"}')
    before = files_under(tmp_path)
    outcome = nxmi_export(model_file, "-o", output, "--overwrite")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{output}: expected an artefact to overwrite, found a folder that is no artefact; "
        "choose another with -o, or delete the folder yourself"
    )
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_an_output_around_the_model_itself(
    nxmi_export: Command, model_file: Path, artefact: Path, options: list[str]
) -> None:
    model = artefact / "model.pt"
    model.write_bytes(model_file.read_bytes())
    before = files_under(artefact)
    outcome = nxmi_export(model, "-o", artefact, *options)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{artefact}: expected an output folder apart from the model and its base, "
        f"found {model} in its place or inside it; choose another with -o"
    )
    assert files_under(artefact) == before


def test_an_output_in_the_place_of_the_base(nxmi_export: Command, tmp_path: Path) -> None:
    base = write_hugging_face(tmp_path / "base", tiny_model(**SIZES))
    weights = tmp_path / "weights.pt"
    torch.save(tiny_model(**SIZES).state_dict(), weights)
    before = files_under(tmp_path)
    outcome = nxmi_export(weights, "--base", base, "-o", base, "--overwrite")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{base}: expected an output folder apart from the model and its base, "
        f"found {base} in its place or inside it; choose another with -o"
    )
    assert files_under(tmp_path) == before


def test_an_output_around_the_working_directory(
    nxmi_export: Command, model_file: Path, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (artefact / "notes").mkdir()
    monkeypatch.chdir(artefact / "notes")
    outcome = nxmi_export(model_file, "-o", "..", "--overwrite")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{artefact}: expected an output folder that can be replaced as a whole, "
        "found a mount point, or the working directory in it; name a new folder inside it"
    )
    assert (artefact / "manifest.json").is_file()


def test_an_output_that_is_a_file(nxmi_export: Command, model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    outcome = nxmi_export(model_file, "-o", tmp_path / "out", "--overwrite")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{tmp_path / 'out'}: expected a folder or an unused name, found a file; "
        "choose another output path"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_below_a_file(nxmi_export: Command, model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" / "out"
    outcome = nxmi_export(model_file, "-o", output)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{output}: expected an output path in a writable folder, found a file where a folder "
        "belongs; choose another output path"
    )


def test_an_output_in_a_folder_that_may_not_be_written(
    nxmi_export: Command, model_file: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write everywhere, as root may")
    outcome = nxmi_export(model_file, "-o", closed / "out")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{closed / 'out'}: expected an output path in a writable folder, found Permission denied; "
        "choose another output path or change the folder's permissions"
    )


def test_an_output_where_nothing_can_be_written(nxmi_export: Command, model_file: Path) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs the proc file system, in which not even root makes folders")
    outcome = nxmi_export(model_file, "-o", "/proc/nxmi/out")
    assert outcome.code == 2
    assert outcome.sentence == (
        "/proc/nxmi/out: expected an output path in a writable folder, found No such file or "
        "directory; choose another output path or make its folder first"
    )


@pytest.mark.parametrize("verb", ["build", "inspect"])
def test_an_artefact_with_a_changed_file(nxmi_export: Command, artefact: Path, verb: str) -> None:
    path = artefact / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    before = files_under(artefact)
    outcome = nxmi_export(verb, artefact)
    assert outcome.code == 2
    assert outcome.sentence.startswith(f"{path}: expected the file with SHA-256 ")
    assert outcome.sentence.endswith(
        "…, found other contents; export the model again, or restore the file"
    )
    assert files_under(artefact) == before


@pytest.mark.parametrize(
    ("name", "found"), [("", "No such file or directory"), ("file", "Not a directory")]
)
def test_a_path_that_is_no_artefact(
    nxmi_export: Command, tmp_path: Path, name: str, found: str
) -> None:
    (tmp_path / "file").touch()
    outcome = nxmi_export("build", tmp_path / name)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{tmp_path / name}: expected an artefact directory with manifest.json, found {found}; "
        "make one with nxmi-export MODEL -o DIRECTORY"
    )


def test_a_profile_beyond_the_position_table(nxmi_export: Command, artefact: Path) -> None:
    before = files_under(artefact)
    outcome = nxmi_export("build", artefact, "--shapes", "min=1x8,opt=2x16,max=4x128")
    assert outcome.code == 2
    assert outcome.sentence == (
        "shapes min=1x8,opt=2x16,max=4x128: expected at most 64 tokens, the model's position table,"
        " found a maximum of 128; lower the maximum sequence to 64 or less"
    )
    assert files_under(artefact) == before


def test_a_profile_that_cannot_be_read(nxmi_export: Command, artefact: Path) -> None:
    outcome = nxmi_export("build", artefact, "--shapes", "8x128")
    assert outcome.code == 2
    assert outcome.sentence == (
        "shapes: expected the form min=1x8,opt=32x128,max=64x512 (batch x sequence), "
        "found '8x128'; name all three shapes in this order"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--shapes", "min=1x8,opt=1x8,max=1x8", "--optShapes=*:1x8"],
            "shapes: expected one spelling, --shapes or trtexec's, found both; "
            "write all profiles in one of them",
        ),
        (
            ["-o", "model.plan"],
            "-o model.plan: expected none, because an artefact keeps its engine inside, found one; "
            "leave it out, or build the ONNX file inside the artefact",
        ),
        (
            ["--optShapes=*:1x128"],
            "shapes min=1x128,opt=1x128,max=1x128: expected at most 64 tokens, the model's "
            "position table, found a maximum of 128; lower the maximum sequence to 64 or less",
        ),
    ],
)
def test_build_options_that_do_not_go_together(
    nxmi_export: Command, artefact: Path, arguments: list[str], sentence: str
) -> None:
    before = files_under(artefact)
    outcome = nxmi_export("build", artefact, *arguments)
    assert (outcome.code, outcome.sentence) == (2, sentence)
    assert files_under(artefact) == before


def test_a_plan_that_cannot_be_written_is_refused_before_the_build(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "own.plan"
    plan.mkdir()
    outcome = nxmi_export("build", artefact / "model.onnx", "-o", plan)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{plan}: expected a file to write in a folder that exists, found a folder; "
        "choose another with -o",
    )


def test_a_plan_is_not_put_where_it_would_not_be_known(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    graph = artefact / "model.onnx"
    before = files_under(tmp_path)
    assert nxmi_export("build", graph).sentence == (
        f"-o {artefact / 'model.plan'}: expected a plan outside of an artefact, whose manifest "
        "would not know it, found one inside; "
        "build the artefact itself, or name another folder with -o"
    )
    assert nxmi_export("build", graph, "-o", graph).sentence == (
        f"-o {graph}: expected a name that ends in .plan or .engine, found 'model.onnx'; rename it"
    )
    assert nxmi_export("build", graph, "--precision", "fp16").sentence == (
        "--precision fp16: expected an artefact, which holds one graph for each precision, "
        f"found the file {graph}, whose types are as they are; leave the option out"
    )
    assert files_under(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "no file"), (b"not a protobuf" * 9, "a file that cannot be decoded")],
)
def test_an_onnx_file_that_is_none_is_not_built(
    nxmi_export: Command, tmp_path: Path, content: bytes | None, found: str
) -> None:
    path = tmp_path / "other.onnx"
    if content is not None:
        path.write_bytes(content)
    outcome = nxmi_export("build", path)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{path}: expected an ONNX model, found {found}; export it again or correct the path"
    )


def test_a_gpu_generation_that_does_not_exist_costs_no_engine(
    nxmi_export: Command, artefact: Path, rtx: Library
) -> None:
    assert nxmi_export("build", artefact, "--optimization-level", "0").code == 0
    before = files_under(artefact)
    outcome = nxmi_export("build", artefact, "--library", rtx.name, "--compute-capability", "sm99")
    assert outcome.code == 2
    assert outcome.sentence.startswith("compute capability sm99: expected one of sm")
    assert "model.plan" in read_artefact(artefact).manifest.files
    assert files_under(artefact) == before


@pytest.mark.parametrize(
    ("slip", "verb"), [("docter", "doctor"), ("exprt", "export"), ("Build", "build")]
)
def test_a_mistyped_verb_is_no_model(
    nxmi_export: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slip: str,
    verb: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = nxmi_export(slip)
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{slip}: expected a verb or a model, found neither; did you mean {verb}?"
    )


@pytest.mark.parametrize("option", ["help", "version"])
def test_an_option_that_is_given_as_a_verb(
    nxmi_export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = nxmi_export(option)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{option}: expected a verb or a model, found neither; did you mean --{option}?",
    )


def test_an_artefact_is_no_model_to_export(nxmi_export: Command, artefact: Path) -> None:
    outcome = nxmi_export("export", artefact)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{artefact}: expected a model file, a Hugging Face directory or a hub name, found an "
        "artefact, which is an export already; name the model that it was exported from",
    )


def test_a_folder_named_almost_like_a_verb_is_exported(
    nxmi_export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exports").mkdir()
    assert nxmi_export("exports").sentence == (
        "exports: expected a Hugging Face directory with config.json, found no config.json in it; "
        "save the model with model.save_pretrained(directory)"
    )


def test_a_name_on_the_hub_is_no_mistyped_verb(nxmi_export: Command) -> None:
    assert nxmi_export("nobody/export").sentence == (
        "nobody/export: expected a local path or a hub model that can be reached, found nothing on "
        "disk, and the hub did not answer; check the name, the network and HF_HUB_OFFLINE, "
        "or download it first"
    )


def test_a_sentence_is_never_wrapped_or_read_as_markup(
    nxmi_export: Command, tmp_path: Path
) -> None:
    path = tmp_path / ("[red]" + "long " * 40) / "model.pt"
    assert nxmi_export(path).sentence.startswith(f"{path}: expected a model file, ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--no-such-option"], "No such option: --no-such-option"),
        (["export", "model.pt", "--no-such-option"], "No such option: --no-such-option"),
        (["export", "model.pt", "another.pt"], "Got unexpected extra argument(s) (another.pt)"),
        (["export"], "Missing argument 'model'"),
        (["build"], "Missing argument 'ARTEFACT'"),
        (["build", "artefact", "--library", "onnx"], "Invalid value for '--library'"),
        (
            ["build", "artefact", "--optimization-level", "9"],
            "Invalid value for '--optimization-level'",
        ),
        (["build", "artefact", "--workspace", "0"], "Invalid value for '--workspace'"),
        (["doctor", "extra"], "Got unexpected extra argument(s) (extra)"),
    ],
)
def test_a_mistyped_command_line(
    nxmi_export: Command, arguments: list[str], complaint: str
) -> None:
    outcome = nxmi_export(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert complaint in outcome.err
    assert "-h" in outcome.err  # says how to get help


def test_blocks_that_no_kernel_is_made_for_are_refused(nxmi_export: Command) -> None:
    assert nxmi_export("export", "model.pt", "--int4-blocks", "48").sentence == (
        "--int4-blocks 48: expected 16, 32, 64 or 128 inputs, found 48; take 64 or 128, which "
        "kernels are made for"
    )
