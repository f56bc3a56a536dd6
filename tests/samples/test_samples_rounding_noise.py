"""What parity's allowances are held against: gaps of an honest export, and of one that is not."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from nxmi_export.artefact import MODEL, read_artefact
from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import restore
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.parity.noise import SAFETY, TYPICAL
from samples.rounding_noise import Noise, measure
from tests.pipeline.parity_project import Project, sst2_project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("project"))


def _measured(project: Project) -> dict[str, Noise]:
    artefact = read_artefact(project.artefact)
    checkpoint = read_checkpoint(str(artefact.source()))
    return measure(restore(checkpoint).eval(), artefact, _data(project, checkpoint.tokenizer))


def _data(project: Project, tokenizer: dict[str, bytes]) -> EncodedDataset:
    dataset = load_dataset(task_named("sst2"), "validation", project.data).head(8)
    names = read_artefact(project.artefact).manifest.input_names
    loaded = load_tokenizer(tokenizer, source=project.artefact)
    return encode(dataset, loaded, input_names=names, max_length=48)


def test_every_quantizer_of_an_honest_export_is_far_within_its_allowance(made: Project) -> None:
    found = _measured(made)
    assert all(noise.values for noise in found.values())
    assert 0 < max(noise.largest for noise in found.values()) < SAFETY / 2
    assert max(noise.average for noise in found.values()) > 0
    assert sum(noise.tipped for noise in found.values()) <= 8


def test_another_formula_is_seen_where_it_is(made: Project, tmp_path: Path) -> None:
    project = made.copy(tmp_path / "project")
    path = project.artefact / MODEL
    model = ir.load(path)
    gelu = next(node for node in model.graph if node.op_type == "Gelu")
    gelu.attributes["approximate"] = ir.AttrString("approximate", "tanh")
    ir.save(model, path)
    project.change()  # its hash, too
    found = _measured(project)
    averages = {module: noise.average for module, noise in found.items()}
    worst = max(averages, key=averages.__getitem__)
    assert worst.endswith("layer.0.output.dense.input_quantizer")
    assert averages[worst] > 10 * TYPICAL
    assert np.median(list(averages.values())) < TYPICAL
