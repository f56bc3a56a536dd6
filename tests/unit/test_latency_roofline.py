import pytest

from nxmi_export.errors import UsageError
from nxmi_export.latency import DEVICES, KINDS, LinearShape, check_device, roofline, table_for
from nxmi_export.latency.gpus import GPUS
from nxmi_export.latency.roofline import LAUNCH

LARGE = LinearShape(4096, 4096)
ROWS = 1 << 16  # enough that every GPU is bound by its arithmetic


@pytest.mark.parametrize("gpu", GPUS)
def test_a_large_linear_takes_its_operations_at_the_peak(gpu: str) -> None:
    table, peaks = roofline(gpu, [LARGE], ROWS), GPUS[gpu]
    operations = 2 * ROWS * LARGE.inputs * LARGE.outputs
    rates = [operations / (table.seconds(ROWS, *LARGE, kind) - LAUNCH) for kind in KINDS]
    assert rates == pytest.approx(
        [peaks.fp16, peaks.int8, peaks.int8, peaks.int8_sparse or peaks.int8]
    )


def test_one_row_takes_its_bytes_at_the_bandwidth() -> None:
    table, shape = roofline("a100", [LARGE], 1), LARGE
    weights = shape.inputs * shape.outputs
    read = [(table.seconds(1, *shape, kind) - LAUNCH) * 2039e9 for kind in KINDS]
    assert read == pytest.approx(
        [
            2 * weights + 2 * 4096 + 2 * 4096,
            weights + 4096 + 2 * 4096,
            weights + 4096 + 4096,
            # half the codes, and two bits for each kept one
            0.5 * weights + 0.125 * weights + 4096 + 4096,
        ]
    )


@pytest.mark.parametrize("rows", [1, 1024])
def test_a_gpu_without_sparsity_runs_2_4_as_dense_weights(rows: int) -> None:
    table = roofline("t4", [LARGE], rows)
    assert table.seconds(rows, *LARGE, "int8 2:4") == table.seconds(rows, *LARGE, "int8 out")


@pytest.mark.parametrize("gpu", sorted(GPUS.keys() - {"t4"}))
def test_every_later_gpu_doubles_its_rate_under_2_4(gpu: str) -> None:
    peaks = GPUS[gpu]
    assert peaks.int8_sparse == pytest.approx(2 * peaks.int8, rel=0.01)
    assert peaks.int8 >= 1.99 * peaks.fp16


def test_a_roofline_says_that_nothing_was_run() -> None:
    table = roofline("L4", [LARGE], 64)
    assert (table.source, table.device, table.rest) == ("analytical", "L4", {})
    assert table.conditions["method"] == ("roofline of peak rates and bandwidth; nothing was run")
    assert table.conditions["peaks"] == "L4 datasheet (485 INT8 and 242 FP16 with sparsity)"


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        roofline("v100", [LARGE], 64)
    assert str(caught.value) == (
        f"GPU 'v100': expected one of {', '.join(GPUS)}, found a name whose datasheet is not "
        "known here; name one of these, or measure on the GPU itself with --device tensorrt"
    )


def test_a_device_is_found_in_any_case() -> None:
    assert check_device("OnnxRuntime") == "onnxruntime"
    assert table_for("H100", [LARGE], 64) == roofline("h100", [LARGE], 64)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("onnxrt", "did you mean onnxruntime?"), ("abacus", "name one of these")],
)
def test_an_unknown_device_is_refused(name: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        table_for(name, [LARGE], 64)
    assert str(caught.value) == (
        f"device {name!r}: expected one of {', '.join(DEVICES)}, found an unknown one; {remedy}"
    )


@pytest.mark.parametrize("name", ["tensorrt", "l4"])
def test_threads_of_a_gpu_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        table_for(name, [LARGE], 64, threads=2)
    assert str(caught.value) == (
        f"device {name}: expected no number of threads, found 2; "
        "leave --threads out; it is onnxruntime's"
    )
