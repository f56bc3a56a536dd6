"""What a server makes of a dev set must be what parity measured it with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.artefact import Manifest, read_artefact
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.errors import ArtefactError
from nxmi_export.workflow.parity.served_tokens import check_served_tokens
from tests.pipeline.parity_project import Project
from tests.tiny_models import POSITION_LIMIT, toy_dataset

REMEDY = (
    "save the tokenizer again with tokenizer.save_pretrained beside the model it was compressed "
    "from, and repeat compression and export"
)


@pytest.fixture
def project(sst2: Project, tmp_path: Path) -> Project:
    return sst2.copy(tmp_path / "copy")


@pytest.fixture
def trained(sst2: Project) -> EncodedDataset:
    """The dev set as transformers splits it."""
    artefact = read_artefact(sst2.artefact)
    tokenizer = load_tokenizer(read_tokenizer_files(sst2.artefact), source=sst2.artefact)
    names = artefact.manifest.input_names
    return encode(toy_dataset(40), tokenizer, input_names=names, max_length=POSITION_LIMIT)


def check(project: Project, data: EncodedDataset) -> None:
    check_served_tokens(read_artefact(project.artefact), data, POSITION_LIMIT)


def edit(project: Project, name: str, change: Callable[[Any], None]) -> None:
    path = project.artefact / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    project.change()


def test_the_same_tokens_pass(project: Project, trained: EncodedDataset) -> None:
    check(project, trained)


def test_a_tokenizer_file_that_splits_otherwise_is_refused(
    project: Project, trained: EncodedDataset
) -> None:
    def exchange(content: Any) -> None:
        words = content["model"]["vocab"]
        words["fine"], words["awful"] = words["awful"], words["fine"]

    edit(project, "tokenizer.json", exchange)
    with pytest.raises(ArtefactError) as caught:
        check(project, trained)
    words = [set(text.split()) for text in trained.dataset.texts[0]]
    first = next(index for index, each in enumerate(words) if each & {"fine", "awful"})
    assert str(caught.value) == (
        f"{project.artefact / 'tokenizer.json'}: expected the token ids of training, found others "
        f"for example {first} of sst2; {REMEDY}"
    )


def test_another_padding_is_refused(project: Project, trained: EncodedDataset) -> None:
    edit(project, "tokenizer_config.json", lambda content: content.update(pad_token="[MASK]"))
    with pytest.raises(ArtefactError) as caught:
        check(project, trained)
    assert str(caught.value) == (
        f"{project.artefact / 'tokenizer.json'}: expected the padding of training, 0, found 4; "
        f"{REMEDY}"
    )


def test_without_a_tokenizer_file_there_is_nothing_to_compare(
    project: Project, trained: EncodedDataset
) -> None:
    (project.artefact / "tokenizer.json").unlink()
    files = dict(Manifest.read(project.artefact).files)
    del files["tokenizer.json"]
    Manifest.read(project.artefact).model_copy(update={"files": files}).write(project.artefact)
    check(project, trained)
