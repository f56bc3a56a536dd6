"""The table of what placements cost, from made-up times."""

from typing import Any

from samples.placement_cost import _by_node, markdown


def _cell(operators: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        "model": "minilm",
        "threads": 1,
        "forms": {"linear": "products", "attention": "portable", "sparse": "portable"},
        "times": {
            "onnxruntime": {"8x128": {"linear": 0.1, "attention": 0.15, "sparse": 0.2}},
            "openvino": {"8x128": {"linear": 0.2, "attention": 0.1, "sparse": 0.1}},
        },
        "operators": operators,
    }


def test_ratios_are_to_linear_and_operators_that_take_no_time_are_left_out() -> None:
    operators = {
        "linear": {"MatMulIntegerToFloat": 0.08, "Attention": 0.02, "Shape": 0.00001},
        "attention": {"MatMulIntegerToFloat": 0.08, "Softmax": 0.02},
        "sparse": {"MatMulIntegerToFloat": 0.09, "NewOperator": 0.05},
    }
    text = markdown({"cells": [_cell(operators)]})
    onnxruntime = "| minilm | 1 | 8x128 | onnxruntime |"
    assert f"{onnxruntime} 100.0 ms (1.00x) | 150.0 ms (1.50x) | 200.0 ms (2.00x) |" in text
    openvino = "| minilm | 1 | 8x128 | openvino |"
    assert f"{openvino} 200.0 ms (1.00x) | 100.0 ms (0.50x) | 100.0 ms (0.50x) |" in text
    assert "| operator | linear (products) | attention (portable) | sparse (portable) | |" in text
    assert "| Attention | 20.0 | 0.0 | 0.0 | float attention as one operator" in text
    assert "| NewOperator | 0.0 | 0.0 | 50.0 |  |" in text
    assert "Shape" not in text


def test_every_node_keeps_its_own_times_and_loses_its_warm_up() -> None:
    events = [
        {
            "cat": "Node",
            "name": f"{node}_kernel_time",
            "dur": 1000 * (run + 1),
            "args": {"op_name": "MatMul"},
        }
        for run in range(5)
        for node in ("first", "second")
    ]
    events.append({"cat": "Session", "name": "model_run", "dur": 1, "args": {}})
    found = list(_by_node(events))
    assert [operator for operator, _ in found] == ["MatMul", "MatMul"]
    assert all(times == [0.004, 0.005] for _, times in found)
