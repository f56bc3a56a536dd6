"""Artefacts that tests of certificates change, and what their certificates say."""

import shutil
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact, file_record, read_artefact
from nxmi_export.certificate import Answer, Certificate, Claim
from nxmi_export.workflow.certify import CertifyRequest, certify_artefact
from tests.pipeline.exports import Exported, external_tensors, load

QUERY = "bert.encoder.layer.0.attention.self.query"
UP = "bert.encoder.layer.1.intermediate.dense"
ATTENTION = "bert.encoder.layer.0.attention.self"
OF_FILES = (Claim.MASK, Claim.STORED, Claim.PARITY)
OF_ENGINE = (Claim.INT8_IN, Claim.INT8_OUT, Claim.ELIGIBLE, Claim.SPARSE)
PROVED, REFUTED, UNPROVEN, NOT_CLAIMED = Answer


def copied(exported: Exported, folder: Path) -> Artefact:
    """The artefact and, where its manifest looks for it, the checkpoint, for a test to change."""
    shutil.copy(exported.checkpoint, folder / "model.pt")
    return read_artefact(Path(shutil.copytree(exported.directory, folder / "model.artefact")))


def certified(artefact: Artefact, **options: Any) -> Certificate:
    return certify_artefact(CertifyRequest(artefact, **options))


def answers(certificate: Certificate, claim: Claim) -> set[Answer]:
    modules = (*certificate.linears, *certificate.attentions)
    return {each.claims[claim].answer for each in modules if claim in each.claims}


def cell(certificate: Certificate, module: str, claim: Claim) -> tuple[Answer, str]:
    modules = (*certificate.linears, *certificate.attentions)
    [found] = [each.claims[claim] for each in modules if each.module == module]
    return found.answer, found.why


def rebound(artefact: Artefact) -> Artefact:
    """The artefact whose manifest has the hashes of the files as they are."""
    directory = artefact.directory
    files = {name: file_record(directory / name) for name in artefact.manifest.files}
    artefact.manifest.model_copy(update={"files": files}).write(directory)
    return read_artefact(directory)


def write_code(artefact: Artefact, module: str, at: tuple[int, int], code: int) -> None:
    """Change one stored code, (in, out), in the bytes that both ONNX files refer to."""
    path = artefact.directory / "model.onnx"
    graph = load(path).graph
    [product] = [node for node in graph.node if node.name == f"{module}/MatMul"]
    [reader] = [node for node in graph.node if product.input[1] in node.output]
    location, offset, length = external_tensors(path)[reader.input[0]]
    [stored] = [each for each in graph.initializer if each.name == reader.input[0]]
    rows, columns = stored.dims
    assert length == rows * columns
    with (artefact.directory / location).open("r+b") as file:
        file.seek(offset + at[0] * columns + at[1])
        file.write(code.to_bytes(1, "big", signed=True))


def code_at(exported: Exported, module: str, at: tuple[int, int]) -> int:
    return int(exported.model.get_submodule(module).codes()[at[1], at[0]])


def as_listed(artefact: Artefact) -> Artefact:
    """The artefact as its manifest has it, whatever became of the files."""
    return Artefact(artefact.directory, type(artefact.manifest).read(artefact.directory))
