"""Which fusions are left out: those without which it is faster beyond chance, here."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

from nxmi_export.artefact.manifest import Tuning
from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.onnxruntime_options import WITHOUT_FUSIONS
from nxmi_export.bench import session_tuning
from nxmi_export.bench.session_tuning import CANDIDATES, tune_session
from nxmi_export.errors import ArtefactError

NEITHER = CANDIDATES[-1]
SKIP = {WITHOUT_FUSIONS: "SkipLayerNormFusion"}
SESSIONS = 2 * len(CANDIDATES)  # that a contest of one graph opens, two at a time
GRAPH = """
    <ir_version: 10, opset_import: ["": 20]>
    tiny (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask)
        => (float[batch, sequence, 2] logits)
    <float[8, {width}] table>
    {{
      logits = Gather (table, input_ids)
    }}"""


class Machine:
    """A clock that every run moves on, by its options and the size of the batch."""

    def __init__(
        self,
        seconds: Mapping[tuple[str, int], float],
        differing: frozenset[str] | set[str] = frozenset({"other"}),
        kernels: Mapping[str, float] = MappingProxyType({}),
        refused: frozenset[tuple[str, bool]] | set[tuple[str, bool]] = frozenset(),
    ) -> None:
        self.differing = differing  # graphs that give other bits
        self.kernels = kernels  # by how much those of a graph move its logits
        self.refused = refused  # graphs that do not open, and whether optimized
        self.seconds = dict(seconds)  # by fusions left out and rows; others take 1
        self.noise = np.random.default_rng(0)
        self.now = 0.0
        self.opened: list[dict[str, str]] = []
        self.batches: set[tuple[int, ...]] = set()

    def clock(self) -> float:
        return self.now

    def open(
        self,
        path: Path,
        *,
        optimize: bool,
        threads: int | None = None,
        entries: Mapping[str, str] = MappingProxyType({}),
    ) -> AbstractContextManager["Runner"]:
        if (path.stem, optimize) in self.refused:
            raise ArtefactError(
                path, expected="a model", found="an unknown operator", remedy="update onnxruntime"
            )
        logits = np.ones((1, 2), np.float32) + (path.stem in self.differing)
        if optimize:
            logits += np.float32(self.kernels.get(path.stem, 0))
            self.opened.append(dict(entries))
        graph = f"{path.stem} " if path.stem != "tiny" else ""
        return nullcontext(Runner(self, f"{graph}{entries.get(WITHOUT_FUSIONS, '')}", logits))


class Runner:
    """Takes the time that its machine says."""

    input_names = ("input_ids", "attention_mask")

    def __init__(self, machine: Machine, fusions: str, logits: NDArray[np.float32]) -> None:
        self._machine, self._fusions, self._logits = machine, fusions, logits

    def run(self, feeds: Feeds) -> Outputs:
        shape = feeds["input_ids"].shape
        self._machine.batches.add(shape)
        seconds = self._machine.seconds.get((self._fusions, shape[0]), 1.0)
        self._machine.now += seconds * self._machine.noise.uniform(0.98, 1.02)
        return {"logits": self._logits}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return _save(tmp_path / "tiny.onnx")


def _save(path: Path, *, fill: float = 0, width: int = 2) -> Path:
    model = onnx.parser.parse_model(GRAPH.format(width=width))
    table = onnx.numpy_helper.from_array(np.full((8, width), fill, np.float32), "table")
    model.graph.initializer.append(table)
    onnx.save(model, path)
    return path


def _tune(
    graph: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    *,
    others: Mapping[str, Path] = MappingProxyType({}),
    limit: int = 512,
    built_on: Mapping[str, str] = MappingProxyType({}),
    cache: Path | None = None,
) -> Tuning:
    monkeypatch.setattr(session_tuning, "OnnxRuntimeRunner", machine.open)
    monkeypatch.setattr(session_tuning, "PATIENCE", 6.0)  # tests/tuned_at_once.py takes it away
    return tune_session(
        {"portable": graph, **others},
        vocabulary=8,
        position_limit=limit,
        built_on=built_on,
        cache=cache,
        clock=machine.clock,
    )


def test_the_fastest_is_chosen(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {("SkipLayerNormFusion", rows): 0.9 for rows in (1, 4)}
    seconds |= {(NEITHER[WITHOUT_FUSIONS], rows): 0.8 for rows in (1, 4)}
    tuning = _tune(graph, monkeypatch, Machine(seconds))
    assert tuning.options == NEITHER
    assert [each.options for each in tuning.timed] == [dict(each) for each in CANDIDATES]
    assert all(each.won for each in tuning.timed)
    chosen = tuning.timed[-1].shapes["1x128"]
    assert chosen.low < 1.125 < chosen.high  # times 0.9 / 0.8 as fast as the one before
    assert chosen.speedup == pytest.approx(1.125, rel=0.04)
    assert chosen.seconds == pytest.approx(0.8, rel=0.02)


@pytest.mark.parametrize(("pace", "won"), [(0.002, True), (2.0, False)], ids=["fast", "slow"])
def test_small_gains_are_found_by_more_rounds_where_they_take_little_time(
    pace: float, won: bool, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = {"": 1.0, **{each[WITHOUT_FUSIONS]: 0.995 for each in CANDIDATES}}
    machine = Machine({(key, rows): pace * each for key, each in gains.items() for rows in (1, 4)})
    first = _tune(graph, monkeypatch, machine).timed[0]
    assert first.won == won
    assert all((each.low > 1) == won for each in first.shapes.values())


def test_another_graph_is_chosen_where_it_is_faster_and_gives_the_same_bits(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused, other = (_save(tmp_path / f"{name}.onnx") for name in ("fused", "other"))
    seconds = {(f"{name} ", rows): 0.8 for name in ("fused", "other") for rows in (1, 4)}
    tuning = _tune(graph, monkeypatch, Machine(seconds), others={"fused": fused})
    assert (tuning.graph, tuning.options) == ("fused", {})
    assert [each.won for each in tuning.timed] == [False, False, True]
    tuning = _tune(graph, monkeypatch, Machine(seconds), others={"other": other})
    assert {each.graph for each in tuning.timed} == {"portable"}
    assert tuning.graph == "portable"


def test_a_graph_that_is_built_on_another_takes_part_where_that_one_leads(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {name: _save(tmp_path / f"{name}.onnx") for name in ("fused", "plain", "both")}
    seconds = {(f"{name} ", rows): 0.8 for name in ("fused", "plain") for rows in (1, 4)}
    seconds |= {("both ", rows): 0.7 for rows in (1, 4)}
    built_on = {"plain": "portable", "both": "fused"}
    tuning = _tune(graph, monkeypatch, Machine(seconds), others=others, built_on=built_on)
    assert [each.graph for each in tuning.timed[-2:]] == ["fused", "both"]
    assert tuning.graph == "both"
    for rows in (1, 4):
        del seconds["fused ", rows]
    tuning = _tune(graph, monkeypatch, Machine(seconds), others=others, built_on=built_on)
    assert [each.graph for each in tuning.timed[-2:]] == ["fused", "plain"]
    assert tuning.graph == "plain"


def test_kernels_that_answer_otherwise_than_as_written_are_refused(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = _save(tmp_path / "fused.onnx")
    seconds = {("fused ", rows): 0.5 for rows in (1, 4)}
    machine = Machine(seconds, kernels={"fused": 0.2, "tiny": 0.01})
    tuning = _tune(graph, monkeypatch, machine, others={"fused": fused})
    assert tuning.graph == "portable"
    assert [(each.graph, each.reason) for each in tuning.refused] == [
        (
            "fused",
            "its kernels move half of the logits by 0.2 or more from those of the graph as "
            "written, where 0.04 is within what rounding explains",
        )
    ]
    # As far as the others are moved too: ties.
    machine = Machine(seconds, kernels={"fused": 0.08, "tiny": 0.05})
    tuning = _tune(graph, monkeypatch, machine, others={"fused": fused})
    assert (tuning.graph, tuning.refused) == ("fused", ())


@pytest.mark.parametrize("wrong", [0.9, np.inf])
def test_where_the_first_graphs_own_kernels_are_wrong_nothing_is_taken(
    wrong: float, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = _save(tmp_path / "fused.onnx")
    seconds = {("fused ", rows): 0.5 for rows in (1, 4)}
    machine = Machine(seconds, kernels={"fused": 0.5, "tiny": wrong})
    tuning = _tune(graph, monkeypatch, machine, others={"fused": fused})
    assert (tuning.graph, tuning.options, tuning.timed) == ("portable", {}, ())
    assert len(tuning.refused) == len(CANDIDATES) + 1


def test_what_was_fastest_for_other_weights_is_tried_with_these(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    others = {"fused": _save(tmp_path / "fused.onnx")}
    seconds = {("fused ", rows): 0.5 for rows in (1, 4)}
    tuning = _tune(graph, monkeypatch, Machine(seconds), others=others, cache=cache)
    assert tuning.graph == "fused"
    wrong = Machine(seconds, kernels={"fused": 0.2})
    again = _tune(graph, monkeypatch, wrong, others=others, cache=cache)
    assert again.graph == "portable"
    assert [each.graph for each in again.refused] == ["fused"]
    # That refusal was of those weights alone.
    tuning = _tune(graph, monkeypatch, Machine(seconds), others=others, cache=cache)
    assert (tuning.graph, tuning.refused) == ("fused", ())


@pytest.mark.parametrize("optimize", [False, True], ids=["as written", "optimized"])
def test_a_graph_that_does_not_open_is_refused_unless_it_is_the_first(
    optimize: bool, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = _save(tmp_path / "fused.onnx")
    machine = Machine({}, refused={("fused", optimize)})
    tuning = _tune(graph, monkeypatch, machine, others={"fused": fused})
    assert tuning.graph == "portable"
    reasons = [(each.graph, each.reason) for each in tuning.refused]
    assert reasons == [("fused", "onnxruntime does not run it: an unknown operator")]
    with pytest.raises(ArtefactError, match="found an unknown operator"):
        _tune(graph, monkeypatch, Machine({}, refused={("tiny", optimize)}))


def test_a_timing_of_other_weights_chooses_no_graph_that_gives_other_bits(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, seconds = tmp_path / "cache", {("fused ", rows): 0.8 for rows in (1, 4)}
    cache.mkdir()
    others = {"fused": _save(tmp_path / "fused.onnx")}
    assert _tune(graph, monkeypatch, Machine(seconds), others=others, cache=cache).graph == "fused"
    machine = Machine(seconds, differing={"fused"})
    assert _tune(graph, monkeypatch, machine, others=others, cache=cache).graph == "portable"


def test_other_graphs_run_with_the_options_that_were_fastest(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused, seconds = _save(tmp_path / "fused.onnx"), {("SkipLayerNormFusion", 1): 0.8}
    tuning = _tune(graph, monkeypatch, Machine(seconds), others={"fused": fused})
    *_, last = tuning.timed
    assert (last.graph, last.options, last.won) == ("fused", SKIP, False)
    assert (tuning.graph, tuning.options) == ("portable", SKIP)


def test_what_chance_explains_changes_nothing(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {("SkipLayerNormFusion", rows): 0.998 for rows in (1, 4)}
    assert _tune(graph, monkeypatch, Machine(seconds)).options == {}


def test_what_is_slower_on_one_shape_is_not_chosen(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {("SkipLayerNormFusion", 1): 0.5, ("SkipLayerNormFusion", 4): 1.2}
    assert _tune(graph, monkeypatch, Machine(seconds)).options == {}


def test_what_is_faster_on_one_shape_alone_is_chosen(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _tune(graph, monkeypatch, Machine({("SkipLayerNormFusion", 4): 0.8})).options == SKIP


def test_short_models_are_timed_on_what_they_can_read(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine({})
    assert set(_tune(graph, monkeypatch, machine, limit=40).timed[0].shapes) == {"1x40", "4x40"}
    assert machine.batches == {(1, 40), (4, 40)}


def test_graphs_of_one_structure_are_timed_once(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, machine = tmp_path / "cache", Machine({("SkipLayerNormFusion", 1): 0.8})
    cache.mkdir()
    first = _tune(graph, monkeypatch, machine, cache=cache)
    assert (first.options, len(machine.opened)) == (SKIP, SESSIONS)
    assert _tune(_save(graph, fill=1), monkeypatch, machine, cache=cache) == first
    assert len(machine.opened) == SESSIONS + 2  # to see that the winner is right with these weights
    _tune(_save(graph, width=3), monkeypatch, machine, cache=cache)
    assert len(machine.opened) == 2 * SESSIONS + 2


@pytest.mark.parametrize("content", ["", "{}", '{"options": {}}'])
def test_an_entry_that_does_not_read_is_replaced(
    content: str, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, machine = tmp_path / "cache", Machine({})
    cache.mkdir()
    first = _tune(graph, monkeypatch, machine, cache=cache)
    (entry,) = cache.iterdir()
    entry.write_text(content)
    _tune(graph, monkeypatch, machine, cache=cache)
    assert len(machine.opened) == 2 * SESSIONS
    assert Tuning.model_validate_json(entry.read_text()).timed[0].options == first.timed[0].options


def test_other_processors_releases_and_shapes_have_entries_of_their_own(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    _tune(graph, monkeypatch, Machine({}), cache=cache)
    monkeypatch.setattr(session_tuning, "this_processor", lambda: "another")
    assert _tune(graph, monkeypatch, Machine({}), cache=cache).processor == "another"
    monkeypatch.setattr(session_tuning, "version", lambda name: "99")
    assert _tune(graph, monkeypatch, Machine({}), cache=cache).onnxruntime == "99"
    assert set(_tune(graph, monkeypatch, Machine({}), cache=cache, limit=9).timed[0].shapes) == {
        "1x9",
        "4x9",
    }
    assert len(list(cache.iterdir())) == 4
