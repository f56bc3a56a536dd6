from pathlib import Path

import pytest

from tests.cli.command_lines import Command
from tests.pipeline.triton_schema import parse_config


def test_a_repository_is_written_and_its_needs_are_told(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    arguments = ("--backend", "onnxruntime", "--name", "sst2", "--max-batch", 16)
    outcome = nxmi_export("triton", artefact, "-o", repository, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    needs = "Triton's onnxruntime backend, on a CPU with VNNI (others saturate)"
    assert outcome.out == f"{repository / 'sst2'} needs {needs}\n"
    config = parse_config((repository / "sst2" / "config.pbtxt").read_text())
    assert (config.name, config.max_batch_size) == ("sst2", 16)


def test_a_damaged_artefact_is_refused_before_anything_is_written(
    nxmi_export: Command, artefact: Path, tmp_path: Path
) -> None:
    weights = artefact / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    repository = tmp_path / "repository"
    outcome = nxmi_export("triton", artefact, "-o", repository, "--backend", "onnxruntime")
    assert outcome.code == 2
    assert outcome.sentence.startswith(f"{weights}: expected the file with SHA-256 ")
    assert not repository.exists()


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        ((), "build it with nxmi-export build, or serve with --backend onnxruntime"),
        (("--name", "a b"), "choose another with --name"),
    ],
)
def test_what_cannot_be_served_is_2(
    nxmi_export: Command, artefact: Path, tmp_path: Path, arguments: tuple[str, ...], ending: str
) -> None:
    outcome = nxmi_export("triton", artefact, "-o", tmp_path / "repository", *arguments)
    assert outcome.code == 2
    assert outcome.sentence.endswith(ending)
    assert not (tmp_path / "repository").exists()
