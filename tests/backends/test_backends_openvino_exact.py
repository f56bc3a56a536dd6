"""Products that OpenVINO computes otherwise than the graph says, unless it is told not to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from nxmi_export.backends import openvino_library as library
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.errors import CapabilityMissing
from tests.backends.product_graphs import LARGEST, K, floats_by_integers, largest_product

SUM = LARGEST * LARGEST * K


@pytest.fixture
def probed_again() -> Iterator[None]:
    """What was found of this processor is forgotten before and after."""
    library._exact_products.cache_clear()
    yield
    library._exact_products.cache_clear()


@pytest.mark.parametrize("signed", [False, True])
def test_sums_of_codes_are_exact(tmp_path: Path, signed: bool) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed), path)
    with OpenVinoRunner(path, threads=1) as runner:
        logits = runner.run({"input_ids": np.zeros((1, 3), np.int64)})["logits"]
    np.testing.assert_array_equal(logits, np.float32(SUM))


def test_integer_kernels_are_taken_where_they_do_not_saturate_and_nowhere_else(
    tmp_path: Path,
) -> None:
    """Otherwise the test above would say nothing of a processor without VNNI."""
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed=True), path)
    model = library.core().read_model(str(path))
    integers = library.core().compile_model(model, "CPU", library.properties_of("int8", 1))
    (logits,) = integers([np.zeros((1, 3), np.int64)]).values()
    kernels = {
        node.get_rt_info()["primitiveType"].astype(str).lower()[-2:]
        for node in integers.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"
    }
    assert kernels <= {"i8", "u8"}
    assert library.products() == ("int8" if (logits == SUM).all() else "float32")


def test_floats_keep_their_bits_where_they_meet_stored_integers(tmp_path: Path) -> None:
    path = tmp_path / "product.onnx"
    model = floats_by_integers()
    onnx.save(model, path)
    table, codes, scale, _ = map(onnx.numpy_helper.to_array, model.graph.initializer)
    with OpenVinoRunner(path, threads=1) as runner:
        logits = runner.run({"input_ids": np.arange(4)[np.newaxis]})["logits"]
    np.testing.assert_allclose(logits[0], table @ (codes * scale), rtol=1e-5, atol=1e-4)


def test_a_graph_is_compiled_for_float32_and_without_quantization_of_its_own(
    encoder_path: Path,
) -> None:
    """What a processor with bfloat16 or VNNI would do by default cannot be seen on others."""
    with OpenVinoRunner(encoder_path, threads=1) as runner:
        told = {
            name: runner.compiled.get_property(name)
            for name in (*library.PROPERTIES, "INFERENCE_NUM_THREADS")
        }
    assert told.pop("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert told == {
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": 1,
    }


def test_the_defaults_of_openvino_are_others() -> None:
    """Otherwise the properties would say nothing, and the test above would not either."""
    assert library.core().get_property("CPU", "DYNAMIC_QUANTIZATION_GROUP_SIZE") == 32


def _saturating(*kinds: library.Products) -> Any:
    real = library.properties_of

    def is_exact(model: Any, inputs: Any, properties: Any) -> bool:
        return properties not in [real(kind) for kind in kinds]

    return is_exact


@pytest.mark.usefixtures("probed_again")
@pytest.mark.parametrize(("saturating", "taken"), [((), "int8"), (("int8",), "float32")])
def test_the_first_exact_kernels_are_taken(
    saturating: tuple[library.Products, ...], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_is_exact", _saturating(*saturating))
    assert library.products() == taken


@pytest.mark.usefixtures("probed_again")
def test_a_processor_without_exact_kernels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed=True), path)
    monkeypatch.setattr(library, "_is_exact", _saturating("int8", "float32"))
    with pytest.raises(CapabilityMissing) as caught:
        OpenVinoRunner(path, threads=1)
    assert str(caught.value) == (
        "OpenVINO: expected a sum of 64 products of 127 and 127 to be exact, found another number, "
        "from integer kernels and without them; run the artefact with onnxruntime on this machine"
    )


@pytest.mark.usefixtures("probed_again")
def test_a_release_without_a_property_counts_as_inexact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "PROPERTIES", {"NO_SUCH_PROPERTY": 1})
    with pytest.raises(CapabilityMissing, match="to be exact, found another number"):
        library.products()
