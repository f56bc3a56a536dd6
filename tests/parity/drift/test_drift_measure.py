"""Errors of every point between two rungs that run freely."""

import json
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from parity_models import BATCH, EMBEDDINGS, LAYER, QUERY, Exported, encoded
from tiny_models import compressed_model, tiny_model, toy_data

from nxmi_export.backends import Feeds
from nxmi_export.compression import compressed_linears
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import ShapeError, UsageError
from nxmi_export.parity.drift import (
    Kind,
    OnnxPoints,
    Point,
    TorchPoints,
    measure_drift,
)
from nxmi_export.parity.drift.point import Observations, real_values

LOGITS = Point("", Kind.LOGITS)
TOKENS = Point("norm", Kind.NORM)
# Of a block: six linears, probabilities, two norms, an activation function, the block itself.
POINTS = 2 * 11 + 3 + 1 + 2 + 1 + 1  # embeddings and their norm, pooler, classifier, logits
READ = 2 * 2 + 1 + 2  # what norms, the pooler and the classifier read


class FakeRung:
    """Gives each token its own id, plus an error, as a value of `width` channels."""

    def __init__(self, error: float = 0.0, *, width: int = 1, name: str = "fake") -> None:
        self.error, self.width, self.name = error, width, name

    def observe(self, feeds: Feeds) -> Observations:
        ids = feeds["input_ids"].astype(np.float32)[..., np.newaxis]
        return {
            TOKENS: np.repeat(ids + np.float32(self.error), self.width, axis=2),
            LOGITS: ids[:, 0] * np.float32([[1, -1]]) + np.float32(self.error),
        }


def _written(exported: Exported, data: EncodedDataset) -> OnnxPoints:
    feeds = next(data.batches(BATCH)).feeds
    points = TorchPoints(exported.model).points(feeds)
    return OnnxPoints(exported.path, points, optimize=False, threads=1)


def test_every_point_of_pytorch_is_found_in_the_file_and_agrees(
    sparse: Exported, data: EncodedDataset
) -> None:
    with _written(sparse, data) as written:
        drift = measure_drift(TorchPoints(sparse.model), written, data, batch_size=BATCH)
    assert drift.unobserved == ()
    assert len(drift.points) == POINTS + READ
    assert drift.examples == 40
    assert max(each.relative_rms for each in drift.points) < 1e-6
    assert min(each.cosine for each in drift.points) > 1 - 1e-9
    (logits,) = drift.of(Kind.LOGITS)
    assert logits.values == 40 * 2


def test_values_are_those_before_the_quantizer(sparse: Exported, data: EncodedDataset) -> None:
    feeds = next(data.batches(BATCH)).feeds
    seen = TorchPoints(sparse.model).observe(feeds)
    query = seen[Point(QUERY, Kind.LINEAR)]
    scale = sparse.model.get_submodule(QUERY).output_quantizer.scale.item()
    assert np.abs(query / scale - np.round(query / scale)).max() > 0.1
    block = seen[Point(LAYER.format(0), Kind.BLOCK)]
    step = sparse.model.get_submodule(LAYER.format(0) + ".output.LayerNorm.output_quantizer").scale
    assert np.abs(block / step.item() - np.round(block / step.item())).max() < 1e-4


def test_attention_probabilities_sum_to_one(sparse: Exported, data: EncodedDataset) -> None:
    feeds = next(data.batches(BATCH)).feeds
    seen = TorchPoints(sparse.model).observe(feeds)
    probabilities = seen[Point(LAYER.format(0) + ".attention.self", Kind.ATTENTION)]
    assert probabilities.shape == (BATCH, 4, *feeds["input_ids"].shape[1:] * 2)
    assert probabilities.sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_values_of_padding_are_left_out(data: EncodedDataset) -> None:
    class Noisy(FakeRung):
        def observe(self, feeds: Feeds) -> Observations:
            seen = super().observe(feeds)
            seen[TOKENS] = seen[TOKENS] + 1e6 * (feeds["attention_mask"] == 0)[..., np.newaxis]
            return seen

    drift = measure_drift(FakeRung(), Noisy(), data, batch_size=BATCH)
    (tokens,) = drift.of(Kind.NORM)
    assert tokens.values == data.lengths.sum()
    assert tokens.max_abs == 0


def test_the_error_is_measured_and_placed(data: EncodedDataset) -> None:
    class Off(FakeRung):
        def observe(self, feeds: Feeds) -> Observations:
            seen = super().observe(feeds)
            seen[TOKENS][feeds["input_ids"] == 17] += 3
            return seen

    drift = measure_drift(FakeRung(), Off(0.5), data, batch_size=BATCH)
    (tokens,) = drift.of(Kind.NORM)
    largest = tokens.largest
    assert largest is not None
    where = [
        (i, int(np.argmax(row["input_ids"] == 17)))
        for i, row in enumerate(data.rows)
        if 17 in row["input_ids"]
    ]
    assert (largest.example, largest.position) == (where[0][0], (where[0][1], 0))
    assert (largest.error, largest.reference, largest.candidate) == (3.5, 17, 20.5)


def test_batch_size_and_order_do_not_matter(data: EncodedDataset) -> None:
    runs = [
        measure_drift(FakeRung(), FakeRung(0.25), data, batch_size=size, order=order)
        for size, order in ((8, None), (3, np.arange(40)), (40, np.arange(40)[::-1].copy()))
    ]
    for run in runs[1:]:
        for one, other in zip(runs[0].points, run.points, strict=True):
            assert one.largest == other.largest
            assert one.rms == pytest.approx(other.rms, rel=1e-12)


def test_compression_drifts_more_from_the_dense_model_than_export_does() -> None:
    dense, model, data = tiny_model(), compressed_model(), toy_data(16)
    drift = measure_drift(TorchPoints(dense), TorchPoints(model), data, batch_size=8)
    # What a compressed linear reads is a quantizer's point there.
    assert {each.kind for each in drift.unobserved} == {Kind.INPUT}
    assert {each.module for each in drift.unobserved} <= set(compressed_linears(model))
    first, last = drift.of(Kind.BLOCK)
    assert first.relative_rms > 0.01
    assert last.relative_rms > 0.01
    assert drift.of(Kind.EMBEDDING)[0].max_abs == 0


@pytest.mark.parametrize("model_type", ["albert", "distilbert", "mobilebert", "modernbert"])
def test_every_point_of_a_dense_model_is_one_of_its_compressed_form(model_type: str) -> None:
    dense, model = tiny_model(model_type), compressed_model(model_type=model_type)
    data = toy_data(8, model_type=model_type)
    drift = measure_drift(TorchPoints(dense), TorchPoints(model), data, batch_size=8)
    # What a compressed linear reads is a quantizer's point there.
    assert {each.kind for each in drift.unobserved} == {Kind.INPUT}
    assert {each.module for each in drift.unobserved} <= set(compressed_linears(model))
    assert {each.point.kind for each in drift.points} == set(Kind) - {Kind.QUANTIZER}


def test_the_runs_of_a_shared_block_are_points_of_their_own() -> None:
    feeds = next(toy_data(8, model_type="albert").batches(8)).feeds
    points = TorchPoints(compressed_model(model_type="albert")).points(feeds)
    query = [point for point in points if point.module.endswith("query")]
    assert [point.run for point in query] == [0, 1]
    assert str(query[1]).endswith("query (linear), run 1")


def test_optimized_blocks_can_be_observed(sparse: Exported, data: EncodedDataset) -> None:
    points = TorchPoints(sparse.model).points(next(data.batches(BATCH)).feeds)
    blocks = [point for point in points if point.kind is Kind.BLOCK]
    with (
        _written(sparse, data) as written,
        OnnxPoints(sparse.cpu_path, blocks, optimize=True, threads=1) as optimized,
    ):
        drift = measure_drift(
            written, optimized, data, batch_size=BATCH, kinds=(Kind.BLOCK, Kind.LOGITS)
        )
    assert [each.point.kind for each in drift.points] == [Kind.BLOCK, Kind.BLOCK, Kind.LOGITS]
    assert max(each.relative_rms for each in drift.points) < 0.05


def test_what_the_candidate_does_not_show_is_listed(data: EncodedDataset) -> None:
    class Blind(FakeRung):
        def observe(self, feeds: Feeds) -> Observations:
            return {LOGITS: super().observe(feeds)[LOGITS]}

    drift = measure_drift(FakeRung(), Blind(), data, batch_size=BATCH)
    assert drift.unobserved == (TOKENS,)
    assert [each.point for each in drift.points] == [LOGITS]


def test_memory_does_not_grow_with_the_dataset() -> None:
    def peak(examples: int) -> int:
        data = encoded(examples)
        order = np.tile(np.arange(8), examples // 8)  # batches of one shape
        rungs = FakeRung(width=2000), FakeRung(0.5, width=2000)
        tracemalloc.start()
        measure_drift(*rungs, data, batch_size=8, order=order)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)  # what is imported and cached on the way
    assert peak(320) < 1.2 * peak(16)


def test_the_result_is_plain_json(data: EncodedDataset) -> None:
    drift = measure_drift(FakeRung(), FakeRung(np.inf), data, batch_size=BATCH)
    document = json.loads(json.dumps(drift.as_json(), allow_nan=False))
    assert document["schema"] == "nxmi-export/drift/1"
    tokens = document["points"][0]
    assert tokens["name"] == "norm (norm)"
    assert tokens["point"] == {"module": "norm", "kind": "norm", "run": 0}
    assert (tokens["max_abs"], tokens["rms"], tokens["non_finite"]) == (
        None,
        None,
        tokens["values"],
    )


def test_progress_counts_examples(data: EncodedDataset) -> None:
    seen: list[tuple[int, int]] = []
    measure_drift(
        FakeRung(), FakeRung(), data, batch_size=16, on_batch=lambda *each: seen.append(each)
    )
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_no_examples_are_refused(data: EncodedDataset) -> None:
    with pytest.raises(UsageError) as error:
        measure_drift(FakeRung(), FakeRung(), data, batch_size=8, order=np.array([], np.int64))
    assert str(error.value) == (
        "the drift from fake to fake: expected examples, found none; give at least one"
    )


def test_two_shapes_of_one_point_are_refused(data: EncodedDataset) -> None:
    with pytest.raises(UsageError) as error:
        measure_drift(FakeRung(), FakeRung(width=2), data, batch_size=8, order=np.arange(1))
    length = data.lengths[0]
    assert str(error.value) == (
        f"norm (norm): expected the shape (1, {length}, 1) on both sides, "
        f"found (1, {length}, 2); compare two rungs of one model"
    )


MASK: NDArray[np.int64] = np.array([[1, 1, 0], [1, 1, 1]])
REAL: Mapping[tuple[int, ...], int] = {
    (2, 4): 8,
    (2, 3, 4): 20,
    (2, 5, 3, 7): 5 * 5 * 7,
}


@pytest.mark.parametrize("shape", REAL)
def test_real_values_are_counted_by_shape(shape: tuple[int, ...]) -> None:
    assert real_values(TOKENS, shape, MASK).sum() == REAL[shape]


def test_a_padded_key_is_no_real_probability() -> None:
    real = real_values(Point("self", Kind.ATTENTION), (2, 1, 3, 3), MASK)
    assert real[0, 0].tolist() == [[True, True, False], [True, True, False], [False] * 3]
    assert real[1].all()


def test_a_head_as_wide_as_the_sequence_is_long_is_no_probability() -> None:
    query = Point("attn.query_quantizer", Kind.QUANTIZER)
    assert real_values(query, (2, 1, 3, 3), MASK)[0, 0, 0].all()


def test_a_value_that_is_not_of_these_tokens_is_refused() -> None:
    with pytest.raises(ShapeError) as error:
        real_values(TOKENS, (6, 4, 2), MASK)
    assert str(error.value) == (
        "norm (norm): expected a value of 2 examples with 3 tokens, "
        "found the shape (6, 4, 2); leave this kind of point out"
    )


def test_names_of_points() -> None:
    assert str(Point(EMBEDDINGS, Kind.QUANTIZER)) == f"{EMBEDDINGS} (quantizer)"
    assert str(LOGITS) == "logits"
