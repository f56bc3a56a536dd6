"""Faults that change no prediction: found in a few replayed examples, or in other shapes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployment_faults import (
    Edit,
    drop_mask,
    read_mask_as_length,
    scale_softmax_input,
    shift_logits,
)
from parity_models import (
    BATCH_TOKENS,
    INPUTS,
    LAYER,
    POSITIONS,
    Exported,
    edited,
    rung,
    torch_rung,
)

from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UsageError
from nxmi_export.parity import (
    Explanation,
    Observed,
    ShapeParity,
    compare,
    explain,
    replay_sample,
    replay_shapes,
    run_rung,
    shape_parity,
)
from nxmi_export.parity.left_padding import few_lengths, left_padding

SELF = LAYER.format(0) + ".attention.self"
SAMPLE = 8


def _observed(exported: Exported, path: Path, data: EncodedDataset, *, optimized: bool) -> Observed:
    with OnnxRuntimeRunner(path, optimize=optimized, threads=1) as runner:
        candidate = run_rung(runner, data, batch_tokens=BATCH_TOKENS)
    reference = torch_rung(exported.model, data)
    return Observed(exported.model, path, reference, candidate, threads=1, optimized=optimized)


def _replayed(observed: Observed, data: EncodedDataset) -> tuple[Explanation, ...]:
    sampled = replay_sample(observed.reference, observed.candidate, SAMPLE, seed=0)
    return explain(observed, data, sampled)


def _shaped(observed: Observed, data: EncodedDataset) -> ShapeParity:
    sample = data.select(np.arange(12))
    with OnnxRuntimeRunner(observed.onnx_path, optimize=observed.optimized, threads=1) as runner:
        found = shape_parity(runner, sample, batch_sizes=(4, 1), pad_to=(POSITIONS,))
        pytorch = TorchRunner(observed.model, INPUTS)
        left = left_padding(runner, pytorch, sample, [few_lengths(sample)])
    return replay_shapes(observed, sample, replace(found, settings=(*found.settings, left)))


@pytest.mark.parametrize("optimized", [False, True])
def test_an_honest_export_is_explained_in_logits_and_shapes(
    optimized: bool, sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    for exported in (sparse, mixed):
        observed = _observed(exported, exported.cpu_path, data, optimized=optimized)
        found = _replayed(observed, data)
        assert len(found) == SAMPLE
        assert [each.reason for each in found if not each.explained] == []
        settings = _shaped(observed, data).settings
        assert [(each.batch_size, each.pad_to, each.left) for each in settings] == [
            (1, None, False),
            (4, POSITIONS, False),
            (4, None, True),
        ]
        assert all(each.replays for each in settings)
        reasons = [r.reason for each in settings for r in each.replays if not r.explained]
        assert reasons == []


def test_replays_of_other_logits_than_a_shape_has_shown_explain_nothing(
    sparse: Exported, data: EncodedDataset
) -> None:
    observed = _observed(sparse, sparse.cpu_path, data, optimized=False)
    sample = data.select(np.arange(12))
    with OnnxRuntimeRunner(sparse.cpu_path, optimize=False, threads=1) as runner:
        found = shape_parity(runner, sample, batch_sizes=(4, 1), pad_to=())
    (setting,) = found.settings
    assert setting.logits is not None
    shown = replace(
        setting, changed=12, changed_examples=tuple(range(12)), logits=setting.logits + 5
    )
    (replayed,) = replay_shapes(observed, sample, replace(found, settings=(shown,))).settings
    assert (replayed.unexplained, len(replayed.replays)) == (12, 12)
    assert all("lie 5 from those it gives when" in each.reason for each in replayed.replays)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (shift_logits(0.01), "from equal codes the logits lie 0.01 apart"),
        (scale_softmax_input(SELF, 1.002), f"{SELF}.softmax_quantizer at ["),
    ],
    ids=["a bias on every logit", "a softmax scale"],
)
def test_a_fault_that_changes_no_prediction_is_found(
    optimized: bool,
    edit: Edit,
    reason: str,
    sparse: Exported,
    data: EncodedDataset,
    tmp_path: Path,
) -> None:
    path = edited(sparse.cpu_path, tmp_path, edit)
    observed = _observed(sparse, path, data, optimized=optimized)
    assert compare(observed.reference, observed.candidate).changes == ()
    refused = [each for each in _replayed(observed, data) if not each.explained]
    assert refused
    assert all(each.reason.startswith(reason) for each in refused)


@pytest.mark.parametrize("optimized", [False, True])
def test_a_mask_read_as_a_length_shows_in_padding_on_the_left_alone(
    optimized: bool, sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    path = edited(sparse.cpu_path, tmp_path, read_mask_as_length)
    observed = _observed(sparse, path, data, optimized=optimized)
    assert all(each.explained for each in _replayed(observed, data))
    *others, left = _shaped(observed, data).settings
    assert all(each.explained for setting in others for each in setting.replays)
    assert left.left
    assert [each.explained for each in left.replays].count(False) >= 2  # all that have padding


@pytest.mark.parametrize("optimized", [False, True])
def test_padding_that_is_attended_to_is_found_in_every_padded_shape(
    optimized: bool, sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    path = edited(sparse.cpu_path, tmp_path, drop_mask(SELF))
    observed = _observed(sparse, path, data, optimized=optimized)
    single, padded, left = _shaped(observed, data).settings
    assert all(each.explained for each in single.replays)
    assert not any(each.explained for each in padded.replays)
    assert not all(each.explained for each in left.replays)


def test_the_sample_is_the_furthest_examples_and_others_drawn_by_the_seed() -> None:
    before, after = np.zeros((100, 2)), np.zeros((100, 2))
    after[[7, 93], 1] = -0.5
    after[40] = np.nan
    rungs = rung(before), rung(after)
    chosen = replay_sample(*rungs, 6, seed=3)
    assert len(chosen) == len(set(chosen)) == 6
    assert {7, 40, 93} < set(chosen)
    assert replay_sample(*rungs, 6, seed=3) == chosen
    assert replay_sample(*rungs, 6, seed=4) != chosen
    assert replay_sample(*rungs, 1000, seed=0) == tuple(range(100))
    assert replay_sample(*rungs, 0, seed=0) == ()


def test_rungs_of_other_numbers_of_examples_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        replay_sample(rung(np.zeros((3, 2))), rung(np.zeros((2, 2)), name="other"), 2, seed=0)
    assert str(error.value) == (
        "replaying other: expected the 3 examples of fake, found 2; run both rungs over one dataset"
    )
