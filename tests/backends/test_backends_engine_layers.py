"""`layers_*.json`: the layers of the build log, and the inspector's words where a GPU is."""

import json
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver
from nxmi_export.backends.tensorrt_engine import EngineLayer, Library, Operand, read_layer_info
from nxmi_export.backends.tensorrt_engine.layer_info import Inspection, inspect_plan, layer_info

DRIVER = NvidiaDriver("580.65.06", (Gpu("NVIDIA A10", "sm86", 24 << 30),))
ACCOUNT = '{"Layers": ["one"]}'


def test_a_layer_keeps_everything_and_gets_its_modules() -> None:
    layer = EngineLayer(
        name="a/MatMul_myl0_1",
        type="gemm",
        inputs=(Operand("x", (-1, 64), "Int8"),),
        constants=(Operand("w", (64, 32), "Int8"),),
        outputs=(Operand("y", (-1, 32), "Float"),),
        tactic="sm80_xmma",
        onnx_nodes=("a/MatMul", "a/Add", "unknown"),
        line="the line",
    )
    modules = {"a/MatMul": "a", "a/Add": "a", "b/MatMul": "b"}
    facts = layer_info([layer], modules, Inspection(reason="no GPU"))
    assert facts == {
        "schema": "nxmi-export/layers/1",
        "source": "the build log",
        "layers": [
            {
                "name": "a/MatMul_myl0_1",
                "type": "gemm",
                "inputs": [{"name": "x", "dimensions": [-1, 64], "datatype": "Int8"}],
                "constants": [{"name": "w", "dimensions": [64, 32], "datatype": "Int8"}],
                "outputs": [{"name": "y", "dimensions": [-1, 32], "datatype": "Float"}],
                "tactic": "sm80_xmma",
                "onnx_nodes": ["a/MatMul", "a/Add", "unknown"],
                "modules": ["a"],
            }
        ],
        "inspector": {"engine": None, "unavailable": "no GPU"},
    }
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize("driver", [None, NvidiaDriver("580.65.06", ())])
def test_without_a_gpu_the_plan_is_not_even_read(
    driver: NvidiaDriver | None, rtx: Library, tmp_path: Path
) -> None:
    found = inspect_plan(tmp_path / "absent.plan", rtx, driver)
    assert found == Inspection(reason="no NVIDIA driver, without which no plan is loaded")


class CtrlC:
    """In the place of a severity."""

    @property
    def name(self) -> str:
        raise KeyboardInterrupt


def _library(
    *, loads: bool, starts: bool = True, account: str = ACCOUNT, interrupted: bool = False
) -> Library:
    module = ModuleType("tensorrt")
    module.LayerInformationFormat = Enum("Format", ["ONELINE", "JSON"])

    class ILogger:
        Severity = Enum("Severity", ["ERROR"])

    class Inspector:
        def get_engine_information(self, form: Enum) -> str:
            assert form.name == "JSON"
            return account

    class Engine:
        def create_engine_inspector(self) -> Inspector:
            return Inspector()

    class Runtime:
        def __init__(self, logger: object) -> None:
            if not starts:  # as pybind11 reports a factory that returned null
                raise TypeError("factory function returned nullptr")
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            assert (plan, self.engine_host_code_allowed) == (b"a plan", True)
            if interrupted:
                self.logger.log(CtrlC(), "loading")
            if not loads:
                self.logger.log(ILogger.Severity.ERROR, "built for\nanother GPU")
                return None
            return Engine()

    module.ILogger, module.Runtime = ILogger, Runtime
    return Library(module, "tensorrt", "10.14.1")


def test_where_a_gpu_is_the_inspector_speaks(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    found = inspect_plan(plan, _library(loads=True), DRIVER)
    assert found == Inspection(engine={"Layers": ["one"]})


def test_an_account_with_a_raw_control_character_is_read(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    account = '{"Layers": [{"Name": "a", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]"}]}'
    found = inspect_plan(plan, _library(loads=True, account=account), DRIVER)
    assert found.reason is None
    layers = tmp_path / "layers_x.json"
    for text in (json.dumps(layer_info([], {}, found)), account):  # a build's file, and trtexec's
        layers.write_text(text)
        [layer] = read_layer_info(layers)
        assert layer.onnx_nodes == ("a", "b")


@pytest.mark.parametrize(
    ("account", "why"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"Layers": [', "Expecting value: line 1 column 13 (char 12)"),
        ('{"Layers": [NaN]}', "the constant NaN"),  # which no file of a build may hold
    ],
)
def test_an_account_that_is_no_json_leaves_the_finished_plan(
    account: str, why: str, tmp_path: Path
) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    found = inspect_plan(plan, _library(loads=True, account=account), DRIVER)
    assert found == Inspection(reason=f"the inspector's account is no JSON: {why}")
    assert plan.read_bytes() == b"a plan"


@pytest.mark.parametrize("loads", [True, False])
def test_an_interruption_while_the_plan_is_inspected_reaches_the_caller(
    loads: bool, tmp_path: Path
) -> None:
    """It comes within the logger, out of which the bindings let nothing."""
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    with pytest.raises(KeyboardInterrupt):
        inspect_plan(plan, _library(loads=loads, interrupted=True), DRIVER)


def test_a_plan_for_another_gpu_is_said_to_be_one(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    found = inspect_plan(plan, _library(loads=False), DRIVER)
    assert found == Inspection(reason="built for another GPU")


def test_a_runtime_that_does_not_start_leaves_the_finished_plan(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    found = inspect_plan(plan, _library(loads=True, starts=False), DRIVER)
    assert found == Inspection(
        reason="tensorrt 10.14.1: expected an NVIDIA GPU with a driver that is new enough for it, "
        "found a runtime that does not start; update the driver, or run on a machine with one"
    )
