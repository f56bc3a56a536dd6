"""Which library a model is run with: the one that was asked for, or the fastest that was proved."""

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

import nxmi_export
from nxmi_export import bench
from nxmi_export.artefact import BENCH, CERTIFICATE, CPU_MODEL, MODEL
from nxmi_export.backends.names import Backend
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.errors import ArtefactError, CapabilityMissing, UsageError
from nxmi_export.parity import document
from nxmi_export.processor import Processor, this_processor
from nxmi_export.runtime import choose_backend as choosing
from nxmi_export.runtime.choose_backend import Chosen, choose_backend
from nxmi_export.runtime.served_files import ServedFiles
from tests.pipeline.parity_project import Project

TEXTS = ["a fine film", "the plot is dull"]
PROCESSOR = str(this_processor())
UNTIMED = "no bench.json of these files is stored"
UNPROVED = "no parity report of these files passed with OpenVINO where it was timed"
RELEASE, ONNXRUNTIME = version("openvino"), version("onnxruntime")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def float_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without VNNI, whatever this one has."""
    monkeypatch.setattr(choosing, "products", lambda: "float32")


def test_the_schemas_are_those_of_bench_and_parity() -> None:
    assert choosing.BENCH_SCHEMA == bench.SCHEMA
    assert choosing.PARITY_SCHEMA == document.SCHEMA


def test_onnxruntime_runs_unless_another_is_asked_for(sst2: Project) -> None:
    with nxmi_export.load(sst2.artefact, threads=1) as model:
        assert (model.backend, model.backend_reason) == ("onnxruntime", "it was asked for")


def test_openvino_gives_the_logits_that_parity_measures(sst2: Project) -> None:
    with nxmi_export.load(sst2.artefact, backend="openvino", threads=1) as model:
        assert (model.backend, model.backend_reason) == ("openvino", "it was asked for")
        logits = model.logits(TEXTS)
        (session, encoder) = model._session, model._encoder
        rows = encoder.encode(TEXTS)
    assert session is not None
    feeds = {name: np.stack([rows[0][name]]) for name in rows[0]}
    with OpenVinoRunner(sst2.artefact / MODEL, threads=1) as runner:
        np.testing.assert_allclose(runner.run(feeds)["logits"][0], logits[0], atol=0.02)
    with nxmi_export.load(sst2.artefact, threads=1) as other:
        np.testing.assert_allclose(other.logits(TEXTS), logits, atol=0.05)


def test_an_unknown_backend_is_refused(sst2: Project) -> None:
    unknown: Any = "tvm"
    with pytest.raises(UsageError) as caught:
        nxmi_export.load(sst2.artefact, backend=unknown)
    assert str(caught.value) == (
        "backend: expected onnxruntime, openvino or auto, found 'tvm'; name one of them"
    )


def test_openvino_that_is_absent_is_told_how_to_get_it(
    sst2: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CapabilityMissing, match=r"pip install \"nxmi-export\[openvino\]\""):
        nxmi_export.load(sst2.artefact, backend="openvino")


def test_a_graph_of_another_head_is_refused(copy: Project) -> None:
    copy.configure(id2label={"0": "one", "1": "two", "2": "three"})
    copy.change(labels=("one", "two", "three"))
    artefact = copy.artefact
    with pytest.raises(ArtefactError) as caught:
        nxmi_export.load(artefact, backend="openvino", threads=1)
    assert str(caught.value) == (
        f"{artefact / MODEL}: expected a graph with 3 logits, one for each label, found 2; "
        "export the model again"
    )


def test_a_file_that_changed_is_refused(copy: Project) -> None:
    path = copy.artefact / MODEL
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtefactError, match="found other contents"):
        nxmi_export.load(copy.artefact, backend="openvino")


@pytest.fixture
def store(copy: Project) -> Callable[..., Chosen]:
    """What is chosen where bench and parity stored this, each as it is changed or left out."""

    def choose(
        *,
        times: Change | None = lambda _: None,
        report: Change | None = lambda _: None,
        threads: int | None = 1,
    ) -> Chosen:
        served = ServedFiles.read(copy.artefact)
        for name, made, change in (
            (BENCH, _bench(served), times),
            ("parity-sst2.json", _report(served), report),
        ):
            if change is not None:
                change(made)
                (copy.artefact / name).write_text(json.dumps(made))
        return choose_backend(served, threads)

    return choose


def _bench(served: ServedFiles) -> dict[str, Any]:
    """OpenVINO twice as fast on one shape and half as fast again on another."""

    def results(onnxruntime: float, openvino: float) -> dict[str, Any]:
        times = {"onnxruntime": onnxruntime, "openvino": openvino}
        return {"results": {name: {"call": {"p50": each}} for name, each in times.items()}}

    return {
        "schema": bench.SCHEMA,
        "artefact": {"files": {k: v for k, v in served.hashes.items() if k[:6] == "model."}},
        "environment": {"processor": PROCESSOR, "openvino": RELEASE, "onnxruntime": ONNXRUNTIME},
        "settings": {"threads": 1},
        "contenders": {"openvino": {"products": "float32"}},
        "workloads": [results(0.004, 0.002), results(0.0045, 0.004)],
        "texts": [],
    }


def _report(served: ServedFiles) -> dict[str, Any]:
    split = {
        "ok": True,
        "failures": [],
        "dataset": {"examples": 40},
        "rungs": {"openvino": {"examples": 40}},
        "environment": {"processor": PROCESSOR, "openvino": RELEASE},
    }
    return {
        "schema": document.SCHEMA,
        "ok": True,
        "artefact": dict(served.hashes),
        "facts": served.facts_sha256,
        "limit": None,
        "allowances": [],
        "splits": [split],
    }


def test_the_fastest_that_passed_is_taken(store: Callable[..., Chosen]) -> None:
    assert store() == Chosen(
        Backend.OPENVINO,
        "OpenVINO is 1.50 times as fast as onnxruntime in bench.json, and passed parity-sst2.json",
    )


def test_a_certificate_that_came_later_is_no_other_file(store: Callable[..., Chosen]) -> None:
    chosen = store(report=lambda made: made["artefact"].update({CERTIFICATE: "ab" * 32}))
    assert chosen.backend is Backend.OPENVINO


@pytest.mark.parametrize(
    "change",
    [
        {"facts": "ab" * 32},
        {"limit": 40},
        {"allowances": ["max_drop"]},
        {"splits": []},
    ],
)
def test_a_report_that_vouches_for_less_is_none(
    store: Callable[..., Chosen], change: dict[str, Any]
) -> None:
    assert store(report=lambda made: made.update(change)).reason == UNPROVED


def test_a_report_that_does_not_say_how_many_examples_it_read_is_none(
    store: Callable[..., Chosen],
) -> None:
    assert store(report=lambda made: made.pop("limit")).reason == UNPROVED


def test_a_dev_set_that_failed_vouches_for_nothing(store: Callable[..., Chosen]) -> None:
    chosen = store(report=lambda made: made["splits"][0].update(failures=["It drifts."]))
    assert chosen.reason == UNPROVED


def _slower(made: dict[str, Any]) -> None:
    made["workloads"][0]["results"]["openvino"]["call"]["p50"] = 0.0081


def _untimed(made: dict[str, Any]) -> None:
    for each in made["workloads"]:
        each["results"]["openvino"] = {"ran": False, "reason": "absent"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, UNTIMED),
        (lambda made: made.update(schema="nxmi-export/bench/1"), UNTIMED),
        (lambda made: made["artefact"]["files"].update({CPU_MODEL: "ab" * 32}), UNTIMED),
        (_untimed, "bench.json has no times of OpenVINO beside onnxruntime"),
        (_slower, "OpenVINO is 0.75 times as fast as onnxruntime in bench.json"),
        (lambda made: made["environment"].update(processor="another"), UNPROVED),
        (lambda made: made["environment"].update(openvino="2025.1.0"), UNPROVED),
        (
            lambda made: made["contenders"]["openvino"].update(products="int8"),
            "OpenVINO was timed with int8 products, and takes float32 ones on this processor",
        ),
    ],
)
def test_without_times_that_speak_for_openvino_it_is_onnxruntime(
    change: Change | None, reason: str, store: Callable[..., Chosen]
) -> None:
    assert store(times=change) == Chosen(Backend.ONNXRUNTIME, reason)


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda made: made.update(schema="nxmi-export/parity-run/2"),
        lambda made: made.update(ok=False),
        lambda made: made["artefact"].update({MODEL: "ab" * 32}),
        lambda made: made["artefact"].pop(MODEL),
        lambda made: made.update(splits=[]),
        lambda made: made["splits"][0]["rungs"].clear(),
        lambda made: made["splits"][0]["rungs"]["openvino"].update(examples=39),
        lambda made: made["splits"][0]["dataset"].update(examples=0),
        lambda made: made["splits"][0]["environment"].update(processor="another"),
        lambda made: made["splits"][0]["environment"].pop("openvino"),
    ],
)
def test_without_a_report_that_speaks_for_openvino_it_is_onnxruntime(
    change: Change | None, store: Callable[..., Chosen]
) -> None:
    assert store(report=change) == Chosen(Backend.ONNXRUNTIME, UNPROVED)


def test_another_processor_was_neither_timed_nor_judged(
    store: Callable[..., Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Processor("Imaginary Xeon", 4, ("avx2", "avx512_vnni"))
    monkeypatch.setattr(choosing, "this_processor", lambda: here)
    told = (
        "bench.json was measured on another processor than Imaginary Xeon, 4 cores, avx2, "
        "avx512_vnni"
    )
    assert store() == Chosen(Backend.ONNXRUNTIME, told)


def test_another_release_was_neither_timed_nor_judged(
    store: Callable[..., Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    for library, installed in (("openvino", RELEASE), ("onnxruntime", ONNXRUNTIME)):
        now = {"openvino": RELEASE, "onnxruntime": ONNXRUNTIME, library: "2027.1.0"}
        monkeypatch.setattr(choosing, "version", now.__getitem__)
        told = f"bench.json was measured with another {library} than 2027.1.0"
        assert store() == Chosen(Backend.ONNXRUNTIME, told)
        now[library] = installed
        assert store().backend is Backend.OPENVINO


@pytest.mark.parametrize(
    ("threads", "than"), [(2, "2"), (None, "the library's own choice")], ids=["2", "own choice"]
)
def test_times_of_other_threads_say_nothing(
    threads: int | None, than: str, store: Callable[..., Chosen]
) -> None:
    told = f"bench.json was measured with another number of threads than {than}"
    assert store(threads=threads) == Chosen(Backend.ONNXRUNTIME, told)


def test_times_of_the_librarys_own_choice_speak_for_it(store: Callable[..., Chosen]) -> None:
    def own_choice(made: dict[str, Any]) -> None:
        made["settings"]["threads"] = "PyTorch 2, the others their own choice"

    assert store(times=own_choice, threads=None).backend is Backend.OPENVINO


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": 1}'])
def test_files_that_are_damaged_speak_for_nothing(
    content: bytes, store: Callable[..., Chosen], copy: Project
) -> None:
    (copy.artefact / BENCH).write_bytes(content)
    assert store(times=None).reason == UNTIMED
    (copy.artefact / "parity-sst2.json").write_bytes(content)
    assert store(report=None).reason == UNPROVED


def test_where_openvino_is_absent_it_is_onnxruntime_and_says_so(
    store: Callable[..., Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise CapabilityMissing("OpenVINO", expected="one", found="none", remedy="install it")

    monkeypatch.setattr(choosing, "products", absent)
    assert store() == Chosen(Backend.ONNXRUNTIME, "OpenVINO: expected one, found none; install it")


def test_auto_runs_what_is_chosen_and_a_named_file_on_onnxruntime(
    store: Callable[..., Chosen], copy: Project
) -> None:
    store()
    with nxmi_export.load(copy.artefact, backend="auto", threads=1) as model:
        assert model.backend is Backend.OPENVINO
        assert len(model.predict(TEXTS)) == 2
    with nxmi_export.load(copy.artefact, backend="auto", file=MODEL, threads=1) as model:
        assert model.backend is Backend.ONNXRUNTIME
        assert model.backend_reason == (
            "model.onnx was asked for, and only the default files are compared"
        )
