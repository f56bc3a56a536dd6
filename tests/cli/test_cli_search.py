"""`nxmi-export search`, as a user types it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.glue import task_named
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.search.journal import Journal
from tests.cli.command_lines import Command, Outcome
from tests.cli.compress.compress_runs import write_dense, write_task
from tests.cli.test_cli_start import ENGINES, HEAVY, loaded_by
from tests.forked import command_line, run_forked

# Few candidates, and few examples for each of them.
QUICK = (
    *("--task", "sst2", "--per", "component", "--schemes", "int4,2:4+int4", "--keep", 3),
    *("--projection", "magnitude", "--holdout", 0.25, "--target", 0.125),
)


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("models") / "dense")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("glue"), task_named("sst2"))


def found_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "search.json").read_text())
    return content


def without_time(folder: Path) -> dict[str, Any]:
    return found_in(folder) | {"seconds": None}


def test_a_search_leaves_recipes_that_compress_takes(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    folder, model = tmp_path / "found", tmp_path / "model.pt"
    outcome = nxmi_export("search", dense, "--data", data, "-o", folder, *QUICK)
    assert outcome.code == 0, outcome.err
    result = found_in(folder)
    assert [each["recipe"] for each in result["ranked"]] == [
        f"ranked/{rank:02}.yaml" for rank in (1, 2, 3)
    ]
    assert all(each["with_metadata"] <= 0.125 for each in result["ranked"])
    best = folder / "ranked" / "01.yaml"
    recipe = Recipe.from_yaml(best)
    assert {name: str(each) for name, each in recipe.schemes.items()} == result["ranked"][0][
        "schemes"
    ]
    *_, last = outcome.out.splitlines()
    assert last == (
        f"train the best with: nxmi-export compress {dense} --task sst2 --data {data} "
        f"--recipe {best}"
    )
    again = ("--task", "sst2", "--data", data, "--recipe", best, "--epochs", 0, "-o", model)
    assert nxmi_export("compress", dense, *again).code == 0
    stored = read_checkpoint(str(model)).recipe
    assert stored is not None
    assert stored.schemes == recipe.schemes


def test_its_pictures_show_what_was_found(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "-o", tmp_path / "found", "--device", "l4", "--sequence", 32, *QUICK)
    assert nxmi_export("search", dense, *options).code == 0
    result = found_in(tmp_path / "found")
    page = (tmp_path / "found" / "search.html").read_text()
    for each in result["ranked"]:
        assert f"{each['divergence']:.4g}" in page
    assert "latency in ms, analytical" in (tmp_path / "found" / "pareto.svg").read_text()


@pytest.fixture
def interrupted(nxmi_export: Command, dense: Path, data: Path, tmp_path: Path) -> Command:
    """A search that gets SIGINT once it has journalled some scores."""

    def run(after: int) -> Outcome:
        written, count = Journal.add_score, 0

        def interrupt(journal: Journal, *score: Any) -> None:
            nonlocal count
            written(journal, *score)
            count += 1
            if count == after:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "add_score", interrupt)
            return nxmi_export("search", dense, "--data", data, "-o", tmp_path / "found", *QUICK)

    return run


def test_an_interrupted_search_continues_to_the_same_result(
    interrupted: Command, nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    outcome = interrupted(6)
    assert outcome.code == 130
    assert outcome.err.splitlines()[-2:] == [
        "stopped: the same command with --resume goes on from there",
        "interrupted: nothing was left half-written",
    ]
    assert not (tmp_path / "found" / "search.json").exists()
    options = ("--data", data, *QUICK)
    resumed = nxmi_export("search", dense, "-o", tmp_path / "found", "--resume", *options)
    assert resumed.code == 0, resumed.err
    assert nxmi_export("search", dense, "-o", tmp_path / "whole", *options).code == 0
    assert without_time(tmp_path / "found") == without_time(tmp_path / "whole")


def test_without_o_the_folder_lies_beside_the_model(
    nxmi_export: Command, data: Path, tmp_path: Path
) -> None:
    source = write_dense(tmp_path / "dense")
    assert nxmi_export("search", source, "--data", data, *QUICK).code == 0
    assert found_in(tmp_path / "dense.search")["task"] == "sst2"


@pytest.fixture
def refused(nxmi_export: Command, dense: Path, data: Path, tmp_path: Path) -> Command:
    """Search with these options; asserts that it is refused and leaves nothing new."""

    def run(*options: object) -> str:
        command = ("--task", "sst2", "--data", data, "-o", tmp_path / "new" / "found")
        before = sorted(tmp_path.rglob("*"))
        outcome = nxmi_export("search", dense, *command, *options)
        assert outcome.code == 2
        assert sorted(tmp_path.rglob("*")) == before
        return outcome.sentence

    return run


@pytest.mark.parametrize(
    ("name", "found"), [("taken", "a file"), ("n" * 300, "File name too long")]
)
def test_a_place_where_no_folder_can_be(
    name: str, found: str, nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    command = ("--task", "sst2", "--data", data, "--target", 0.2, "-o", tmp_path / name)
    outcome = nxmi_export("search", dense, *command)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{tmp_path / name}: expected a folder for the search, in a writable place, "
        f"found {found}; choose another with -o",
    )


def test_a_search_without_any_budget(refused: Command) -> None:
    assert refused() == (
        "budget of the search: expected --target, --latency or both, found neither; "
        "pass --target 0.125 to have 87.5 % of the float32 size saved"
    )


@pytest.mark.parametrize("time", ["7", "0ms", "x", "1.2.3s", "-1ms", "nan"])
def test_a_latency_that_is_no_time(refused: Command, time: str) -> None:
    assert refused(f"--latency={time}", "--device", "l4") == (
        f"--latency {time}: expected a time such as 12ms, or a share of the dense model's such as "
        "0.7x, found neither; write a number above 0 and its unit, without a space"
    )


def test_a_latency_that_nothing_tells(refused: Command) -> None:
    assert refused("--latency", "0.7x") == (
        "--latency 0.7x: expected --device or --latency-table, which tell how long linears take, "
        "found neither; pass --device onnxruntime to measure here, or the name of a GPU"
    )


def test_latencies_from_two_sources(refused: Command, tmp_path: Path) -> None:
    assert refused("--target", 0.1, "--device", "l4", "--latency-table", tmp_path / "t") == (
        "latencies of the search: expected --device or --latency-table, found both; "
        "leave one of them out"
    )


@pytest.mark.parametrize("option", ["--batch", "--sequence", "--threads"])
def test_what_belongs_to_latencies_without_any(option: str, refused: Command) -> None:
    assert refused("--target", 0.1, option, 2) == (
        f"{option}: expected --device or --latency-table, whose latencies it is of, found neither; "
        "add one of them, or leave it out"
    )


def test_schemes_that_are_none(refused: Command) -> None:
    assert refused("--target", 0.1, "--schemes", "2:4,int9") == (
        "--schemes: expected schemes separated by commas, as in 2:4,int8,int4,2:4+int8,2:4+int4, "
        "found '2:4,int9'; 'int9' is not a scheme; "
        "write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
    )


def test_a_scheme_that_fits_no_linear(refused: Command) -> None:
    assert refused("--target", 0.3, "--schemes", "3:7,int8") == (
        "schemes of the search: expected each to fit the input width of some linear, found 3:7, "
        "whose pattern divides none of them; leave that out, or give a pattern such as 2:4"
    )


def test_a_target_that_no_configuration_meets(refused: Command) -> None:
    assert refused("--target", 0.05) == (
        "budget of the search: expected a candidate of at most 0.05 of the float32 size with "
        "metadata, found 0.0938 of the float32 size with metadata at best; raise it, or allow "
        "smaller or faster schemes"
    )


def test_a_target_in_percent(refused: Command) -> None:
    assert refused("--target", 12.5) == (
        "size budget: expected a share of the float32 size, at most 1, found 12.5; "
        "for 12.5 % of it give 0.125"
    )


def test_help_shows_each_example_on_a_line_of_its_own(nxmi_export: Command) -> None:
    outcome = nxmi_export("search", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.strip() for line in outcome.out.splitlines()]
    assert sum(line.startswith("nxmi-export search ") for line in lines) == 4
    launched = lines.index("torchrun --nproc-per-node 2 -m nxmi_export search bert --task rte \\")
    assert lines[launched + 1] == "--target 0.1"
    for panel in ("Budget", "What is searched", "Scoring", "Files"):
        assert any(line.startswith(f"╭─ {panel} ") for line in lines)


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("search", "--help") & (HEAVY | ENGINES) == set()


def _launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A search in two processes, each with as many threads as this one, which it is bound to."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return subprocess.run(
        [*launcher, "-m", "nxmi_export", "search", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", ["finished", "another search"])
def test_what_one_process_alone_can_refuse_is_said_once_by_two(
    state: str, dense: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    if state == "finished":
        (folder / "search.json").write_text("{}")
        sentence, options = f"{folder}: expected a folder without a search in it", []
    else:
        header = json.dumps({"event": "search", "fingerprint": {}})
        (folder / "search.jsonl").write_text(f"{header}\n")
        sentence, options = "expected the journal of this search", ["--resume"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    given = ("search", dense, "--data", data, "-o", folder, *options, *QUICK)
    ended = run_forked(command_line, given, processes=2, patience=60)
    assert ended.returncode == 2
    assert ended.stderr.count(sentence) == 1
    assert "internal error" not in ended.stderr
    left = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}
    assert left == before


@pytest.mark.slow
def test_torchrun_finds_what_one_process_finds(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    assert nxmi_export("search", dense, "--data", data, "-o", alone, *QUICK).code == 0
    together = tmp_path / "together"
    launched = _launched(dense, "--data", data, "-o", together, *QUICK)
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("train the best with") == 1
    expected, found = without_time(alone), without_time(together)
    for each in (expected, found):
        del each["source"]["model"]
    assert found == expected
