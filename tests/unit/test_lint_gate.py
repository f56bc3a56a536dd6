"""Which GPU generations a graph is linted for before it is built, and what stops the build."""

from pathlib import Path
from types import ModuleType

import pytest

from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver
from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    HardwareCompatibility,
    Library,
    ShapeProfile,
)
from nxmi_export.errors import UsageError
from nxmi_export.workflow.lint_gate import (
    LintTargets,
    capability_of,
    lint_before_build,
    lint_targets,
)
from tests.passes.sample_graphs import model_of

TENSORRT = Library(ModuleType("tensorrt"), "tensorrt", "10.14.1")
RTX = Library(ModuleType("tensorrt_rtx"), "tensorrt_rtx", "1.7.1")
AMPERE_PLUS = EngineOptions(hardware_compatibility=HardwareCompatibility.AMPERE_PLUS)


def driver(*capabilities: str) -> NvidiaDriver:
    return NvidiaDriver("580", tuple(Gpu("a GPU", each, 1 << 30) for each in capabilities))


def test_every_generation_that_is_named_is_linted_for() -> None:
    options = EngineOptions(compute_capabilities=("SM120", "sm86", "sm86"))
    targets = lint_targets(RTX, options, driver("sm75"))
    assert targets == LintTargets(("sm120", "sm86"))
    assert targets.capabilities == (120, 86)


def test_rtx_builds_for_its_default_where_none_is_named() -> None:
    assert lint_targets(RTX, EngineOptions(), driver("sm75")) == LintTargets(("sm86",))


def test_every_gpu_that_may_build_is_linted_for() -> None:
    found = lint_targets(TENSORRT, EngineOptions(), driver("sm75", "sm89", "sm75"))
    assert found == LintTargets(("sm75", "sm89"))


def test_a_plan_for_ampere_and_later_is_linted_for_all_of_them() -> None:
    found = lint_targets(TENSORRT, AMPERE_PLUS, driver("sm89"))
    assert found == LintTargets(("sm89", "sm80", "sm86", "sm90", "sm100", "sm120"))


@pytest.mark.parametrize("known", [None, driver()], ids=["no driver", "no GPU"])
def test_a_generation_that_nobody_knows_is_assumed_and_says_so(known: NvidiaDriver | None) -> None:
    targets = lint_targets(TENSORRT, EngineOptions(), known)
    assert targets == LintTargets(("sm86",), "no driver names the GPU that it was built on")
    assert targets.as_json() == {
        "compute_capabilities": ["sm86"],
        "assumed": "no driver names the GPU that it was built on",
    }


@pytest.mark.parametrize("name", ["ampere", "sm", "sm8", "sm1200", "86"])
def test_what_is_no_generation_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        capability_of(name)
    assert str(caught.value) == (
        f"compute capability {name}: expected sm and two or three digits, found {name!r}; "
        "name a GPU generation such as sm86"
    )


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (
            "c, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(c, s, z)",
            "found integer-operator at node__0: the operator DynamicQuantizeLinear; export "
            "QuantizeLinear and DequantizeLinear around float operators (QDQ format)",
        ),
        (
            "c = QuantizeLinear(x, step, middle) y = DequantizeLinear(c, step, middle)",
            "found uint8-around-128 at node__0: uint8 codes with zero-point 128 for an activation; "
            "--fix stores the same codes as int8 around 0, or mend a copy with nxmi-export lint "
            "'my model.onnx' --fix -o FILE",
        ),
        (
            "c = QuantizeLinear(x, step, one) y = DequantizeLinear(c, step, one)",
            "found activation-zero-point at node__0: int8 codes with zero-point 1 for an "
            "activation; quantize activations symmetrically, or let --requantize widen the range "
            "(not exact), or mend a copy with nxmi-export lint 'my model.onnx' --fix --requantize "
            "-o FILE",
        ),
    ],
    ids=["no fix", "an exact fix", "a fix that rounds"],
)
def test_a_refusal_names_the_command_that_mends_it_if_one_does(step: str, sentence: str) -> None:
    model = model_of(f"""g (float[B,T] x) => (float[B,T] y)
    <float step = {{0.5}}, uint8 middle = {{128}}, int8 one = {{1}}> {{ {step} }}""")
    profiles = [ShapeProfile.default(position_limit=64)]
    with pytest.raises(UsageError) as caught:
        lint_before_build(model, Path("my model.onnx"), LintTargets(("sm86",)), profiles)
    assert str(caught.value) == (
        "my model.onnx: expected a graph that TensorRT's parser and builder take, " + sentence
    )
