"""The README's Python runs as it stands, on a tiny model and dataset; links and commands exist."""

import importlib.util
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main

from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.cli.app import app
from nxmi_export.compression import restore
from samples.readme_tables import README as RESULTS
from samples.readme_tables import with_tables
from tests.tiny_models import toy_dataset, write_hugging_face

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "nxmi_export" / "GUIDE.md", RESULTS)

OPTIONS = {
    verb: {each for parameter in command.params for each in parameter.opts}
    for verb, command in typer.main.get_group(app).commands.items()
}
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


def test_the_tables_are_those_that_are_stored() -> None:
    text = RESULTS.read_text(encoding="utf-8")
    assert text == with_tables(text), "python -m samples.readme_tables writes them"


def test_a_page_without_a_tables_marks_is_refused() -> None:
    text = RESULTS.read_text(encoding="utf-8").replace("<!-- glue:end -->", "")
    with pytest.raises(ValueError, match=r"glue:begin.* is there 0 times, not once"):
        with_tables(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert links
    for name, heading in links:
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page}: {name}"
        if heading:
            assert heading[1:] in _anchors(target), f"{page}: {name}{heading}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_is_one_that_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = re.findall(r"python -m (samples\.\w+)", text)
    for module in modules:
        assert importlib.util.find_spec(module), f"{page}: {module}"
    commands = re.findall(r"(?:^    |`)nxmi-export ([a-z]+) ([^`\n]*)", text, re.MULTILINE)
    for verb, arguments in commands:
        assert verb in OPTIONS, f"{page}: {verb}"
        for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", arguments):
            assert option in OPTIONS[verb], f"{page}: {verb} {option}"
    assert modules or commands


def test_the_part_of_the_demos_screen_is_of_the_whole_one() -> None:
    text = README.read_text(encoding="utf-8")
    (part,) = re.findall(r"^    ┏.*?┘$", text, re.MULTILINE | re.DOTALL)
    assert part in RESULTS.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """The names of a page's headings, as those who show Markdown make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
