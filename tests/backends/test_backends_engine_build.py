import hashlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from nxmi_export.backends.tensorrt_engine import (
    BuildProgress,
    EngineOptions,
    Library,
    ProductNodes,
    ShapeProfile,
    SparseEvidence,
    Verdict,
    build_engine,
    int8_coverage,
    parse_layers,
    sparse_evidence,
)
from nxmi_export.errors import (
    ArtefactError,
    CapabilityMissing,
    EngineBuildFailed,
    OutputError,
    ShapeError,
    UsageError,
)

PROFILE = ShapeProfile.parse("min=1x1,opt=8x16,max=16x16", position_limit=16)
LINEARS = {f"layer.0.{name}" for name in ("query", "key", "value", "output", "up", "down")}
ATTENTION = "layer.0.attention"
MODULE_OF = {f"{name}/MatMul": name for name in LINEARS} | {
    f"{ATTENTION}/scores": ATTENTION,
    f"{ATTENTION}/context": ATTENTION,
}


def _save(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_a_real_build_proves_int8_and_leaves_sparsity_unproven(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    result = build_engine(encoder_path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    coverage = int8_coverage(
        result.layers, ProductNodes(MODULE_OF), linears=LINEARS, attentions=[ATTENTION]
    )
    assert coverage.verdict is Verdict.PROVED
    assert (coverage.int8_linears, coverage.int8_attentions) == (6, 1)
    # Query, key and value share one GEMM, so six linears are four.
    assert len({line for each in coverage.linears for line in each.lines}) == 4
    sparse: SparseEvidence = sparse_evidence(result.log, result.layers, rtx)
    assert sparse.verdict is Verdict.UNPROVEN


def test_the_result_describes_the_file(encoder_path: Path, tmp_path: Path, rtx: Library) -> None:
    plan = tmp_path / "model.plan"
    result = build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx)
    content = plan.read_bytes()
    assert (result.plan, result.size_bytes) == (plan, len(content))
    assert result.sha256 == hashlib.sha256(content).hexdigest()
    assert (result.library, result.compute_capabilities) == (rtx, ("sm86",))
    assert result.profiles == (PROFILE,)
    assert 0 < result.seconds < 600
    assert list(tmp_path.iterdir()) == [plan]
    assert result.warnings == ()


def test_two_builds_are_the_same_bytes(encoder_path: Path, tmp_path: Path, rtx: Library) -> None:
    digests = {
        build_engine(encoder_path, tmp_path / name, profiles=[PROFILE], library=rtx).sha256
        for name in ("one.plan", "two.plan")
    }
    assert len(digests) == 1


QUANTIZED = """
    codes = QuantizeLinear (hidden, scale, zero)
    data = DequantizeLinear (codes, scale, zero)"""


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        (QUANTIZED + "weight = DequantizeLinear <axis = 1> (integers, scales)", Verdict.PROVED),
        (QUANTIZED + "weight = DequantizeLinear (integers, scale)", Verdict.PROVED),
        (QUANTIZED + "weight = DequantizeLinear <axis = 0> (integers, scales)", Verdict.REFUTED),
        (QUANTIZED + "weight = Identity (floats)", Verdict.REFUTED),
        (
            "data = Identity (hidden) weight = DequantizeLinear <axis = 1> (integers, scales)",
            Verdict.REFUTED,
        ),
        ("data = Identity (hidden) weight = Identity (floats)", Verdict.REFUTED),
    ],
    ids=[
        "scales on the output axis",
        "one scale",
        "scales on the reduction axis",
        "data alone quantized",
        "weight alone quantized",
        "float",
    ],
)
def test_what_the_builder_really_multiplies(
    steps: str, verdict: Verdict, tmp_path: Path, rtx: Library
) -> None:
    """Each of these parses and builds without a warning; only the log tells them apart."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (int64[batch, sequence] ids) => (float[batch, sequence, 64] y)
        <float scale = {{0.01}}, int8 zero = {{0}}>
        {{
          hidden = Gather (table, ids)
          {steps}
          ["a/MatMul"] product = MatMul (data, weight)
          y = Tanh (product)
        }}"""
    )
    numbers = np.random.default_rng(0)
    arrays = {
        "table": numbers.normal(size=(32, 64)).astype(np.float32),
        "floats": numbers.normal(size=(64, 64)).astype(np.float32),
        "integers": numbers.integers(-127, 128, (64, 64), dtype=np.int8),
        "scales": np.linspace(0.01, 0.02, 64, dtype=np.float32),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    result = build_engine(path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    [evidence] = int8_coverage(
        result.layers, ProductNodes({"a/MatMul": "a"}), linears=["a"], attentions=[]
    ).linears
    assert evidence.verdict is verdict, evidence.reason


def test_progress_is_reported_step_by_step(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    steps: list[BuildProgress] = []
    build_engine(
        encoder_path,
        tmp_path / "model.plan",
        profiles=[PROFILE],
        library=rtx,
        on_progress=steps.append,
    )
    outermost = [step for step in steps if step.parent is None]
    assert [step.done for step in outermost] == list(range(1, len(outermost) + 1))
    assert {step.phase for step in outermost} == {"Building engine"}
    assert {step.parent for step in steps} > {None, "Building engine"}
    assert all(1 <= step.done <= step.total for step in steps)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_build_leaves_no_file(
    encoder_path: Path, tmp_path: Path, rtx: Library, interruption: type[BaseException]
) -> None:
    seen = []

    def interrupt(progress: BuildProgress) -> None:
        seen.append(progress)
        raise interruption

    with pytest.raises(interruption):
        build_engine(
            encoder_path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=rtx,
            on_progress=interrupt,
        )
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_of_the_logger_reaches_the_caller(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    """The bindings would print it and build on; a severity without a name stands for Ctrl-C."""

    def builder_that_interrupts(logger: Any) -> Any:
        logger.log("no severity", "text")
        return rtx.module.Builder(logger)

    module = _module_like(rtx, {"Builder": builder_that_interrupts})
    broken = Library(module, "tensorrt_rtx", rtx.version)
    with pytest.raises(AttributeError, match="'str' object has no attribute 'name'"):
        build_engine(encoder_path, tmp_path / "model.plan", profiles=[PROFILE], library=broken)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_keeps_the_plan_that_was_there(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"yesterday's")

    def interrupt(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx, on_progress=interrupt)
    assert plan.read_bytes() == b"yesterday's"


def test_a_build_after_an_interrupted_one_succeeds(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    test_an_interrupted_build_leaves_no_file(encoder_path, tmp_path, rtx, KeyboardInterrupt)
    result = build_engine(encoder_path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    assert result.layers


def test_the_log_is_kept_where_asked(encoder_path: Path, tmp_path: Path, rtx: Library) -> None:
    log = tmp_path / "build.log"
    result = build_engine(
        encoder_path,
        tmp_path / "model.plan",
        profiles=[PROFILE],
        library=rtx,
        options=EngineOptions(log_path=log),
    )
    assert log.read_text(encoding="utf-8") == result.log
    assert parse_layers(log.read_text(encoding="utf-8")) == result.layers


def test_a_damaged_file_is_refused(tmp_path: Path, rtx: Library) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a protobuf at all" * 10)
    with pytest.raises(ArtefactError) as caught:
        build_engine(path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    assert str(caught.value) == (
        f"{path}: expected an ONNX model, found a file that cannot be decoded; export it again"
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_refused(tmp_path: Path, rtx: Library) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ArtefactError) as caught:
        build_engine(path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    assert str(caught.value) == (
        f"{path}: expected an ONNX model, found no file; export the model first or correct the path"
    )


def test_an_operator_the_parser_lacks_is_named(tmp_path: Path, rtx: Library) -> None:
    path = _save(
        tmp_path / "model.onnx",
        """<ir_version: 10, opset_import: ["": 20]>
        g (int8[batch, sequence] a, int8[sequence, batch] b) => (int32[batch, batch] y)
        { ["layer.0/product"] y = MatMulInteger (a, b) }""",
    )
    log = tmp_path / "build.log"
    with pytest.raises(EngineBuildFailed) as caught:
        build_engine(
            path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(log_path=log),
        )
    assert str(caught.value) == (
        f"{path}: expected a graph that TensorRT's parser accepts, found MatMulInteger node "
        "'layer.0/product': UNSUPPORTED_NODE (false); please report this with the ONNX file"
    )
    assert "While parsing node number 0 [MatMulInteger" in log.read_text()
    assert sorted(tmp_path.iterdir()) == [log, path]


def test_a_graph_the_builder_gives_up_on_is_refused_with_its_error(
    encoder_model: onnx.ModelProto, tmp_path: Path, rtx: Library
) -> None:
    """A Transpose between integers and their DequantizeLinear parses, and then fails to build."""
    path = _save(
        tmp_path / "model.onnx",
        """<ir_version: 10, opset_import: ["": 20]>
        g (int64[batch, sequence] ids) => (float[batch, sequence, 2] y)
        <int8[2, 4] codes = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] scale = {0.1, 0.2}>
        {
          turned = Transpose <perm = [1, 0]> (codes)
          table = DequantizeLinear <axis = 1> (turned, scale)
          y = Gather (table, ids)
        }""",
    )
    with pytest.raises(EngineBuildFailed) as caught:
        build_engine(path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    assert str(caught.value).startswith(f"{path}: expected a plan from the builder, found ")
    assert str(caught.value).endswith("; please report this with the ONNX file")
    assert "Error Code" in caught.value.found
    assert list(tmp_path.iterdir()) == [path]


def _relu(path: Path, shape: str) -> Path:
    return _save(
        path,
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}""",
    )


@pytest.mark.parametrize(
    ("shape", "text", "is_fixed"),
    [
        ("2, 16", "min=2x16,opt=2x16,max=2x16", True),
        ("2, sequence", "min=2x1,opt=2x8,max=2x16", False),
        ("batch, 16", "min=1x16,opt=2x16,max=4x16", False),
    ],
)
def test_a_graph_with_fixed_sides_is_built_for_them(
    shape: str, text: str, is_fixed: bool, tmp_path: Path, rtx: Library
) -> None:
    path = _relu(tmp_path / "model.onnx", shape)
    profile = ShapeProfile.parse(text, position_limit=16)
    result = build_engine(path, tmp_path / "model.plan", profiles=[profile], library=rtx)
    assert (result.profiles, result.is_fixed, result.input_names) == ((profile,), is_fixed, ("x",))
    assert result.size_bytes
    assert "[E]" not in result.log


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("2, 16", "batch of 2 and sequence of 16"),
        ("2, sequence", "batch of 2"),
        ("batch, 15", "sequence of 15"),
    ],
)
def test_a_profile_that_leaves_a_fixed_side_is_refused(
    shape: str, expected: str, tmp_path: Path, rtx: Library
) -> None:
    path = _relu(tmp_path / "model.onnx", shape)
    with pytest.raises(ShapeError) as caught:
        build_engine(path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    assert str(caught.value) == (
        f"{path}: input x: expected shapes with its fixed {expected}, found {PROFILE}; "
        "leave the shapes out, or export with dynamic axes"
    )


def test_an_input_of_another_rank_is_refused(tmp_path: Path, rtx: Library) -> None:
    path = _relu(tmp_path / "model.onnx", "batch, sequence, 4")
    with pytest.raises(ShapeError) as caught:
        build_engine(path, tmp_path / "model.plan", profiles=[PROFILE], library=rtx)
    assert str(caught.value) == (
        f"{path}: input x: expected a batch and a sequence, found the shape (-1, -1, 4); "
        "export an encoder, whose inputs have these two dimensions"
    )


def test_an_unknown_compute_capability_is_refused(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    with pytest.raises(UsageError) as caught:
        build_engine(
            encoder_path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(compute_capabilities=("sm61",)),
        )
    known = ", ".join(
        name.lower() for name in rtx.module.ComputeCapability.__members__ if name[:2] == "SM"
    )
    assert "sm86" in known
    assert str(caught.value) == (
        f"compute capability sm61: expected one of {known}, found 'sm61'; "
        f"name a GPU generation that tensorrt_rtx {rtx.version} builds for"
    )


def test_an_output_folder_that_is_missing_is_refused(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    plan = tmp_path / "nowhere" / "model.plan"
    with pytest.raises(OutputError) as caught:
        build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx)
    assert str(caught.value) == (
        f"{plan}: expected an output path in a writable folder, found No such file or directory; "
        "choose another output path or make its folder first"
    )


def _as_tensorrt(rtx: Library, **changes: object) -> Library:
    """Full TensorRT as far as it shares RTX's API: the same classes under the other name."""
    return Library(_module_like(rtx, changes), "tensorrt", "10.14.1")


def _module_like(rtx: Library, changes: dict[str, object]) -> ModuleType:
    module = ModuleType("tensorrt_stand_in")
    vars(module).update(vars(rtx.module) | changes)
    return module


def test_tensorrt_refuses_a_foreign_compute_capability(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    with pytest.raises(UsageError) as caught:
        build_engine(
            encoder_path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=_as_tensorrt(rtx),
            options=EngineOptions(compute_capabilities=("sm86",)),
        )
    assert str(caught.value) == (
        "compute capability sm86: expected none, because tensorrt builds for the GPU it runs on, "
        "found one; leave it out, or build with tensorrt_rtx"
    )


def test_tensorrt_without_a_gpu_is_refused(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    def no_builder(logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(CapabilityMissing) as caught:
        build_engine(
            encoder_path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=_as_tensorrt(rtx, Builder=no_builder),
        )
    assert str(caught.value) == (
        "tensorrt 10.14.1: expected an NVIDIA GPU with a driver, found a builder that does not "
        "start; build with tensorrt_rtx, which needs no GPU, or run on a machine with one"
    )


def test_a_flag_the_release_lacks_is_refused(
    encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    older = _as_tensorrt(rtx, BuilderFlag=SimpleNamespace(TF32=0, __members__={"TF32": 0}))
    with pytest.raises(UsageError) as caught:
        build_engine(encoder_path, tmp_path / "model.plan", profiles=[PROFILE], library=older)
    assert str(caught.value) == (
        "tensorrt 10.14.1: expected the builder flag SPARSE_WEIGHTS, found a release without it; "
        "pass --sparsity disable or use another release"
    )


def _complaining(rtx: Library, line: str) -> Library:
    """RTX, which warns of something before it builds."""

    def builder_that_complains(logger: Any) -> Any:
        logger.log(rtx.module.ILogger.Severity.WARNING, line)
        return rtx.module.Builder(logger)

    module = _module_like(rtx, {"Builder": builder_that_complains})
    return Library(module, "tensorrt_rtx", rtx.version)


WIDE = 1 << 34  # more than any kernel wants


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (EngineOptions(), "free GPU memory or lower the maximum shape"),
        (
            EngineOptions(workspace_bytes=WIDE),
            "raise --workspace 16384, free GPU memory or lower the maximum shape",
        ),
    ],
    ids=["no limit", "a limit"],
)
def test_a_build_that_ran_out_of_memory_is_refused(
    options: EngineOptions, remedy: str, encoder_path: Path, tmp_path: Path, rtx: Library
) -> None:
    line = "Skipping tactic 0 due to insufficient memory on requested size of 1290442752"
    plan, short = tmp_path / "model.plan", _complaining(rtx, line)
    with pytest.raises(EngineBuildFailed) as caught:
        build_engine(encoder_path, plan, profiles=[PROFILE], library=short, options=options)
    assert str(caught.value) == (
        f"{encoder_path}: expected a build that could try every kernel, found memory that could "
        f"not be had: [W] {line}; {remedy}"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "allowed", "advice"),
    [
        (EngineOptions(), "this GPU has", "lower the maximum shape"),
        (
            EngineOptions(workspace_bytes=WIDE),
            "--workspace 16384 allows",
            "raise --workspace 16384 or leave it out",
        ),
    ],
    ids=["no limit", "a limit"],
)
def test_kernels_beyond_the_scratch_memory_are_a_warning(
    options: EngineOptions,
    allowed: str,
    advice: str,
    encoder_path: Path,
    tmp_path: Path,
    rtx: Library,
) -> None:
    line = "Some tactics do not have sufficient workspace memory to run."
    plan, tight = tmp_path / "model.plan", _complaining(rtx, line)
    result = build_engine(encoder_path, plan, profiles=[PROFILE], library=tight, options=options)
    assert plan.stat().st_size == result.size_bytes
    assert result.warnings == (
        f"kernels that need more scratch memory than {allowed} were not tried: [W] {line}; "
        f"{advice} to let them compete",
    )
