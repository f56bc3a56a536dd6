"""The TensorRT runner against stand-ins for TensorRT and CUDA, and on a GPU where there is one."""

import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import onnxruntime as ort
import pytest

from nxmi_export.backends import Feeds, Runner
from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver, find_driver
from nxmi_export.backends.tensorrt_engine import (
    Device,
    EngineOptions,
    ShapeProfile,
    TensorRtRunner,
    build_engine,
    find_library,
    open_device,
)
from nxmi_export.backends.tensorrt_engine.cuda_python_device import CudaPythonDevice
from nxmi_export.backends.tensorrt_engine.layer_profile import profile_document
from nxmi_export.backends.tensorrt_engine.torch_device import TorchDevice
from nxmi_export.errors import ArtefactError, CapabilityMissing, EngineRunFailed, ShapeError
from tests.backends.fake_cuda import FakeCudart, Machine, fake_torch
from tests.backends.fake_tensorrt import LARGE, SMALL, fake_library, write_plan

GPU = NvidiaDriver("580.1", (Gpu("A GPU", "sm86", 1 << 34),))


@pytest.fixture(params=["PyTorch", "cuda-python"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(way: str) -> Machine:
    return Machine(lazy=way == "cuda-python")


@pytest.fixture
def cudart(machine: Machine) -> FakeCudart:
    return FakeCudart(machine)


@pytest.fixture
def device(way: str, machine: Machine, cudart: FakeCudart) -> Device:
    return TorchDevice(fake_torch(machine)) if way == "PyTorch" else CudaPythonDevice(cudart)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_plan(tmp_path / "model.plan")


def feeds(batch: int, sequence: int, first: int = 1) -> Feeds:
    ids = np.arange(first, first + batch * sequence).reshape(batch, sequence)
    mask = np.ones_like(ids)
    mask[:, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}


def expected(batch: Feeds) -> np.ndarray:
    kept = batch["input_ids"] * batch["attention_mask"]
    return np.stack([kept.sum(axis=1), batch["attention_mask"].sum(axis=1)], axis=1)


def test_logits_are_what_the_engine_computes_from_the_batch(
    plan: Path, machine: Machine, device: Device
) -> None:
    runner: Runner
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        assert (runner.name, runner.input_names) == ("tensorrt", ("input_ids", "attention_mask"))
        for batch in (feeds(2, 7), feeds(2, 7, 50), feeds(2, 7, 90), feeds(3, 5), feeds(2, 7, 4)):
            outputs = runner.run(batch)
            assert list(outputs) == ["logits"]
            assert outputs["logits"].dtype == np.float32
            np.testing.assert_array_equal(outputs["logits"], expected(batch))


@pytest.mark.parametrize("rtx", [False, True], ids=["TensorRT", "RTX"])
def test_shapes_come_before_addresses_and_both_before_a_run(
    plan: Path, machine: Machine, device: Device, rtx: bool
) -> None:
    with TensorRtRunner(plan, library=fake_library(machine, rtx=rtx), device=device) as runner:
        runner.run(feeds(2, 7))
    assert machine.calls == [
        "profile 0",
        "shape input_ids 2x7",
        "shape attention_mask 2x7",
        "address input_ids",
        "address attention_mask",
        "address logits",
        "execute",
    ]


def test_a_release_without_runtime_configurations_is_given_the_strategy_itself(
    plan: Path, machine: Machine, device: Device
) -> None:
    library = fake_library(machine, release="10.12.0")
    with TensorRtRunner(plan, library=library, device=device) as runner:
        for batch in (feeds(2, 7), feeds(2, 7, 50)):
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))


def test_a_release_that_does_not_tell_all_its_memory_is_refused(
    plan: Path, machine: Machine, device: Device, cudart: FakeCudart
) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        TensorRtRunner(plan, library=fake_library(machine, release="10.0.1"), device=device)
    assert str(caught.value) == (
        "tensorrt 10.0.1: expected an engine that tells all the memory it works in, as from 10.1 "
        "on, found one without device_memory_size_v2; install a later release and build the "
        "engine again with it"
    )
    assert cudart.live == []


def test_the_second_run_of_a_shape_is_recorded_and_later_ones_replay_it(
    plan: Path, machine: Machine, device: Device
) -> None:
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        runner.run(feeds(2, 7))
        machine.calls.clear()
        runner.run(feeds(2, 7))
        assert machine.calls == ["record", "execute", "launch"]
        machine.calls.clear()
        runner.run(feeds(2, 7))
        assert machine.calls == ["launch"]
        machine.calls.clear()
        runner.run(feeds(2, 8))
        assert machine.calls[-1] == "execute"


def test_without_cuda_graphs_every_run_goes_through_tensorrt(
    plan: Path, machine: Machine, device: Device
) -> None:
    library = fake_library(machine)
    with TensorRtRunner(plan, library=library, device=device, cuda_graph=False) as runner:
        for _ in range(3):
            runner.run(feeds(2, 7))
    assert machine.calls.count("execute") == 3
    assert "record" not in machine.calls


def test_only_the_shapes_used_last_are_kept(plan: Path, machine: Machine, device: Device) -> None:
    library = fake_library(machine)
    with TensorRtRunner(plan, library=library, device=device, kept_shapes=2) as runner:
        for sequence in (3, 4, 3, 5):  # 4 is the oldest when 5 comes
            runner.run(feeds(1, sequence))
        machine.calls.clear()
        runner.run(feeds(1, 3))
        assert machine.calls == ["launch"]
        runner.run(feeds(1, 4))
        assert "shape input_ids 1x4" in machine.calls
        assert len(machine.allocations) == 2 * 3 + 1  # two inputs and logits each, scratch once


def test_the_tightest_profile_that_fits_is_chosen(
    tmp_path: Path, machine: Machine, device: Device
) -> None:
    plan = write_plan(tmp_path / "model.plan", LARGE, SMALL)
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        for batch in (feeds(4, 8), feeds(5, 8), feeds(1, 9)):
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
    profiles = [call for call in machine.calls if call.startswith("profile")]
    assert profiles == ["profile 1", "profile 0", "profile 0"]


@pytest.mark.parametrize(
    ("profiles", "texts"),
    [((LARGE,), "1×1…16×16"), ((SMALL, LARGE), "1×1…4×8 or 1×1…16×16")],
    ids=["one profile", "two profiles"],
)
def test_a_batch_beyond_every_profile_is_refused(
    profiles: tuple[object, ...], texts: str, tmp_path: Path, machine: Machine, device: Device
) -> None:
    plan = write_plan(tmp_path / "model.plan", *profiles)
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        with pytest.raises(ShapeError) as caught:
            runner.run(feeds(17, 4))
        assert str(caught.value) == (
            "model.plan: a batch of input_ids 17×4, attention_mask 17×4: expected the shapes of a "
            f"profile: {texts}, found one outside; "
            "run a batch within them, or build the engine with other --shapes"
        )
        assert machine.calls == []
        batch = feeds(16, 4)
        np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))


def test_half_precision_logits_come_back_as_float32(
    tmp_path: Path, machine: Machine, device: Device
) -> None:
    plan = write_plan(tmp_path / "model.plan", output="HALF")
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        logits = runner.run(feeds(2, 7))["logits"]
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, expected(feeds(2, 7)))


def test_everything_is_given_back_at_the_end(
    plan: Path, way: str, machine: Machine, cudart: FakeCudart, device: Device
) -> None:
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        for _ in range(2):
            runner.run(feeds(2, 7))
        if way == "cuda-python":
            assert cudart.live == ["stream", "event", "event", "ready graph"]
    assert machine.allocations == {}
    assert cudart.live == []


def test_a_closed_runner_does_not_run(plan: Path, machine: Machine, device: Device) -> None:
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        runner.run(feeds(2, 7))
    with pytest.raises(ValueError, match=r"^tensorrt: run\(\) after the runner was closed$"):
        runner.run(feeds(2, 7))


def test_the_gpu_alone_is_timed_by_a_recording(
    plan: Path, machine: Machine, device: Device
) -> None:
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        batch = feeds(2, 7)
        timer = runner.gpu_timer(batch)
        machine.calls.clear()
        assert timer() == 2e-3  # the stand-in's events lie two milliseconds apart
        assert machine.calls == ["launch"]
        np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
        assert machine.calls == ["launch", "launch"]


def test_without_cuda_graphs_the_gpu_is_timed_run_by_run(
    plan: Path, machine: Machine, device: Device
) -> None:
    library = fake_library(machine)
    with TensorRtRunner(plan, library=library, device=device, cuda_graph=False) as runner:
        timer = runner.gpu_timer(feeds(2, 7))
        machine.calls.clear()
        assert timer() == 2e-3
        assert machine.calls == ["execute"]


def test_layers_are_timed_run_by_run_after_one_that_does_not_count(
    plan: Path, machine: Machine, device: Device
) -> None:
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        times = runner.layer_times(feeds(2, 7), runs=3)
    # The stand-in's GEMM takes half a millisecond longer in every run.
    assert times == {"gemm": [1e-3, 1.5e-3, 2e-3], "softmax": [0.25e-3] * 3}
    assert "record" not in machine.calls
    assert machine.allocations == {}
    assert profile_document(times, runs=3) == [
        {"count": 3},
        {
            "name": "gemm",
            "timeMs": pytest.approx(4.5),
            "averageMs": pytest.approx(1.5),
            "medianMs": pytest.approx(1.5),
            "percentage": pytest.approx(100 * 4.5 / 5.25),
        },
        {
            "name": "softmax",
            "timeMs": pytest.approx(0.75),
            "averageMs": pytest.approx(0.25),
            "medianMs": pytest.approx(0.25),
            "percentage": pytest.approx(100 * 0.75 / 5.25),
        },
    ]


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("create_execution_context", "to make an execution context"),
        ("set_optimization_profile_async", "to make an execution context"),
        ("set_input_shape", "to take the shape of input_ids"),
        ("set_tensor_address", "to take the address of input_ids"),
        ("execute_async_v3", "to execute"),
    ],
)
def test_what_tensorrt_refuses_is_told_with_its_reason(
    call: str, what: str, plan: Path, machine: Machine, device: Device
) -> None:
    library = fake_library(machine, refuse=call)
    with (
        TensorRtRunner(plan, library=library, device=device) as runner,
        pytest.raises(EngineRunFailed) as caught,
    ):
        runner.run(feeds(2, 7))
    reason = "no memory for a context" if call.startswith("create") else f"{call} went wrong"
    assert str(caught.value) == (
        f"tensorrt 10.14.1: expected the engine of model.plan {what}, found {reason}; "
        "please report this with build.log"
    )
    assert machine.allocations == {}


def test_a_plan_of_another_release_is_refused(
    plan: Path, machine: Machine, device: Device, cudart: FakeCudart
) -> None:
    plan.write_bytes(b"another")
    with pytest.raises(ArtefactError) as caught:
        TensorRtRunner(plan, library=fake_library(machine), device=device)
    assert str(caught.value) == (
        f"{plan}: expected a plan that tensorrt 10.14.1 can load on this GPU, found the plan was "
        "built by another version; build it again on this machine with nxmi-export build"
    )
    assert cudart.live == []


def test_a_version_compatible_plan_runs(tmp_path: Path, machine: Machine, device: Device) -> None:
    plan = write_plan(tmp_path / "model.plan", version_compatible=True)
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        np.testing.assert_array_equal(runner.run(feeds(2, 7))["logits"], expected(feeds(2, 7)))


def test_a_runtime_that_does_not_start_is_a_missing_capability(
    plan: Path, machine: Machine, device: Device, cudart: FakeCudart
) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        TensorRtRunner(plan, library=fake_library(machine, refuse="Runtime"), device=device)
    assert str(caught.value) == (
        "tensorrt 10.14.1: expected an NVIDIA GPU with a driver that is new enough for it, found a "
        "runtime that does not start; update the driver, or run on a machine with one"
    )
    assert cudart.live == []


def test_a_missing_plan_is_refused(tmp_path: Path, machine: Machine, device: Device) -> None:
    with pytest.raises(ArtefactError) as caught:
        TensorRtRunner(tmp_path / "no.plan", library=fake_library(machine), device=device)
    assert str(caught.value) == (
        f"{tmp_path / 'no.plan'}: expected an engine plan, found no file; "
        "build it with nxmi-export build"
    )


def test_an_input_in_a_type_that_numpy_does_not_have_is_refused(
    tmp_path: Path, machine: Machine, device: Device
) -> None:
    plan = write_plan(tmp_path / "model.plan", output="FP8")
    with pytest.raises(ArtefactError) as caught:
        TensorRtRunner(plan, library=fake_library(machine), device=device)
    assert str(caught.value) == (
        f"{plan}: expected inputs and outputs of type BOOL, FLOAT, HALF, INT8, INT32, INT64, "
        "UINT8, found logits of type FP8; export the model again"
    )


def test_a_full_gpu_is_a_missing_capability(
    way: str, plan: Path, machine: Machine, device: Device
) -> None:
    machine.capacity = 100
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        with pytest.raises(CapabilityMissing) as caught:
            runner.run(feeds(2, 7))
        machine.capacity = 1 << 30
        np.testing.assert_array_equal(runner.run(feeds(2, 7))["logits"], expected(feeds(2, 7)))
    found = "CUDA out of memory" if way == "PyTorch" else "cudaErrorMemoryAllocation"
    assert str(caught.value) == (
        f"the GPU's memory: expected room for 0.0 MB more, found {found}; "
        "free some, run smaller batches, or build the engine for a smaller maximum shape"
    )


def test_a_kernel_that_fails_is_told() -> None:
    cudart = FakeCudart(Machine(lazy=True))
    device = CudaPythonDevice(cudart)
    cudart.fail = "cudaStreamSynchronize"
    with pytest.raises(EngineRunFailed) as caught:
        device.close()
    assert str(caught.value) == (
        "CUDA's cudaStreamSynchronize: expected success, found cudaErrorLaunchFailure; "
        "look into the driver's log; an earlier kernel may have failed"
    )


@pytest.mark.parametrize(
    ("fail", "call"),
    [
        ("stream", "first use of the GPU"),
        ("empty", "allocation"),
        ("copy_", "copy to the GPU"),
        ("cpu", "copy from the GPU"),
        ("synchronize", "wait for the stream"),
        ("capture_end", "recording of a CUDA graph"),
        ("replay", "launch of a CUDA graph"),
        ("reset", "release of a CUDA graph"),
        ("event", "event before the work"),
        ("elapsed_time", "event after the work"),
    ],
)
def test_whatever_fails_under_pytorch_is_told(fail: str, call: str, plan: Path) -> None:
    machine = Machine(lazy=False)
    machine.fail = fail
    with pytest.raises(EngineRunFailed) as caught:
        use_everything(plan, machine)
    assert str(caught.value) == (
        f"PyTorch's {call}: expected success, found CUDA error: {fail} went wrong; "
        "look into the driver's log; an earlier kernel may have failed"
    )


def use_everything(plan: Path, machine: Machine) -> None:
    device = TorchDevice(fake_torch(machine))
    with TensorRtRunner(plan, library=fake_library(machine), device=device) as runner:
        for _ in range(2):
            runner.run(feeds(2, 7))
        runner.gpu_timer(feeds(2, 7))()


def test_an_error_without_words_is_told_by_its_type() -> None:
    torch = fake_torch(Machine(lazy=False))
    torch.empty = Mock(side_effect=RuntimeError())
    with pytest.raises(EngineRunFailed) as caught:
        TorchDevice(torch).allocate(1)
    assert caught.value.found == "RuntimeError"


@pytest.mark.parametrize("use", ["record", "seconds"])
@pytest.mark.parametrize("error", [RuntimeError("from inside"), KeyboardInterrupt("from inside")])
def test_what_the_work_raises_leaves_as_it_is(
    use: str, error: BaseException, machine: Machine, device: Device
) -> None:
    machine.fail = "capture_end"  # PyTorch's own, and no more than a consequence

    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=r"^from inside$"):
        getattr(device, use)(fail)


def test_a_failed_recording_leaves_the_stream_usable(
    plan: Path, machine: Machine, device: Device
) -> None:
    def fail() -> None:
        raise ValueError("from inside")

    with pytest.raises(ValueError, match="from inside"):
        device.record(fail)
    assert machine.recording is None


# ------------------------------------------------------------------------------ which device


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No library reaches a GPU, whatever this machine has."""
    unable = SimpleNamespace(
        __version__="2.13.0+cpu", cuda=SimpleNamespace(is_available=lambda: False)
    )
    monkeypatch.setitem(sys.modules, "torch", unable)
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    return monkeypatch


def test_pytorch_comes_before_cuda_python(modules: pytest.MonkeyPatch) -> None:
    machine = Machine(lazy=False)
    modules.setitem(sys.modules, "torch", fake_torch(machine))
    modules.setitem(sys.modules, "cuda.bindings.runtime", FakeCudart(machine))
    assert open_device("a test", look_for_driver=lambda: GPU).name == "PyTorch 2.13.0"


def test_cuda_python_serves_where_pytorch_has_no_cuda(modules: pytest.MonkeyPatch) -> None:
    modules.setitem(sys.modules, "cuda.bindings.runtime", FakeCudart(Machine(lazy=True)))
    assert open_device("a test", look_for_driver=lambda: GPU).name == "cuda-python"


def test_a_machine_where_nothing_reaches_the_gpu_is_told(modules: pytest.MonkeyPatch) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        open_device("a test", look_for_driver=lambda: GPU)
    assert str(caught.value) == (
        "a test: expected a library that reaches the GPU's memory: PyTorch for CUDA, or "
        "cuda-python, found PyTorch 2.13.0+cpu without CUDA; import of cuda.bindings.runtime "
        "halted; None in sys.modules; "
        "install PyTorch's CUDA build, or run `pip install cuda-python`"
    )


@pytest.mark.parametrize(
    ("driver", "found"),
    [(None, "no driver that answers"), (NvidiaDriver("580.1", ()), "a driver without a GPU")],
)
def test_a_machine_without_a_gpu_is_told(driver: NvidiaDriver | None, found: str) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        open_device("running model.plan", look_for_driver=lambda: driver)
    assert str(caught.value) == (
        f"running model.plan: expected an NVIDIA GPU with a driver, found {found}; "
        "run on a machine with one"
    )


# --------------------------------------------------------------------------------- a real GPU


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_on_this_gpu_agrees_with_onnxruntime(
    encoder_path: Path, tmp_path: Path, cuda_graph: bool
) -> None:
    library, driver = find_library(), find_driver()
    assert driver is not None
    profile = ShapeProfile.parse("min=1x1,opt=8x16,max=16x16", position_limit=16)
    plan = tmp_path / "model.plan"
    capability = driver.gpus[0].compute_capability if library.is_rtx else None
    options = EngineOptions(compute_capabilities=(capability,) if capability else ())
    build_engine(encoder_path, plan, profiles=[profile], library=library, options=options)
    session = ort.InferenceSession(str(encoder_path), providers=["CPUExecutionProvider"])
    with TensorRtRunner(plan, library=library, cuda_graph=cuda_graph) as runner:
        for batch, sequence, first in ((2, 7, 0), (2, 7, 5), (2, 7, 9), (1, 16, 0), (16, 3, 0)):
            ids = (np.arange(batch * sequence) + first).reshape(batch, sequence) % 32
            given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            (reference,) = session.run(["logits"], given)
            # Codes may differ by one where a value lies on a rounding tie.
            np.testing.assert_allclose(runner.run(given)["logits"], reference, atol=0.15)
