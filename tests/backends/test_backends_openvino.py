import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_kernels import LinearKernels, products_told
from nxmi_export.backends.openvino_requests import Requests
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.errors import ArtefactError, CapabilityMissing, ShapeError, UsageError

AGAIN = "shorten the batch to position_limit in manifest.json, or encode it again"


@pytest.fixture(scope="module")
def runner(encoder_path: Path) -> OpenVinoRunner:
    return OpenVinoRunner(encoder_path, threads=1)


def test_inputs_and_logits_by_name(runner: OpenVinoRunner, batch: dict[str, np.ndarray]) -> None:
    assert runner.input_names == ("input_ids", "attention_mask")
    outputs = runner.run(batch)
    assert list(outputs) == ["logits"]
    assert outputs["logits"].shape == (2, 2)
    assert outputs["logits"].dtype == np.float32


def test_logits_are_onnxruntimes_but_for_rounding_ties(
    runner: OpenVinoRunner, encoder_path: Path, batch: dict[str, np.ndarray]
) -> None:
    with OnnxRuntimeRunner(encoder_path, optimize=False, threads=1) as reference:
        expected = reference.run(batch)["logits"]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(runner.run(batch)["logits"], expected, atol=0.05)


def test_padding_does_not_reach_the_logits(
    runner: OpenVinoRunner, batch: dict[str, np.ndarray]
) -> None:
    other = batch["input_ids"].copy()
    other[1, 4:] = 31
    first = runner.run(batch)["logits"]
    second = runner.run(batch | {"input_ids": other})["logits"]
    np.testing.assert_array_equal(first, second)


def test_a_result_outlives_the_next_run(
    runner: OpenVinoRunner, batch: dict[str, np.ndarray]
) -> None:
    first = runner.run(batch)["logits"]
    kept = first.copy()
    runner.run(batch | {"input_ids": batch["input_ids"][::-1].copy()})
    np.testing.assert_array_equal(first, kept)


def test_nothing_is_told_to_anybody(
    encoder_path: Path, batch: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library comes with a package of telemetry, which its converters start."""

    def begun(*arguments: object, **others: object) -> None:
        raise AssertionError("telemetry was started")

    import openvino_telemetry

    monkeypatch.setattr(openvino_telemetry.Telemetry, "__init__", begun)
    monkeypatch.setattr(openvino_telemetry.Telemetry, "init", begun)
    with OpenVinoRunner(encoder_path, threads=1) as runner:
        runner.run(batch)


def test_an_input_the_graph_does_not_have_is_refused(
    runner: OpenVinoRunner, batch: dict[str, np.ndarray]
) -> None:
    with pytest.raises(UsageError) as caught:
        runner.run(batch | {"token_type_ids": batch["input_ids"]})
    assert str(caught.value) == (
        "OpenVINO: the batch: expected the inputs input_ids, attention_mask, "
        "found input_ids, attention_mask, token_type_ids; "
        "feed exactly the names in `input_names`"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        OpenVinoRunner(tmp_path / "model.onnx")
    assert str(caught.value) == (
        f"{tmp_path / 'model.onnx'}: expected an ONNX model, found no file; "
        "export the model first or correct the path"
    )


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a protobuf at all" * 10)
    with pytest.raises(ArtefactError) as caught:
        OpenVinoRunner(path)
    assert str(caught.value) == (
        f"{path}: expected a model that OpenVINO can load, found FrontEnd API failed with "
        "GeneralFailure: Model can't be parsed; export it again, or update OpenVINO where it names "
        "an unknown operator"
    )


@pytest.mark.parametrize("left", [16, None], ids=["16 bytes", "no file"])
def test_a_file_of_weights_that_is_cut_or_gone_is_named(
    left: int | None, encoder_model: onnx.ModelProto, tmp_path: Path
) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    copy = onnx.ModelProto()
    copy.CopyFrom(encoder_model)
    onnx.save_model(copy, path, save_as_external_data=True, location=weights.name)
    content = weights.read_bytes()
    weights.unlink()
    if left is not None:
        weights.write_bytes(content[:left])
    with pytest.raises(ArtefactError) as caught:
        OpenVinoRunner(path)
    assert caught.value.subject == str(path)
    assert "externally stored data in file (model.onnx.data" in caught.value.found


def test_a_machine_without_openvino_is_told_how_to_get_it(
    encoder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CapabilityMissing) as caught:
        OpenVinoRunner(encoder_path)
    assert str(caught.value) == (
        "OpenVINO: expected an installation that loads, found import of openvino halted; "
        'None in sys.modules; run `pip install "nxmi-export[openvino]"`'
    )


def test_a_closed_runner_does_not_run(encoder_path: Path, batch: dict[str, np.ndarray]) -> None:
    with OpenVinoRunner(encoder_path, threads=1) as runner:
        pass
    with pytest.raises(ValueError, match=r"^OpenVINO: run\(\) after the runner was closed$"):
        runner.run(batch)


def test_a_batch_beyond_the_last_position_is_refused(runner: OpenVinoRunner) -> None:
    """OpenVINO would add 17 words and 16 positions, and give logits."""
    long = {name: np.ones((2, 17), np.int64) for name in ("input_ids", "attention_mask")}
    with pytest.raises(ShapeError) as caught:
        runner.run(long)
    runner.run({name: ids[:, :16] for name, ids in long.items()})
    assert str(caught.value) == (
        "OpenVINO: a batch of input_ids 2×17, attention_mask 2×17: expected at most 16 tokens, "
        f"found 17; {AGAIN}"
    )


@pytest.mark.parametrize("beyond", [32, -33])
def test_an_id_beyond_the_vocabulary_is_refused(
    beyond: int, runner: OpenVinoRunner, batch: dict[str, np.ndarray]
) -> None:
    """OpenVINO would look up a row that is not there, and give logits."""
    ids = batch["input_ids"].copy()
    ids[1, 2] = beyond
    with pytest.raises(ShapeError) as caught:
        runner.run(batch | {"input_ids": ids})
    assert str(caught.value) == (
        "OpenVINO: a batch of input_ids 2×7, attention_mask 2×7: expected rows of input_ids below "
        f"the 32 of the table, found {beyond}; {AGAIN}"
    )


@pytest.mark.parametrize(
    ("shapes", "found"),
    [(((2, 7), (2, 6)), "2×6, 2×7"), (((7,), (7,)), "7"), (((0, 7), (0, 7)), "0×7")],
    ids=["unequal", "without a batch", "empty"],
)
def test_inputs_of_other_shapes_are_refused(
    shapes: tuple[tuple[int, ...], ...], found: str, runner: OpenVinoRunner
) -> None:
    """OpenVINO would stretch one to the other, and give logits."""
    feeds = {
        name: np.ones(shape, np.int64)
        for name, shape in zip(runner.input_names, shapes, strict=True)
    }
    given = ", ".join(f"{name} {'×'.join(map(str, each.shape))}" for name, each in feeds.items())
    with pytest.raises(ShapeError) as caught:
        runner.run(feeds)
    assert str(caught.value) == (
        f"OpenVINO: a batch of {given}: expected one shape (batch, sequence) of all inputs, "
        f"neither of them 0, found {found}; {AGAIN}"
    )


def _graph(body: str, tmp_path: Path) -> Path:
    """Four tokens' rows of a table, by what `body` makes of the ids."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 20]>
        lookup (int64[batch, sequence] input_ids) => (float[a, b, c] logits)
        <int64 two = {{2}}, int64[1] zero = {{0}}, int64[1] three = {{3}}> {{ {body} }}""")
    table = np.arange(32, dtype=np.float32).reshape(4, 8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_row_beyond_a_table_that_the_graph_computes_is_refused(tmp_path: Path) -> None:
    """As the positions of a RoBERTa are."""
    path = _graph("row = Add (input_ids, two) logits = Gather (table, row)", tmp_path)
    with OpenVinoRunner(path, threads=1) as runner:
        outputs = runner.run({"input_ids": np.array([[0, 1]])})
        with pytest.raises(ShapeError) as caught:
            runner.run({"input_ids": np.array([[0, 2]])})
    assert list(outputs) == ["logits"]
    np.testing.assert_array_equal(outputs["logits"][0, :, 0], [16, 24])
    assert str(caught.value) == (
        "OpenVINO: a batch of input_ids 1×2: expected rows, as positions are counted, below the 4 "
        f"of the table, found 4; {AGAIN}"
    )


def test_one_index_of_two_tables_is_held_to_the_smaller(tmp_path: Path) -> None:
    body = """row = Add (input_ids, two) x = Gather (table, row)
        first = Slice (table, zero, three, zero) y = Gather (first, row) logits = Add (x, y)"""
    with OpenVinoRunner(_graph(body, tmp_path), threads=1) as runner:
        runner.run({"input_ids": np.array([[0, -1]])})
        with pytest.raises(ShapeError, match="below the 3 of the table, found 3;"):
            runner.run({"input_ids": np.array([[0, 1]])})


class _Request:
    """What OpenVINO answers, in place of it."""

    def __init__(self, answer: np.ndarray | Exception) -> None:
        self._answer = answer

    def infer(self, feeds: object) -> "_Request":
        if isinstance(self._answer, Exception):
            raise self._answer
        return self

    def to_tuple(self) -> tuple[object, ...]:
        return (self._answer,)


class _Compiled:
    """A compiled model that hands out these requests, one after the other."""

    def __init__(self, *requests: object) -> None:
        self._requests = list(requests)

    def create_infer_request(self) -> object:
        return self._requests.pop(0)


def test_a_batch_on_which_openvino_fails_is_refused(
    encoder_path: Path, batch: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = RuntimeError("Exception from src/core.cpp:1:\nCheck 'a == b' failed at x\nNo room.\n")
    with OpenVinoRunner(encoder_path, threads=1) as runner:
        monkeypatch.setattr(runner, "_requests", Requests(_Compiled(_Request(refusal)), 1))
        with pytest.raises(ShapeError) as caught:
            runner.run(batch)
    assert str(caught.value) == (
        "OpenVINO: a batch of input_ids 2×7, attention_mask 2×7: expected a batch that every "
        f"operator of the graph takes, found No room.; {AGAIN}"
    )


def test_logits_of_more_or_fewer_examples_than_were_asked_are_refused(
    encoder_path: Path, batch: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenVinoRunner(encoder_path, threads=1) as runner:
        one = _Request(np.zeros((1, 2), np.float32))
        monkeypatch.setattr(runner, "_requests", Requests(_Compiled(one), 1))
        with pytest.raises(ShapeError) as caught:
            runner.run(batch)
    assert str(caught.value) == (
        "OpenVINO: a batch of input_ids 2×7, attention_mask 2×7: expected 2 rows of each output, "
        f"found 1×2; {AGAIN}"
    )


@pytest.mark.parametrize(
    ("kernels", "integer"),
    [
        (("jit_gemm_i8",), True),
        (("jit_gemm_I8",), True),
        (("brgemm_avx512_u8",), True),
        (("brgemm_avx2_f32",), False),
        (("undef_i8",), False),
        (("unknown_i8",), False),
        ((), False),
        (("jit_gemm_i8", "jit_gemm_i8"), False),
    ],
)
def test_only_a_kernel_that_was_found_and_chosen_counts(
    kernels: tuple[str, ...], integer: bool
) -> None:
    assert LinearKernels("query", True, 1, kernels).integer is integer


def test_some_linears_in_float_are_counted() -> None:
    linears = tuple(
        LinearKernels(module, quantized, 1, (kernel,))
        for module, quantized, kernel in (
            ("query", True, "jit_gemm_i8"),
            ("key", True, "brgemm_avx2_f32"),
            ("classifier", False, "brgemm_avx2_f32"),
        )
    )
    assert products_told(linears) == "1 of 2 int8"
