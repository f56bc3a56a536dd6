"""Logits read as probabilities of one label, of several, or as a number; how sessions are set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import nxmi_export
from nxmi_export.artefact import CPU_MODEL, MODEL
from nxmi_export.backends import onnxruntime_options
from nxmi_export.runtime import Prediction
from nxmi_export.runtime.prediction import Head
from tests.pipeline.parity_project import Project

EXACT = "session.x64quantprecision"


def logits(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_a_regression_predicts_its_number() -> None:
    head = Head.of(("LABEL_0",), None)
    assert head.predictions(logits([3.5], [-1])) == [
        Prediction(None, 3.5, {}),
        Prediction(None, -1.0, {}),
    ]


def test_labels_that_exclude_each_other_share_one() -> None:
    (found,) = Head.of(("no", "yes"), "single_label_classification").predictions(logits([0, 0.5]))
    assert found.label == "yes"
    assert found.scores == pytest.approx({"no": 0.3775407, "yes": 0.6224593})
    assert sum(found.scores.values()) == pytest.approx(1)


def test_labels_that_may_hold_at_once_have_a_share_each() -> None:
    (found,) = Head.of(("a", "b"), "multi_label_classification").predictions(logits([0, 2]))
    assert found.label == "b"
    assert found.scores == pytest.approx({"a": 0.5, "b": 0.880797})


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_large_logits_do_not_overflow(problem: str | None) -> None:
    (found,) = Head.of(("a", "b"), problem).predictions(logits([-2000, 2000]))
    assert (found.label, found.scores) == ("b", {"a": 0.0, "b": 1.0})


def test_the_kind_of_head_comes_from_the_configuration(
    copy: Project, changed: Callable[..., Path]
) -> None:
    path = copy.artefact / "config.json"
    facts = json.loads(path.read_text()) | {"problem_type": "multi_label_classification"}
    path.write_text(json.dumps(facts))
    with nxmi_export.load(changed()) as model:
        (found,) = model.predict(["a fine film"])
        expected = 1 / (1 + np.exp(-model.logits(["a fine film"])[0].astype(np.float64)))
    np.testing.assert_allclose(list(found.scores.values()), expected, rtol=1e-12)


@pytest.mark.parametrize(("file", "exact"), [(CPU_MODEL, True), (MODEL, False)])
def test_the_session_is_exact_and_keeps_no_plan_for_each_shape(
    file: str, exact: bool, sst2: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the CPU file can be run under the option that keeps INT8 products exact."""
    opened: list[ort.SessionOptions] = []
    session = ort.InferenceSession

    def note(model: bytes, options: ort.SessionOptions, **others: Any) -> Any:
        opened.append(options)
        return session(model, options, **others)

    # As on a processor that loses sums without.
    monkeypatch.setattr(onnxruntime_options, "saturates_here", lambda: True)
    monkeypatch.setattr(onnxruntime_options, "loses_sums", lambda entries: False)
    monkeypatch.setattr(ort, "InferenceSession", note)
    nxmi_export.load(sst2.artefact, file=file, threads=2).close()
    (options,) = opened
    assert options.intra_op_num_threads == 2
    assert not options.enable_mem_pattern
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert entry(options, EXACT) == ("1" if exact else None)


def entry(options: ort.SessionOptions, key: str) -> str | None:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:  # what onnxruntime says of one that was not added
        return None
