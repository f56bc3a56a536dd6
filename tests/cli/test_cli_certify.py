"""`nxmi-export certify`: its table, its JSON, and when its answer is no."""

import json
from pathlib import Path

import pytest

from nxmi_export.artefact import read_artefact
from nxmi_export.certificate import read_certificate
from tests.cli.command_lines import Command
from tests.pipeline.engine_files import Log, with_engine


def test_without_an_engine_nothing_is_refuted(
    nxmi_export: Command, artefact: Path, model_file: Path
) -> None:
    outcome = nxmi_export("certify", artefact, "--checkpoint", model_file)
    assert (outcome.code, outcome.err) == (0, "")
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines[0] == "Deployment certificate: unproven (no engine)"
    assert "proved of claimed 12/12 12/12 12/12 0/12 0/12 0/12 0/12" in lines
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80
    assert "certificate.json" in read_artefact(artefact).manifest.files


def test_strict_fails_on_what_is_unproven_and_keeps_the_certificate(
    nxmi_export: Command, artefact: Path, model_file: Path
) -> None:
    outcome = nxmi_export("certify", artefact, "--checkpoint", model_file, "--strict")
    assert outcome.code == 1
    certificate = read_certificate(read_artefact(artefact))
    unproven = sum(counts["unproven"] for counts in certificate.as_json()["totals"].values())
    assert outcome.err == (
        f"error: {artefact / 'certificate.json'}: expected every claim proved, "
        f"found 0 refuted and {unproven} unproven; read its cells for the reasons\n"
    )


@pytest.mark.parametrize("strict", [(), ("--strict",)])
def test_what_is_refuted_fails_always(
    nxmi_export: Command, artefact: Path, model_file: Path, strict: tuple[str, ...]
) -> None:
    module = "bert.encoder.layer.1.intermediate.dense"
    with_engine(read_artefact(artefact), Log(in_float=(module,)).text)
    outcome = nxmi_export("certify", artefact, "--checkpoint", model_file, *strict)
    assert outcome.code == 1
    assert "✗ no" in outcome.out
    # It reads floats, so that its INT8 output is no INT8 product's, by a float kernel, which the
    # count of sparse ones denies; nothing was run.
    assert "found 2 refuted and 3 unproven" in outcome.err


def test_json_is_the_certificate_and_nothing_else(
    nxmi_export: Command, artefact: Path, model_file: Path
) -> None:
    outcome = nxmi_export("certify", artefact, "--checkpoint", model_file, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == json.loads((artefact / "certificate.json").read_text())


def test_a_folder_that_is_no_artefact_is_refused(nxmi_export: Command, tmp_path: Path) -> None:
    outcome = nxmi_export("certify", tmp_path)
    assert (outcome.code, outcome.sentence.split(":")[0]) == (2, str(tmp_path))
