"""Where onnxruntime's default kernels lose sums, and what its sessions are told then."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from nxmi_export.backends import onnxruntime_options, onnxruntime_saturation
from nxmi_export.backends.onnxruntime_options import (
    EXACT_PRODUCTS,
    FLOAT_PRODUCTS,
    needed_here,
    session_options,
)
from nxmi_export.backends.onnxruntime_saturation import (
    PRODUCT,
    keeps_sums,
    loses_sums,
    saturates_here,
)
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.errors import CapabilityMissing
from nxmi_export.processor import this_processor
from tests.backends.product_graphs import LARGEST, K, largest_integer_product, largest_product

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
BOTH = {**EXACT_PRODUCTS, **FLOAT_PRODUCTS}


def test_default_products_are_wrong_where_this_processor_saturates_and_nowhere_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed=False), path)
    feeds = {"input_ids": np.zeros((1, 3), np.int64)}
    with OnnxRuntimeRunner(path, optimize=True, threads=1, products="default") as runner:
        default = runner.run(feeds)["logits"]
    with OnnxRuntimeRunner(path, optimize=True, threads=1) as runner:
        exact = runner.run(feeds)["logits"]
    assert bool((default != exact).any()) == saturates_here()
    np.testing.assert_array_equal(exact, np.float32(LARGEST * LARGEST * K))


def test_the_file_that_is_run_holds_the_largest_codes() -> None:
    assert onnx.load(PRODUCT) == ir.to_proto(largest_integer_product())


def test_the_operator_of_integer_products_keeps_its_sums_where_it_is_told_to() -> None:
    assert keeps_sums(EXACT_PRODUCTS)
    assert not loses_sums(EXACT_PRODUCTS)


@pytest.mark.skipif(
    bool(VNNI & set(this_processor().int8_instructions)),
    reason="this processor adds in 32 bits whatever it is told",
)
def test_untold_it_loses_them_without_instructions_for_it() -> None:
    assert saturates_here()
    assert not keeps_sums({})


def test_a_release_without_the_operator_neither_keeps_nor_loses_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = onnx.load(PRODUCT)
    unknown.graph.node[0].op_type = "ProductOfTomorrow"
    monkeypatch.setattr(onnxruntime_saturation, "PRODUCT", tmp_path / "unknown.onnx")
    onnx.save(unknown, tmp_path / "unknown.onnx")
    monkeypatch.setattr(onnxruntime_saturation, "_known", {})
    assert (keeps_sums({}), loses_sums({})) == (False, False)
    assert onnxruntime_saturation._known == {}  # the next call asks again
    # What is not known to be exact by default is told to be.
    assert needed_here(BOTH) == BOTH


@pytest.fixture
def loses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which sessions of this processor lose sums: default ones, and those told not to."""

    def state(*, default: bool, told: bool = False) -> None:
        monkeypatch.setattr(onnxruntime_options, "saturates_here", lambda: default)
        monkeypatch.setattr(onnxruntime_options, "loses_sums", lambda entries: told)

    return state


@pytest.mark.parametrize(
    ("saturates", "expected"), [(True, BOTH), (False, dict(FLOAT_PRODUCTS))], ids=["yes", "no"]
)
def test_slower_kernels_are_taken_where_sums_would_be_lost_and_nowhere_else(
    saturates: bool, expected: Mapping[str, str], loses: Callable[..., None], tmp_path: Path
) -> None:
    loses(default=saturates)
    assert needed_here(BOTH) == expected
    options = session_options(onnxruntime, tmp_path, optimize=True, threads=1, entries=BOTH)
    for key, value in expected.items():
        assert options.get_session_config_entry(key) == value
    for key in BOTH.keys() - expected.keys():
        with pytest.raises(RuntimeError, match=key):
            options.get_session_config_entry(key)


def test_a_session_that_is_told_nothing_of_integers_is_told_no_more(
    loses: Callable[..., None],
) -> None:
    loses(default=True, told=True)
    assert needed_here(FLOAT_PRODUCTS) == FLOAT_PRODUCTS


def test_sums_that_are_lost_either_way_are_an_error(loses: Callable[..., None]) -> None:
    loses(default=True, told=True)
    with pytest.raises(CapabilityMissing) as caught:
        needed_here(EXACT_PRODUCTS)
    assert str(caught.value) == (
        "onnxruntime: expected exact sums of integer products on this processor, found others, "
        "with the options for them and without; use another release of onnxruntime"
    )
