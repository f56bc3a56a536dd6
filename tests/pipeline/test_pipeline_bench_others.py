"""Files of other tools whose sums are too large for 16 bits, timed as they are and exactly."""

from pathlib import Path

import onnx
import openvino
import pytest

from nxmi_export.backends.onnxruntime_saturation import saturates_here
from nxmi_export.backends.openvino_library import products
from nxmi_export.bench import BenchSettings, Measured, WorkloadResult, measure
from nxmi_export.latency import Workload
from nxmi_export.workflow.bench.other_files import EXACT, other_contenders
from tests.backends.product_graphs import LARGEST, K, largest_product

SUM = LARGEST * LARGEST * K


@pytest.fixture
def product(tmp_path: Path) -> Path:
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed=False), path)
    return path


def measured(path: Path) -> WorkloadResult:
    settings = BenchSettings(path.name, vocabulary=1, rounds=3, seconds=0)
    (found,) = measure(tuple(other_contenders(path, 1)), [Workload(1, 3)], settings)
    return found


def test_onnxruntime_is_told_off_where_it_saturates_and_runs_once_elsewhere(product: Path) -> None:
    found = measured(product).results
    default = found[product.name]
    assert isinstance(default, Measured)
    if saturates_here():
        assert default.from_exact is not None
        assert default.from_exact > SUM / 4
        assert isinstance(found[product.name + EXACT], Measured)
    else:
        assert (list(found), default.from_exact) == ([product.name], None)


def test_openvino_is_told_off_where_it_saturates(product: Path) -> None:
    path = product.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(product), path)
    found = measured(path).results
    default = found[path.name]
    assert isinstance(default, Measured)
    assert isinstance(found[path.name + EXACT], Measured)
    assert default.from_exact is not None
    assert (default.from_exact > SUM / 4) == (products() == "float32")
