"""Exports are kept until something else would make them."""

from pathlib import Path

import pytest

from samples import made_with
from samples.made_with import is_as_made_now, note_what_made


@pytest.mark.parametrize("changed", ["digest_of_code", "version", "this_processor"])
def test_an_export_is_made_anew_where_anything_that_makes_it_is_another(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = tmp_path / "minilm.artefact"
    assert not is_as_made_now(artefact)
    note_what_made(artefact)
    assert not is_as_made_now(artefact)  # the note alone is no artefact
    artefact.mkdir()
    assert is_as_made_now(artefact)
    monkeypatch.setattr(made_with, changed, lambda *given: "another")
    assert not is_as_made_now(artefact)


def test_a_damaged_note_says_nothing(tmp_path: Path) -> None:
    artefact = tmp_path / "minilm.artefact"
    artefact.with_name("minilm.artefact.made.json").write_text("{")
    assert not is_as_made_now(artefact)
