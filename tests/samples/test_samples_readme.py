"""The README's Python is run as it stands, on a tiny model and a tiny dataset."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import restore
from samples.readme_tables import README, with_tables
from tests.tiny_models import toy_dataset, write_hugging_face

EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_shows_the_workflow_and_what_is_below_it() -> None:
    workflow, library = EXAMPLES
    assert "compress_model(" in workflow
    assert " compress(model" in f" {library}".replace("\n", " ")


@pytest.mark.parametrize("code", EXAMPLES, ids=["workflow", "library"])
def test_the_readme_compresses_a_model(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_hugging_face(Path("my-fine-tuned-bert"))
    data = toy_dataset(64)
    Path("glue/sst2").mkdir(parents=True)
    table = pa.table({"sentence": data.texts[0], "label": data.labels})
    for split in ("train", "validation"):
        pq.write_table(table, f"glue/sst2/{split}.parquet")
    # Ten epochs and a teacher add nothing to what this test can find.
    quick = tmp_path / "quick.yaml"
    quick.write_text("training: {epochs: 1}\n")
    code = code.replace('recipe_from("deploy")', f"recipe_from({str(quick)!r})")
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    checkpoint = read_checkpoint("model.pt")
    assert str(checkpoint.recipe and checkpoint.recipe.default) == "2:4+int8"
    restore(checkpoint)


def test_the_readmes_tables_are_those_that_are_stored() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_tables(text), "python -m samples.readme_tables writes them"


def test_a_readme_without_a_tables_marks_is_refused() -> None:
    text = README.read_text(encoding="utf-8").replace("<!-- glue:end -->", "")
    with pytest.raises(ValueError, match=r"glue:begin.* is there 0 times, not once"):
        with_tables(text)
