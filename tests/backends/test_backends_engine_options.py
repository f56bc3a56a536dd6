"""What each option does to TensorRT-RTX; a release in which one begins to matter fails here."""

from pathlib import Path

import pytest

from nxmi_export.backends.nvidia_driver import find_driver
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    HardwareCompatibility,
    Ignored,
    Library,
    ShapeProfile,
    build_engine,
)
from nxmi_export.backends.tensorrt_engine.build_failure import build_failure
from nxmi_export.backends.tensorrt_engine.int8_layers import is_gemm
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed, UsageError

PROFILE = ShapeProfile.parse("min=1x1,opt=8x16,max=16x16", position_limit=16)
SPARSITY = Ignored("--sparsity enable", "TensorRT-RTX builds the same plan with and without it")


@pytest.fixture(scope="module")
def plain(
    encoder_path: Path, rtx: Library, tmp_path_factory: pytest.TempPathFactory
) -> BuildResult:
    """The engine without any option, sparsity disabled."""
    plan = tmp_path_factory.mktemp("plain") / "model.plan"
    options = EngineOptions(sparse_weights=False)
    result = build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx, options=options)
    assert result.ignored == ()
    return result


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        (EngineOptions(), [SPARSITY]),
        *(
            (
                EngineOptions(optimization_level=level, sparse_weights=False),
                [
                    Ignored(
                        f"--optimization-level {level}",
                        "TensorRT-RTX builds the same plan at every level",
                    )
                ],
            )
            for level in (0, 5)
        ),
        (
            EngineOptions(
                hardware_compatibility=HardwareCompatibility.AMPERE_PLUS, sparse_weights=False
            ),
            [
                Ignored(
                    "--hardware-compatibility ampere-plus",
                    "tensorrt_rtx VERSION keeps the level NONE",
                )
            ],
        ),
        (
            EngineOptions(timing_cache=Path("timing.cache"), sparse_weights=False),
            [
                Ignored(
                    "--timing-cache",
                    "TensorRT-RTX has no timing caches; it times no kernel when it builds",
                )
            ],
        ),
    ],
    ids=["sparsity", "level 0", "level 5", "hardware compatibility", "timing cache"],
)
def test_what_is_said_to_be_ignored_leaves_the_plan_as_it_is(
    options: EngineOptions,
    ignored: list[Ignored],
    plain: BuildResult,
    encoder_path: Path,
    rtx: Library,
    tmp_path: Path,
) -> None:
    plan = tmp_path / "model.plan"
    result = build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx, options=options)
    said = [(each.option, each.reason.replace(rtx.version, "VERSION")) for each in result.ignored]
    assert said == [(each.option, each.reason) for each in ignored]
    assert result.sha256 == plain.sha256


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(tf32=False, sparse_weights=False),
        EngineOptions(workspace_bytes=1 << 28, sparse_weights=False),
        EngineOptions(compute_capabilities=("SM86", "sm89", "sm86"), sparse_weights=False),
    ],
    ids=["no TF32", "workspace", "two generations"],
)
def test_what_is_not_said_to_be_ignored_changes_the_plan(
    options: EngineOptions, plain: BuildResult, encoder_path: Path, rtx: Library, tmp_path: Path
) -> None:
    plan = tmp_path / "model.plan"
    result = build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx, options=options)
    assert result.ignored == ()
    assert result.sha256 != plain.sha256
    named = options.compute_capabilities
    assert result.compute_capabilities == (("sm86", "sm89") if named else ("sm86",))


def test_several_profiles_are_all_in_the_plan(
    encoder_path: Path, rtx: Library, tmp_path: Path
) -> None:
    profiles = [ShapeProfile.parse("min=1x1,opt=1x8,max=1x16", position_limit=16), PROFILE]
    result = build_engine(encoder_path, tmp_path / "a.plan", profiles=profiles, library=rtx)
    assert result.profiles == tuple(profiles)
    holding = [layer for layer in result.layers if "layer.0.up/MatMul" in layer.named_nodes]
    assert len([layer for layer in holding if is_gemm(layer)]) == 2
    assert result.log.count("OptShape: [1,8]") == result.log.count("OptShape: [8,16]") > 0


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (EngineOptions(refit=True), "--refit"),
        (EngineOptions(strip_weights=True), "--strip-weights"),
    ],
)
def test_an_option_that_takes_a_gpu_says_so_where_none_is(
    options: EngineOptions, option: str, encoder_path: Path, rtx: Library, tmp_path: Path
) -> None:
    if find_driver() is not None:
        pytest.skip("an NVIDIA driver is here")
    plan = tmp_path / "model.plan"
    with pytest.raises(CapabilityMissing) as caught:
        build_engine(encoder_path, plan, profiles=[PROFILE], library=rtx, options=options)
    assert str(caught.value).startswith(
        f"tensorrt_rtx {rtx.version}: {option}: expected an NVIDIA GPU with a driver, on which it "
        "folds what can be replaced later, found "
    )
    assert str(caught.value).endswith("; run on a machine with one, or leave the option out")
    assert list(tmp_path.iterdir()) == []


def test_version_compatibility_needs_a_runtime_that_rtx_does_not_bring(
    encoder_path: Path, rtx: Library, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        build_engine(
            encoder_path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(version_compatible=True),
        )
    assert str(caught.value) == (
        f"tensorrt_rtx {rtx.version}: --version-compatible: expected libnvinfer_lean.so.1, the "
        "runtime that such a plan carries with it, found an installation without it; leave the "
        "option out, or install a TensorRT that brings it"
    )


def test_a_workspace_that_no_kernel_fits_in_is_refused(
    encoder_path: Path, rtx: Library, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        build_engine(
            encoder_path,
            tmp_path / "model.plan",
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(workspace_bytes=1 << 20),
        )
    assert str(caught.value).startswith(
        f"{encoder_path}: --workspace 1: expected scratch memory for at least one kernel of every "
        "layer, found "
    )
    assert str(caught.value).endswith("; raise it or leave it out")


@pytest.mark.parametrize(
    "said",
    [
        "Unable to load library: libnvinfer_lean.so.1: cannot open",
        "CHECK(status == CUDA_SUCCESS) failed.",
        "no tactics to implement the operation within workspace limit",
    ],
)
def test_a_failure_is_not_laid_to_an_option_that_was_not_given(said: str, rtx: Library) -> None:
    error = build_failure(Path("model.onnx"), [said], rtx, EngineOptions())
    assert type(error) is EngineBuildFailed
    assert str(error) == (
        f"model.onnx: expected a plan from the builder, found {said}; "
        "please report this with the ONNX file"
    )
