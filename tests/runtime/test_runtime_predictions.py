"""What a deployed model says is what parity measured, whichever way it is asked."""

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nxmi_export
from nxmi_export.artefact import CPU_MODEL, MODEL, read_artefact
from nxmi_export.backends.onnxruntime_options import FLOAT_PRODUCTS
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import EncodedDataset, Feeds, encode, load_tokenizer
from nxmi_export.glue import Dataset, task_named
from nxmi_export.model_facts import model_facts
from nxmi_export.parity.logits import Float32Array, logits_of
from nxmi_export.runtime import TaskModel
from nxmi_export.runtime.session import Session
from tests.pipeline.parity_project import Project
from tests.tiny_models import POSITION_LIMIT, tiny_config, toy_dataset

THREADS = 1  # the same for both, as sums round by how they are shared out
MRPC = {"task": "mrpc", "seed": 0}
INPUTS = model_facts(tiny_config().to_dict()).input_names


@pytest.fixture(scope="module")
def model(sst2: Project) -> TaskModel:
    return nxmi_export.load(sst2.artefact, threads=THREADS)


def encoded(artefact: Path, dataset: Dataset, max_length: int = POSITION_LIMIT) -> EncodedDataset:
    """As parity encodes it: with transformers."""
    tokenizer = load_tokenizer(read_tokenizer_files(artefact), source=artefact)
    return encode(dataset, tokenizer, input_names=INPUTS, max_length=max_length)


def measured(path: Path, data: EncodedDataset, batches: list[np.ndarray]) -> Float32Array:
    """As parity measures them: with the project's own runner."""
    with OnnxRuntimeRunner(path, optimize=True, threads=THREADS) as runner:
        return logits_of(runner, data, batches)


def pairs(count: int = 24) -> Dataset:
    return toy_dataset(count, task=task_named("mrpc"))


def bits(logits: Float32Array) -> list[bytes]:
    return [row.tobytes() for row in logits]


def test_logits_of_texts_are_those_of_parity_bit_for_bit(sst2: Project, model: TaskModel) -> None:
    dataset = toy_dataset(80)
    data = encoded(sst2.artefact, dataset)
    expected = measured(sst2.artefact / CPU_MODEL, data, data.bucketed(1024))
    assert len(data.bucketed(1024)) > 1
    assert bits(model.logits(dataset.texts[0])) == bits(expected)


def test_logits_of_pairs_are_those_of_parity_bit_for_bit(changed: Callable[..., Path]) -> None:
    artefact, dataset = changed(provenance=MRPC), pairs()
    data = encoded(artefact, dataset)
    expected = measured(artefact / CPU_MODEL, data, data.bucketed(256))
    with nxmi_export.load(artefact, threads=THREADS, batch_tokens=256) as model:
        assert bits(model.logits(zip(*dataset.texts, strict=True))) == bits(expected)


def test_another_file_of_the_artefact_runs_on_request(sst2: Project) -> None:
    dataset = toy_dataset(8)
    data = encoded(sst2.artefact, dataset)
    expected = measured(sst2.artefact / MODEL, data, data.bucketed(1024))
    with nxmi_export.load(sst2.artefact, file=MODEL, threads=THREADS) as model:
        assert bits(model.logits(dataset.texts[0])) == bits(expected)


def test_floats_stay_floats_in_whatever_file_is_run(
    sst2: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime rounds them where they meet stored integers, which only wide models show."""
    opened: dict[str, dict[str, str]] = {}

    class Noted(Session):
        def __init__(self, path: Path, content: bytes, **facts: Any) -> None:
            opened[path.name] = dict(facts["entries"])
            super().__init__(path, content, **facts)

    # By its name: the package has a function of the same.
    monkeypatch.setattr(importlib.import_module("nxmi_export.runtime.load"), "Session", Noted)
    for name in (CPU_MODEL, MODEL):
        nxmi_export.load(sst2.artefact, file=name).close()
    assert opened[CPU_MODEL] == read_artefact(sst2.artefact).manifest.session_options
    assert opened[MODEL] == FLOAT_PRODUCTS


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": 7}, {"batch_tokens": 40}, {"threads": 2}]
)
def test_labels_do_not_depend_on_batches_and_threads(
    options: dict[str, int], sst2: Project, model: TaskModel
) -> None:
    texts = toy_dataset(40).texts[0]
    with nxmi_export.load(sst2.artefact, **options) as other:
        found = other.predict(texts)
        np.testing.assert_allclose(other.logits(texts), model.logits(texts), atol=0.05)
    assert [each.label for each in found] == [each.label for each in model.predict(texts)]


def test_batches_hold_no_more_texts_than_asked(
    sst2: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    with nxmi_export.load(sst2.artefact, batch_size=3) as model:
        session = model._session
        run = session.logits

        def note(feeds: Feeds) -> Float32Array:
            sizes.append(len(feeds["input_ids"]))
            return run(feeds)

        monkeypatch.setattr(session, "logits", note)
        model.predict(toy_dataset(8).texts[0])
    assert sizes == [3, 3, 2]


def test_callers_at_once_get_what_each_would_get_alone(model: TaskModel) -> None:
    texts = toy_dataset(64).texts[0]
    requests = [texts[start : start + size] for start in range(0, 40, 4) for size in (1, 3, 9)]
    alone = [bits(model.logits(request)) for request in requests]
    together = threading.Barrier(4)

    def caller(_: int) -> list[list[bytes]]:
        together.wait()
        return [bits(model.logits(request)) for request in requests]

    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(caller, range(4))) == [alone] * 4


def test_a_prediction_has_the_likeliest_label_and_the_share_of_each(model: TaskModel) -> None:
    texts = toy_dataset(8).texts[0]
    logits = model.logits(texts).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for found, row in zip(model.predict(texts), shares, strict=True):
        assert list(found.scores) == list(model.labels) == ["LABEL_0", "LABEL_1"]
        assert found.label == model.labels[int(row.argmax())]
        assert found.score == found.scores[found.label] == max(found.scores.values())
        np.testing.assert_allclose(list(found.scores.values()), row, rtol=1e-12)


def test_a_model_is_called_like_a_function(model: TaskModel) -> None:
    assert model(["a fine film"]) == model.predict(["a fine film"])


def test_no_texts_make_no_predictions(model: TaskModel) -> None:
    assert model.predict([]) == []
    assert model.logits(iter(())).shape == (0, 2)


def test_pairs_may_come_as_lists(changed: Callable[..., Path]) -> None:
    with nxmi_export.load(changed(provenance=MRPC)) as model:
        assert model.predict([["a plot", "dull"]]) == model.predict([("a plot", "dull")])


def test_long_texts_are_truncated_to_the_position_table(sst2: Project, model: TaskModel) -> None:
    text = " ".join(["fine", "awful", "the"] * 40)
    assert model.max_length == POSITION_LIMIT
    dataset = replace(toy_dataset(1), texts=((text,),))
    data = encoded(sst2.artefact, dataset)
    assert data.lengths.tolist() == [POSITION_LIMIT]
    expected = measured(sst2.artefact / CPU_MODEL, data, data.bucketed(1024))
    assert bits(model.logits([text])) == bits(expected)


def test_long_pairs_are_truncated_as_training_truncated_them(changed: Callable[..., Path]) -> None:
    artefact = changed(provenance={**MRPC, "options": {"max_length": 16}})
    first = ("fine awful the " * 10, "dull")
    dataset = replace(pairs(2), texts=(first, first[::-1]))
    data = encoded(artefact, dataset, 16)
    expected = measured(artefact / CPU_MODEL, data, data.bucketed(1024))
    with nxmi_export.load(artefact, threads=THREADS) as model:
        assert model.max_length == 16
        assert bits(model.logits(zip(*dataset.texts, strict=True))) == bits(expected)


def test_the_caller_may_truncate_further(sst2: Project, model: TaskModel) -> None:
    with nxmi_export.load(sst2.artefact, threads=THREADS, max_length=5) as short:
        found = short.logits(["fine awful the plot is dull"])
    np.testing.assert_array_equal(found, model.logits(["fine awful the"]))
