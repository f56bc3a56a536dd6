"""Engines of single linears: built anywhere by TensorRT-RTX, timed where there is a GPU."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver
from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.backends.tensorrt_engine.cuda_python_device import CudaPythonDevice
from nxmi_export.backends.tensorrt_engine.int8_layers import is_gemm, multiplies_int8
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed
from nxmi_export.latency import KINDS, Gemm, Kind, LinearShape
from nxmi_export.latency import measure_tensorrt as measuring
from nxmi_export.latency.engine_timer import engine_timer
from nxmi_export.latency.measure_tensorrt import build_linear, measure_tensorrt
from nxmi_export.latency.table import INT8_OUT
from tests.backends.fake_cuda import FakeCudart, Machine
from tests.backends.fake_tensorrt import fake_library, write_plan

SHAPES = (LinearShape(384, 384), LinearShape(384, 1536))
GPU = NvidiaDriver("580.1", (Gpu("A GPU", "sm86", 1 << 34),))


@pytest.fixture(scope="module")
def rtx() -> Library:
    try:
        return find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_multiplies_what_its_kind_says(kind: Kind, rtx: Library, tmp_path: Path) -> None:
    built = build_linear(Gemm(256, 384, 1536, kind), rtx, tmp_path, compute_capability="sm86")
    (product,) = (layer for layer in built.layers if is_gemm(layer))
    assert [operand.dimensions for operand in product.inputs] == [(256, 384)]
    assert multiplies_int8(product) is (kind != "float")
    last = [operand.datatype for operand in built.layers[-1].outputs]
    assert last == ["Int8" if kind in INT8_OUT else "Float"]


def test_an_engine_of_floats_in_place_of_int8_is_refused(
    rtx: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = measuring.build_engine

    def unfused(*arguments: object, **options: object) -> object:
        built = build(*arguments, **options)  # type: ignore[arg-type]
        return dataclasses.replace(built, layers=())

    monkeypatch.setattr(measuring, "build_engine", unfused)
    with pytest.raises(EngineBuildFailed) as caught:
        build_linear(Gemm(64, 384, 384, "int8"), rtx, tmp_path)
    assert str(caught.value) == (
        f"tensorrt_rtx {rtx.version}: 64x384x384-int8: expected an INT8 matrix product in the "
        "build log, found no matrix product; please report this with the shape"
    )


@pytest.mark.parametrize(
    ("driver", "found"),
    [
        (None, "no driver that answers"),
        (NvidiaDriver("580.1", ()), "a driver without a GPU"),
    ],
)
def test_a_machine_without_a_gpu_is_refused(driver: NvidiaDriver | None, found: str) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        measure_tensorrt(SHAPES, 256, look_for_driver=lambda: driver)
    assert str(caught.value) == (
        f"timing TensorRT: expected an NVIDIA GPU with a driver, found {found}; run on a machine "
        "with one, or name a GPU to compute from its datasheet (--device a100)"
    )


def test_a_machine_where_nothing_reaches_the_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    library = Library(SimpleNamespace(), "tensorrt", "10.14.1")  # type: ignore[arg-type]
    with pytest.raises(CapabilityMissing, match=r"^timing TensorRT: expected a library that reach"):
        measure_tensorrt(SHAPES, 256, library=library, look_for_driver=lambda: GPU)


def test_an_engine_is_timed_over_a_recording_of_twenty_runs(tmp_path: Path) -> None:
    machine = Machine(lazy=True)
    device, library = CudaPythonDevice(FakeCudart(machine)), fake_library(machine)
    plan = write_plan(tmp_path / "linear.plan", ((4, 8),) * 3, x="FLOAT")
    with engine_timer(device, library, plan, np.ones((4, 8), np.float32)) as timer:
        machine.calls.clear()
        assert timer() == 2e-3 / 20  # the stand-in's events lie two milliseconds apart
        assert machine.calls == ["launch"]
    assert machine.allocations == {}


@pytest.mark.gpu
def test_every_linear_is_timed_in_every_kind() -> None:
    table = measure_tensorrt(SHAPES, 1024, rounds=5)
    assert set(table.entries) == {Gemm(1024, *shape, kind) for shape in SHAPES for kind in KINDS}
    assert all(1e-7 < seconds < 1e-2 for seconds in table.entries.values())
    assert table.source == "measured"
