"""What TensorRT 10 and 11 are asked for, each with the flags that it has."""

from pathlib import Path

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    HardwareCompatibility,
    Ignored,
    ShapeProfile,
    build_engine,
)
from nxmi_export.errors import UsageError
from tests.backends.fake_builder_library import OLD_LEVELS, fake_library

PROFILES = [
    ShapeProfile.parse("min=1x1,opt=1x8,max=1x16", position_limit=16),
    ShapeProfile.parse("min=8x1,opt=8x16,max=16x16", position_limit=16),
]
TENSORRT_10 = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}


@pytest.mark.parametrize(
    ("creation_flags", "asked_for"),
    [(TENSORRT_10, 0b11), ({"STRONGLY_TYPED": 1}, 0b10), ({}, 0)],
    ids=["10", "a release without explicit batch", "a release without either"],
)
def test_strong_typing_is_asked_for_wherever_it_is_a_choice(
    creation_flags: dict[str, int], asked_for: int, encoder_path: Path, tmp_path: Path
) -> None:
    library, asked = fake_library(creation_flags=creation_flags)
    build_engine(encoder_path, tmp_path / "a.plan", profiles=PROFILES, library=library)
    assert asked.creation_flags == asked_for


def test_every_input_gets_every_profile_in_order(encoder_path: Path, tmp_path: Path) -> None:
    library, asked = fake_library()
    result = build_engine(encoder_path, tmp_path / "a.plan", profiles=PROFILES, library=library)
    low, high = ((1, 1), (1, 8), (1, 16)), ((8, 1), (8, 16), (16, 16))
    assert asked.profiles == [
        {"input_ids": low, "attention_mask": low},
        {"input_ids": high, "attention_mask": high},
    ]
    assert result.input_names == ("input_ids", "attention_mask")
    assert result.compute_capabilities == ()


def test_defaults_set_nothing_but_sparsity_and_detail(encoder_path: Path, tmp_path: Path) -> None:
    library, asked = fake_library()
    result = build_engine(encoder_path, tmp_path / "a.plan", profiles=PROFILES, library=library)
    assert asked.flags == {"TF32", "SPARSE_WEIGHTS"}
    assert asked.settings["profiling_verbosity"].name == "DETAILED"
    assert asked.settings.keys() == {"logger", "profiling_verbosity", "progress_monitor"}
    assert (asked.pools, asked.cache, result.ignored) == ({}, None, ())


def test_every_option_is_set(encoder_path: Path, tmp_path: Path) -> None:
    library, asked = fake_library()
    options = EngineOptions(
        workspace_bytes=1 << 30,
        optimization_level=4,
        sparse_weights=False,
        tf32=False,
        version_compatible=True,
        hardware_compatibility=HardwareCompatibility.SAME_COMPUTE_CAPABILITY,
        refit=True,
        strip_weights=True,
    )
    plan = tmp_path / "a.plan"
    result = build_engine(encoder_path, plan, profiles=PROFILES, library=library, options=options)
    assert asked.flags == {"VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN"}
    assert asked.pools == {"WORKSPACE": 1 << 30}
    assert asked.settings["builder_optimization_level"] == 4
    assert asked.settings["hardware_compatibility_level"].name == "SAME_COMPUTE_CAPABILITY"
    assert result.ignored == ()


@pytest.mark.parametrize(
    ("options", "flag", "option"),
    [
        (EngineOptions(version_compatible=True), "VERSION_COMPATIBLE", "--version-compatible"),
        (EngineOptions(refit=True), "REFIT", "--refit"),
        (EngineOptions(strip_weights=True), "STRIP_PLAN", "--strip-weights"),
    ],
)
def test_a_release_without_the_flag_is_told(
    options: EngineOptions, flag: str, option: str, encoder_path: Path, tmp_path: Path
) -> None:
    library, _ = fake_library(flags=("TF32", "SPARSE_WEIGHTS"))
    plan = tmp_path / "a.plan"
    with pytest.raises(UsageError) as caught:
        build_engine(encoder_path, plan, profiles=PROFILES, library=library, options=options)
    assert str(caught.value) == (
        f"tensorrt 10.14.1: expected the builder flag {flag}, found a release without it; "
        f"leave {option} out or use another release"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_release_without_the_level_is_told(encoder_path: Path, tmp_path: Path) -> None:
    library, _ = fake_library("10.3.0", levels=OLD_LEVELS)
    level = HardwareCompatibility.SAME_COMPUTE_CAPABILITY
    with pytest.raises(UsageError) as caught:
        build_engine(
            encoder_path,
            tmp_path / "a.plan",
            profiles=PROFILES,
            library=library,
            options=EngineOptions(hardware_compatibility=level),
        )
    assert str(caught.value) == (
        "tensorrt 10.3.0: expected the level SAME_COMPUTE_CAPABILITY, found a release with NONE, "
        "AMPERE_PLUS; leave --hardware-compatibility same-compute-capability out or use another "
        "release"
    )


def test_timings_are_read_and_come_back_extended(encoder_path: Path, tmp_path: Path) -> None:
    library, asked = fake_library()
    path = tmp_path / "timing.cache"
    path.write_bytes(b"of yesterday")
    cache = build_engine(
        encoder_path,
        tmp_path / "a.plan",
        profiles=PROFILES,
        library=library,
        options=EngineOptions(timing_cache=path),
    ).timing_cache
    assert asked.cache == b"of yesterday"
    assert (cache.was_read, cache.refused) == (True, None)
    assert cache.content == b"timed:of yesterday"
    assert path.read_bytes() == b"of yesterday"  # whoever asked writes it


def test_a_file_that_does_not_exist_yet_starts_the_timings(
    encoder_path: Path, tmp_path: Path
) -> None:
    library, _ = fake_library()
    result = build_engine(
        encoder_path,
        tmp_path / "a.plan",
        profiles=PROFILES,
        library=library,
        options=EngineOptions(timing_cache=tmp_path / "timing.cache"),
    )
    cache = result.timing_cache
    assert (cache.was_read, cache.refused, cache.content) == (False, None, b"timed:")
    assert result.ignored == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"another GPU", "it is of another GPU or release"),
        (b"another release", "Returning an empty timing cache."),
    ],
)
def test_timings_that_do_not_hold_here_are_not_used_and_that_is_said(
    content: bytes, reason: str, encoder_path: Path, tmp_path: Path
) -> None:
    library, asked = fake_library()
    path = tmp_path / "timing.cache"
    path.write_bytes(content)
    result = build_engine(
        encoder_path,
        tmp_path / "a.plan",
        profiles=PROFILES,
        library=library,
        options=EngineOptions(timing_cache=path),
    )
    assert asked.cache == b""
    cache = result.timing_cache
    assert (cache.was_read, cache.refused, cache.content) == (False, reason, b"timed:")
    assert result.ignored == (Ignored("--timing-cache", reason),)
