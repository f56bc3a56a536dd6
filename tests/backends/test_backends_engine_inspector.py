"""The inspector's JSON, written by hand in its documented formats: no TensorRT 10 or 11 ran here.

To 10, `Bindings` are names and a tensor has one `Format/Datatype`; 11 describes `I/O Tensors` and
splits `Datatype` from `Format`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    Operand,
    ProductNodes,
    Verdict,
    int8_coverage,
    parse_layers,
    read_layer_info,
)
from nxmi_export.errors import UsageError

KERNEL = "sm80_xmma_sparse_gemm_i8i8_i8i32_f32_tn_n"
METADATA = "[ONNX Layer: a/MatMul]\x1e[ONNX Layer: a/Add]"
TENSORRT_10 = {
    "Layers": [
        {
            "Name": "a/MatMul_myl0_1",
            "LayerType": "gemm",
            "Inputs": [
                {
                    "Name": "x",
                    "Location": "Device",
                    "Dimensions": [-1, 64],
                    "Format/Datatype": "Row major Int8 format",
                },
                {
                    "Name": "w",
                    "Location": "Device",
                    "Dimensions": [64, 32],
                    "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format",
                },
            ],
            "Outputs": [{"Name": "y", "Dimensions": [-1, 32], "Format/Datatype": "Half"}],
            "TacticName": KERNEL,
            "StreamId": 0,
            "Metadata": METADATA,
        }
    ],
    "Bindings": ["x", "y"],
}
TENSORRT_11 = {
    "Layers": [
        {
            "Name": "a/MatMul_myl0_1",
            "LayerType": "gemm",
            "Inputs": [
                {
                    "Name": "x",
                    "Dimensions": [-1, 64],
                    "Datatype": "Int8",
                    "Format": "Row major linear format (kLINEAR)",
                }
            ],
            "Constants": [
                {"Name": "w", "Dimensions": [64, 32], "Datatype": "Int8", "Format": "Transposed"}
            ],
            "Outputs": [
                {"Name": "y", "Dimensions": [-1, 32], "Datatype": "Half", "Format": "Row major"}
            ],
            "TacticName": KERNEL,
            "StreamId": 0,
            "Metadata": METADATA,
        }
    ],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Int8"}],
}


def written(folder: Path, content: object) -> Path:
    path = folder / "layers_x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_layer_info(path)
    assert caught.value.expected == (
        "what trtexec --exportLayerInfo writes of an engine built in detail"
    )
    return caught.value.found


def test_layers_of_tensorrt_10_are_read(tmp_path: Path) -> None:
    [layer] = read_layer_info(written(tmp_path, TENSORRT_10))
    assert layer == EngineLayer(
        name="a/MatMul_myl0_1",
        type="gemm",
        inputs=(Operand("x", (-1, 64), "Int8"), Operand("w", (64, 32), "Int8")),
        constants=(),
        outputs=(Operand("y", (-1, 32), "Half"),),
        tactic=KERNEL,
        onnx_nodes=("a/MatMul", "a/Add"),
        line="layer 1 of layers_x.json",
    )
    assert layer.named_nodes == ("a/MatMul",)


def test_layers_of_tensorrt_11_are_read(tmp_path: Path) -> None:
    [layer] = read_layer_info(written(tmp_path, TENSORRT_11))
    assert layer.inputs == (Operand("x", (-1, 64), "Int8"),)
    assert layer.constants == (Operand("w", (64, 32), "Int8"),)
    assert layer.outputs == (Operand("y", (-1, 32), "Half"),)


def test_a_line_of_a_log_says_the_same(tmp_path: Path) -> None:
    [logged] = parse_layers(
        "[V] [TRT] Name: a/MatMul_myl0_1, LayerType: gemm, Inputs: [ "
        "{ Name: x, Dimensions: [-1,64], Format/Datatype: Int8 }, "
        "{ Name: w, Dimensions: [64,32], Format/Datatype: Int8 }], "
        "Outputs: [ { Name: y, Dimensions: [-1,32], Format/Datatype: Half }], "
        f"TacticName: {KERNEL}, StreamId: 0, Metadata: {METADATA}"
    )
    [inspected] = read_layer_info(written(tmp_path, TENSORRT_10))
    for name in ("name", "type", "inputs", "outputs", "tactic", "onnx_nodes"):
        assert getattr(logged, name) == getattr(inspected, name)


def test_a_data_type_that_dynamic_shapes_hide_proves_nothing(tmp_path: Path) -> None:
    content: dict[str, Any] = json.loads(json.dumps(TENSORRT_10))
    content["Layers"][0]["Inputs"][0]["Format/Datatype"] = "N/A due to dynamic shapes"
    content["Layers"][0]["TacticName"] = ""
    layers = read_layer_info(written(tmp_path, content))
    [found] = int8_coverage(
        layers, ProductNodes({"a/MatMul": "a"}), linears=["a"], attentions=[]
    ).linears
    # The weight alone is INT8, among the inputs as TensorRT 10 lists it.
    assert found.verdict is Verdict.UNPROVEN


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("no JSON", "something else"),
        ([], "something else"),
        ({"Bindings": []}, "something else"),
        ({"Layers": [], "Bindings": []}, "no layers"),
        ({"Layers": ["a + b"], "Bindings": []}, "the names of layers alone"),
        ({"Layers": [{"LayerType": "gemm"}]}, "a layer 1 without a name"),
        ({"Layers": [{"Name": "a", "Inputs": ["x"]}]}, "a layer 1 with tensors of another form"),
        (
            {"Layers": [{"Name": "a", "Inputs": [{"Name": "x", "Dimensions": [1]}]}]},
            "a layer 1 with tensors of another form",
        ),
    ],
)
def test_other_files_are_refused(content: object, found: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, content)) == found


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "layers_x.json") == "No such file or directory"
