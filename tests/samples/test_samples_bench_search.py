"""The benchmark of the search: the product's own search, beside a loop that is not handicapped."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.glue import task_named
from nxmi_export.recipe import preset
from nxmi_export.search.rounds import score_in_rounds
from nxmi_export.workflow.compress.data import EVALUATION_BATCH
from nxmi_export.workflow.search import SearchRequest, search_model, stages
from samples.bench_search import LOOPS, Clock, compare, main
from tests.cli.compress.compress_runs import write_dense, write_task

CANDIDATES, EXAMPLES = 40, 96  # of which half are the slice: two batches


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> SearchRequest:
    folder = tmp_path_factory.mktemp("bench")
    return SearchRequest(
        model=str(write_dense(folder / "dense")),
        task=task_named("sst2"),
        output=folder / "search",
        recipe=preset("deploy"),
        target=0.125,
        projection="magnitude",
        probe_examples=16,
        holdout=0.5,
        data_dir=write_task(folder / "glue", task_named("sst2"), train=EXAMPLES),
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], list[Any]]:
    """The first argument of every call of a method."""

    def counted(owner: type, name: str) -> list[Any]:
        seen: list[Any] = []
        method = getattr(owner, name)

        def calling(self: Any, first: Any, *others: Any, **named: Any) -> Any:
            seen.append(first)
            return method(self, first, *others, **named)

        monkeypatch.setattr(owner, name, calling)
        return seen

    return counted


def test_all_loops_find_the_same_best_and_every_second_of_the_search_counts(
    request_: SearchRequest,
) -> None:
    found = compare(request_, CANDIDATES)
    assert found["same_best"]
    assert found["best"].keys() == {"search", *LOOPS}
    assert all(list(each) == list(found["best"]["search"]) for each in found["best"].values())
    # The search per component has half of the default of both.
    assert found["error"] == SearchRequest.error / 2
    assert found["given_up_early"] > 0
    parts = found["seconds"]["search"]
    assert list(parts) == [
        "total",
        "preparing the weights",
        "calibrating the quantizers",
        "running the dense model",
        "finding the examples that tell most",
        "differentiating the dense model",
        "measuring what each scheme costs per component",
        "measuring single changes of uniform configurations",
        "listing the configurations within the budget",
        f"scoring {CANDIDATES} configurations per component",
    ]
    assert found["seconds"]["plain"].keys() == {
        *("total", "preparing the weights", "building", "scoring")
    }
    for each in found["seconds"].values():
        assert each["total"] == pytest.approx(sum(each.values()) / 2, abs=0.01)


def test_a_sample_of_the_plain_loop_is_scaled_to_all(
    request_: SearchRequest, calls: Callable[[type, str], list[Any]]
) -> None:
    scaled = calls(Clock, "scale")
    found = compare(request_, CANDIDATES, ("plain",), sample=3)
    assert scaled == [CANDIDATES / 3]
    assert found["same_best"]
    assert found["configurations"] == CANDIDATES
    assert found["configurations_of_plain_loops"] == 3
    assert list(found["best"]["plain"]) == list(found["best"]["search"])
    seconds = {name: each["total"] for name, each in found["seconds"].items()}
    assert found["times_as_fast_as"]["plain"] == pytest.approx(
        seconds["plain"] / seconds["search"], rel=0.02, abs=0.01
    )


def test_what_a_sample_takes_is_scaled() -> None:
    clock = Clock({"building": 1.0, "scoring": 3.0})
    clock.scale(2.5)
    assert clock.as_json() == {"total": 10.0, "building": 2.5, "scoring": 7.5}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--sample", "0", "--sample: at least 1, not 0"), ("--json", "no/x.json", "no folder no")],
)
def test_what_would_only_show_after_an_hour_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    needed = ["--model", "dense", "--data", "glue"]
    monkeypatch.setattr("sys.argv", ["bench_search", *needed, option, value])
    with pytest.raises(SystemExit) as refusal:
        main()
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err


def test_the_search_is_that_of_the_product(
    request_: SearchRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered: list[Any] = []

    def scoring(candidates: Any, *others: Any, **named: Any) -> Any:
        ordered.append(candidates)
        return score_in_rounds(candidates, *others, **named)

    monkeypatch.setattr(stages, "score_in_rounds", scoring)
    found = compare(request_, 10_000, ())
    result = search_model(dataclasses.replace(request_, refinements=0, proposals=1))
    assert result is not None
    benched, searched, *_ = ordered
    assert list(benched) == list(searched)
    assert found["configurations"] == result.candidates["component"] == len(benched)
    assert found["error"] == result.stops["component"].error
    assert found["examples_scored"] == result.stops["component"].examples


def test_the_plain_loop_pads_once_and_runs_large_batches_of_like_lengths(
    request_: SearchRequest, calls: Callable[[type, str], list[Any]]
) -> None:
    compare(request_, 5, ())
    padded, ran = calls(EncodedDataset, "padded"), calls(TorchRunner, "run")
    compare(request_, 5, ())
    without = len(padded)
    assert not ran
    compare(request_, 5, ("plain, prepared",))
    half = EXAMPLES // 2
    assert len(padded) - 2 * without == 2
    assert [len(feeds["input_ids"]) for feeds in ran] == 5 * [
        *(EVALUATION_BATCH, half - EVALUATION_BATCH)
    ]
    short, long = (feeds["attention_mask"].sum(axis=1) for feeds in ran[:2])
    assert short.max() <= long.min()


def test_a_clock_counts_one_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock()
    clock.begin("a")
    clock.begin("b")
    clock.end()
    clock.begin("a")
    clock.end()
    assert clock.as_json() == {"total": 7.0, "a": 5.0, "b": 2.0}
