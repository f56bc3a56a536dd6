"""Explaining changed predictions: ties are, faults are not, also where a tie hides them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from parity_models import (
    BATCH,
    DOWN,
    EMBEDDINGS,
    LAYER,
    QUERY,
    Exported,
    edited,
    layer_of,
    node_of,
    onnx_rung,
    replace_constant,
    rescale,
    rung,
    torch_rung,
)
from torch import Tensor

from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity import Explanation, Observed, compare, explain, explain_unobserved
from nxmi_export.parity.replay import logits_with_visits
from passes import MODULE_KEY

NORM = "bert.embeddings.LayerNorm"
EVERY = range(40)
FAULTS = [EMBEDDINGS, f"{QUERY}.output_quantizer", f"{DOWN}.input_quantizer"]


def _observed(exported: Exported, path: Path, data: EncodedDataset) -> Observed:
    reference, candidate = torch_rung(exported.model, data), onnx_rung(path, data)
    return Observed(exported.model, path, reference, candidate, threads=1)


def _explain(
    exported: Exported, path: Path, data: EncodedDataset, indices: range | list[int] = EVERY
) -> tuple[Explanation, ...]:
    return explain(_observed(exported, path, data), data, indices)


def _nearest_tie(exported: Exported, data: EncodedDataset) -> tuple[int, int, int, float]:
    """Example, token, channel of the embedding nearest a tie, and how far it lies above."""
    found: list[tuple[int, int, int, float]] = []

    def visit(module: str, quantizer: ActivationQuantizer, x: Tensor) -> None:
        if module == EMBEDDINGS:
            ratios = (x / quantizer.scale).numpy().astype(np.float64)
            above = ratios - (np.floor(ratios) + 0.5)
            at = np.unravel_index(np.abs(above).argmin(), above.shape)
            row, token, channel = (int(i) for i in at)
            found.append((int(batch.indices[row]), token, channel, float(above[at])))

    for batch in data.batches(BATCH):
        logits_with_visits(exported.model, batch.feeds, visit)
    return min(found, key=lambda each: abs(each[3]))


def _tip_over(exported: Exported, channel: int, above: float) -> Callable[[ir.Model], None]:
    """An edit that moves one channel of the embeddings by about as much as rounding does."""
    scale = exported.model.get_submodule(EMBEDDINGS).scale.item()
    shift = np.zeros(32, np.float32)
    shift[channel] = -np.sign(above) * scale * (2 * abs(above) + 1e-5)

    def edit(model: ir.Model) -> None:
        norm = node_of(model, NORM, "LayerNormalization")
        replace_constant(norm, 2, lambda bias: bias + shift)

    return edit


def test_an_untouched_export_is_explained_in_every_example(
    sparse: Exported, data: EncodedDataset
) -> None:
    explanations = _explain(sparse, sparse.path, data)
    assert [e.index for e in explanations if not e.explained] == []
    assert [e.index for e in explanations] == list(EVERY)


def test_unsigned_codes_are_read_around_their_zero_point(
    sparse: Exported, data: EncodedDataset
) -> None:
    assert all(e.explained for e in _explain(sparse, sparse.cpu_path, data))


def test_floats_between_shared_quantizers_are_explained(
    mixed: Exported, data: EncodedDataset
) -> None:
    assert all(e.explained for e in _explain(mixed, mixed.path, data))


def test_a_tie_made_on_purpose_is_explained_and_named(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    index, token, channel, above = _nearest_tie(sparse, data)
    path = edited(sparse.path, tmp_path, _tip_over(sparse, channel, above))
    (explanation,) = _explain(sparse, path, data, [index])
    assert explanation.explained
    first = explanation.first_difference
    assert first is not None
    assert (first.module, first.position) == (EMBEDDINGS, (token, channel))
    assert abs(first.codes[0] - first.codes[1]) == 1
    assert explanation.reason.startswith(f"The first differing code is a rounding tie ({first})")


@pytest.mark.parametrize("module", FAULTS)
def test_a_scale_that_is_one_percent_off_is_not_explained(
    module: str, sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    explanations = _explain(sparse, edited(sparse.path, tmp_path, rescale(module, 1.01)), data)
    assert [e.index for e in explanations if e.explained] == []
    assert all(e.reason.startswith(f"{module} at [") for e in explanations)


def test_a_fault_behind_a_tie_is_not_explained_by_the_tie(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    index, _, channel, above = _nearest_tie(sparse, data)
    tip, fault = _tip_over(sparse, channel, above), rescale(FAULTS[-1], 1.01)

    def both(model: ir.Model) -> None:
        tip(model)
        fault(model)

    (explanation,) = _explain(sparse, edited(sparse.path, tmp_path, both), data, [index])
    assert explanation.first_difference is not None
    assert explanation.first_difference.module == EMBEDDINGS
    assert explanation.explained is False
    assert explanation.reason.startswith(f"{FAULTS[-1]} at [")


def test_another_gelu_is_not_explained(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    module = LAYER.format(1) + ".intermediate.intermediate_act_fn"

    def approximate(model: ir.Model) -> None:
        node_of(model, module, "Gelu").attributes["approximate"] = ir.AttrString(
            "approximate", "tanh"
        )

    explanations = _explain(sparse, edited(sparse.path, tmp_path, approximate), data)
    assert [e.index for e in explanations if e.explained] == []
    assert all(e.reason.startswith(f"{DOWN}.input_quantizer at [") for e in explanations)


def test_a_fault_behind_the_last_quantizer_is_not_explained(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    def double(model: ir.Model) -> None:
        replace_constant(layer_of(model, "classifier").node, 1, lambda weight: weight * 2)

    explanations = _explain(sparse, edited(sparse.path, tmp_path, double), data)
    assert [e.index for e in explanations if e.explained] == []
    assert all(e.reason.startswith("from equal codes the logits lie ") for e in explanations)


def test_a_graph_that_lacks_a_quantizer_explains_nothing(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    def lose(model: ir.Model) -> None:
        node_of(model, EMBEDDINGS, "QuantizeLinear").metadata_props[MODULE_KEY] = "elsewhere"

    path = edited(sparse.path, tmp_path, lose)
    assert _explain(sparse, path, data, [3]) == (
        Explanation(3, False, f"the graph has no quantizer for {EMBEDDINGS}."),
    )


def test_a_result_that_does_not_repeat_itself_is_not_explained(
    sparse: Exported, data: EncodedDataset
) -> None:
    observed = _observed(sparse, sparse.path, data)
    assert observed.reference.predictions is not None
    other = replace(observed.reference, predictions=1 - observed.reference.predictions)
    (explanation,) = explain(replace(observed, reference=other), data, [0])
    was, again = other.predictions[0], observed.reference.predictions[0]
    assert explanation.reason == (
        f"pytorch gave {was} for example 0 and {again} when it ran again."
    )


@pytest.mark.parametrize("optimized", [False, True])
def test_logits_that_reading_codes_takes_away_are_not_explained(
    optimized: bool, sparse: Exported, data: EncodedDataset
) -> None:
    """The predictions are the same, and every code of the run that is read is right."""
    observed = replace(_observed(sparse, sparse.path, data), optimized=optimized)
    assert all(each.explained for each in explain(observed, data, EVERY))
    other = replace(observed.candidate, logits=observed.candidate.logits * np.float32(3))
    explanations = explain(replace(observed, candidate=other), data, EVERY)
    assert [each.index for each in explanations if each.explained] == []
    assert all(
        each.reason.startswith(f"onnxruntime as written gave logits for example {each.index} that")
        and each.reason.endswith("from those it gives when its codes are read.")
        for each in explanations
    )


def test_rungs_in_the_order_of_the_tasks_labels_are_run_again_in_that_order(
    sparse: Exported, data: EncodedDataset
) -> None:
    observed = _observed(sparse, sparse.path, data)
    swapped = [
        replace(each, logits=each.logits[:, ::-1], predictions=1 - each.predictions)
        for each in (observed.reference, observed.candidate)
    ]
    observed = replace(observed, reference=swapped[0], candidate=swapped[1])
    assert not any(e.explained for e in explain(observed, data, EVERY))
    assert all(e.explained for e in explain(replace(observed, label_order=(1, 0)), data, EVERY))


def test_explanations_come_in_the_order_asked_for_and_report_progress(
    sparse: Exported, data: EncodedDataset
) -> None:
    seen: list[tuple[int, int]] = []
    observed = _observed(sparse, sparse.path, data)
    explanations = explain(
        observed, data, [30, 2, 17], on_example=lambda done, total: seen.append((done, total))
    )
    assert [e.index for e in explanations] == [30, 2, 17]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_explaining_leaves_no_hook_behind(sparse: Exported, data: EncodedDataset) -> None:
    before = torch_rung(sparse.model, data).logits
    _explain(sparse, sparse.path, data)
    np.testing.assert_array_equal(torch_rung(sparse.model, data).logits, before)
    assert not any(module._forward_hooks for module in sparse.model.modules())


def test_an_optimized_rung_takes_over_what_is_known_and_leaves_the_rest_open() -> None:
    reference = rung([[1, 0], [1, 0], [1, 0]], name="pytorch")
    written = rung([[0, 1], [1, 0], [1, 0]])
    optimized = rung([[0, 1], [0, 1], [1, 0]], name="optimized")
    tie = Explanation(0, True, "A tie.")
    assert explain_unobserved(compare(reference, optimized), written, [tie]) == (
        tie,
        Explanation(1, None, "The codes inside optimized are not observable."),
    )


def test_a_change_that_the_written_rung_does_not_show_stays_open() -> None:
    reference, written = rung([[1, 0]], name="pytorch"), rung([[1, 0]])
    comparison = compare(reference, rung([[0, 1]], name="optimized"))
    (explanation,) = explain_unobserved(comparison, written, [Explanation(0, True, "A tie.")])
    assert explanation.explained is None
