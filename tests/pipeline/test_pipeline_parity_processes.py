"""Parity in two processes: it finds what one finds, and both end where one fails."""

from pathlib import Path

import pytest

from nxmi_export.__main__ import main
from tests.pipeline.parity_program import run_parity
from tests.pipeline.parity_project import EXAMPLES, Project

TOKENS = 160  # some ten batches


def arguments(project: Project, output: Path) -> list[str]:
    """Of `nxmi-export parity`, that one bad number changes the document."""
    places = {"--data": project.data, "-o": output / "run.json", "--html": output / "run.html"}
    options = [each for name, path in places.items() for each in (name, str(path))]
    return [str(project.artefact), "--task", "sst2", "--batch-tokens", str(TOKENS), *options]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(
    sst2: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    code = main(["parity", *arguments(sst2, one)])
    # The first judges once the second has left: a bisection outlasts the patience of who waits.
    done = run_parity(two, *arguments(sst2, two), "--no-cache", JUDGE_LAST="1")
    assert "it waits" not in done.stderr
    assert done.returncode == code, done.stderr
    assert (two / "run.json").read_bytes() == (one / "run.json").read_bytes()
    # The file names apart, what is said is the same, and by one of them.
    said = done.stdout.replace(str(two), str(one)).split()
    assert said == capsys.readouterr().out.split()
    shared = [int((two / f"ran-{rank}").read_text()) for rank in (0, 1)]
    # Three rungs over all examples and the replays, by turns; all else is the first process's.
    assert EXAMPLES < shared[1] < shared[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"FAIL_IN": "1"}, "error: a batch: expected luck, found none; try again"),
        (
            {"DIE_IN": "1"},
            "error: distributed launch: expected 2 processes until the end, found that one is gone",
        ),
    ],
    ids=["refused", "killed"],
)
def test_where_one_process_fails_both_end_with_one_sentence(
    sst2: Project, tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    done = run_parity(tmp_path, *arguments(sst2, tmp_path), **environment)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert [line[: len(sentence)] for line in said] == [sentence]
    assert done.stdout == ""
    assert not (tmp_path / "run.json").exists()
    assert not (tmp_path / "run.html").exists()
