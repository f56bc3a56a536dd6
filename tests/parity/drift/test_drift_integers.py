"""Integer parity by module name: stored numbers, and the codes of real tokens."""

import math
from pathlib import Path

import numpy as np
import pytest
from deployment_faults import change_weight, drop_quantizer, flip_code
from parity_models import BATCH, DOWN, EMBEDDINGS, LAYER, QUERY, Exported, edited, rescale

from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import ArtefactError
from nxmi_export.parity.drift import (
    Kind,
    Point,
    QuantizerCodes,
    activation_codes,
    stored_integers,
)

CONTEXT = LAYER.format(0) + ".attention.output.dense.input_quantizer"


def test_every_layer_of_an_export_is_counted_and_equal(sparse: Exported) -> None:
    found = {each.module: each for each in stored_integers(sparse.model, sparse.path)}
    assert all(each.equal for each in found.values())
    assert (found[QUERY].codes, found[QUERY].scales) == (32 * 32, 32)
    assert (found[EMBEDDINGS].codes, found[EMBEDDINGS].scales) == (0, 1)
    assert (found["classifier"].codes, found["classifier"].scales) == (0, 0)
    assert len(found) == 12 + 2 + 20  # encoder linears, pooler and classifier, quantizers


def test_the_first_index_of_a_flipped_code_is_given(sparse: Exported, tmp_path: Path) -> None:
    path = edited(sparse.path, tmp_path, change_weight(QUERY, flip_code))
    differing = [each for each in stored_integers(sparse.model, path) if not each.equal]
    (layer,) = differing
    (mismatch,) = layer.mismatches
    codes = sparse.model.get_submodule(QUERY).codes().numpy()
    assert (layer.module, mismatch.what, mismatch.count) == (QUERY, "code", 1)
    assert abs(codes[mismatch.position]) == 127
    assert mismatch.expected == str(codes[mismatch.position])
    assert mismatch.found == str(-codes[mismatch.position])


def test_what_the_file_alone_lacks_is_listed(sparse: Exported, tmp_path: Path) -> None:
    path = edited(sparse.path, tmp_path, drop_quantizer(CONTEXT))
    (layer,) = (each for each in stored_integers(sparse.model, path) if not each.equal)
    assert (layer.module, layer.mismatches[0].what) == (CONTEXT, "quantizer")


@pytest.mark.parametrize("name", ["path", "cpu_path"])
def test_codes_of_an_export_are_equal(name: str, sparse: Exported, data: EncodedDataset) -> None:
    path = getattr(sparse, name)
    found = activation_codes(sparse.model, path, data, batch_size=BATCH, threads=1)
    assert len(found) == 20
    assert found[0].point == Point(EMBEDDINGS, Kind.QUANTIZER)
    assert all(each.rates[0] > 0.99 for each in found)


def test_padding_is_not_counted(sparse: Exported, data: EncodedDataset) -> None:
    first, *_ = activation_codes(sparse.model, sparse.path, data, batch_size=BATCH, threads=1)
    assert first.total == data.lengths.sum() * 32
    heads = [
        each
        for each in activation_codes(sparse.model, sparse.path, data, batch_size=40, threads=1)
        if each.point.module.endswith("softmax_quantizer")
    ]
    assert heads[0].total == 4 * np.square(data.lengths).sum()


def test_codes_off_by_one_are_told_from_worse_ones(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    slightly = edited(sparse.path, tmp_path, rescale(EMBEDDINGS, 1.005))
    first, *_ = activation_codes(sparse.model, slightly, data, batch_size=BATCH, threads=1)
    assert first.off_by_one > 0
    assert first.worse == 0  # half a percent of 127 is less than one code
    grossly = edited(sparse.path, tmp_path, rescale(EMBEDDINGS, 2.0))
    first, *_ = activation_codes(sparse.model, grossly, data, batch_size=BATCH, threads=1)
    assert first.worse > first.off_by_one
    assert sum(first.rates) == pytest.approx(1)


def test_the_first_code_that_differs_does_not_depend_on_batches(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    path = edited(sparse.path, tmp_path, rescale(EMBEDDINGS, 1.01))
    one, other = (
        activation_codes(sparse.model, path, data, batch_size=size, threads=1)[0].first
        for size in (3, 40)
    )
    assert one == other
    assert one is not None
    assert one.example == 0
    assert abs(one.reference - one.candidate) == 1


def test_a_shared_quantizer_is_counted_once(mixed: Exported, data: EncodedDataset) -> None:
    found = activation_codes(mixed.model, mixed.path, data, batch_size=BATCH, threads=1)
    modules = [each.point.module for each in found]
    assert len(modules) == len(set(modules))
    assert f"{QUERY}.input_quantizer" in modules
    assert not any(module.startswith(DOWN) for module in modules)


def test_the_file_of_another_model_is_refused(
    sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    with pytest.raises(ArtefactError) as error:
        activation_codes(sparse.model, mixed.path, data, batch_size=BATCH)
    assert str(error.value) == (
        f"{mixed.path}: expected the quantizers of the PyTorch model, found a difference: "
        f"the graph has no quantizer for {EMBEDDINGS}; export the model again from this checkpoint"
    )


def test_rates_of_nothing_are_no_numbers() -> None:
    nothing = QuantizerCodes(Point("norm", Kind.QUANTIZER), 0, 0, 0, None)
    assert all(math.isnan(rate) for rate in nothing.rates)
