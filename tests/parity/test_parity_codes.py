"""Rates of equal codes, counted where both sides run freely."""

import math
from pathlib import Path

import numpy as np
from parity_models import EMBEDDINGS, KEY, QUERY, Exported, edited, rescale

from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity import CodeAgreement, code_agreement

SAMPLE = np.arange(6)


def test_every_code_of_every_quantizer_is_counted(sparse: Exported, data: EncodedDataset) -> None:
    counts = code_agreement(sparse.model, sparse.path, data, indices=SAMPLE, batch_size=3)
    first, *_ = counts
    tokens = sum(3 * data.lengths[part].max() for part in (SAMPLE[:3], SAMPLE[3:]))
    assert (first.module, first.total) == (EMBEDDINGS, tokens * 32)
    assert len(counts) == 20
    assert all(count.rate > 0.99 for count in counts)


def test_unsigned_codes_are_counted_around_their_zero_point(
    sparse: Exported, data: EncodedDataset
) -> None:
    counts = code_agreement(sparse.model, sparse.cpu_path, data, indices=SAMPLE, batch_size=3)
    assert all(count.rate > 0.99 for count in counts)


def test_a_shared_quantizer_is_counted_once(mixed: Exported, data: EncodedDataset) -> None:
    counts = code_agreement(mixed.model, mixed.path, data, indices=SAMPLE, batch_size=6)
    modules = [count.module for count in counts]
    assert f"{QUERY}.input_quantizer" in modules
    assert f"{KEY}.input_quantizer" not in modules
    assert counts[0].total == 6 * data.lengths[SAMPLE].max() * 32


def test_a_scale_that_is_off_shows_first_where_it_is(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    module = f"{QUERY}.output_quantizer"
    path = edited(sparse.path, tmp_path, rescale(module, 1.5))
    counts = code_agreement(sparse.model, path, data, indices=SAMPLE, batch_size=3)
    rates = {count.module: count.rate for count in counts}
    assert rates[EMBEDDINGS] > 0.99
    assert rates[module] < 0.5
    assert next(count.module for count in counts if count.rate < 0.9) == module


def test_progress_counts_examples(sparse: Exported, data: EncodedDataset) -> None:
    seen: list[tuple[int, int]] = []
    code_agreement(
        sparse.model,
        sparse.path,
        data,
        indices=SAMPLE,
        batch_size=4,
        on_batch=lambda *each: seen.append(each),
    )
    assert seen == [(4, 6), (6, 6)]


def test_a_file_of_other_quantizers_has_no_counts(
    sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    """Its replays are refused, which is what fails a run that goes on to its report."""
    assert code_agreement(sparse.model, mixed.path, data, indices=SAMPLE, batch_size=3) == ()


def test_a_rate_of_nothing_is_no_number() -> None:
    assert math.isnan(CodeAgreement("norm").rate)
    assert CodeAgreement("norm", equal=6, off_by_one=1, worse=1).rate == 0.75
