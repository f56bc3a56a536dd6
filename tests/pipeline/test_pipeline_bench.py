"""Engines in a comparison: with stand-ins for TensorRT and CUDA, since nothing here has a GPU."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nxmi_export.artefact import Artefact
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, ShapeProfile
from nxmi_export.backends.tensorrt_engine.cuda_python_device import CudaPythonDevice
from nxmi_export.bench import Measured, NotRun, measure_peaks
from nxmi_export.bench.dense_model import dense_model
from nxmi_export.latency import LinearShape, Workload
from nxmi_export.workflow.bench import BenchRequest, EngineProfile, bench, profile_engine
from nxmi_export.workflow.bench import engines as engines_module
from tests.backends.fake_cuda import FakeCudart, Machine
from tests.backends.fake_tensorrt import fake_library, write_plan
from tests.engine_documents import profiles_of, with_engine_document

SMALL, LARGE = Workload(2, 8), Workload(9, 8)
REQUEST = BenchRequest((SMALL, LARGE), threads=1, rounds=3, seconds=0, memory=False)
MAX_4 = ((1, 1), (2, 8), (4, 16))
INPUTS = {"input_ids": "INT64", "attention_mask": "INT64", "token_type_ids": "INT64"}
PROFILE = "min=1x1,opt=2x8,max=4x16"
SHAPES = profiles_of(([1, 1], [2, 8], [4, 16]))


class Gpu:
    """A stand-in for a GPU, and what was built for it."""

    def __init__(self) -> None:
        self.machine = Machine(lazy=True)
        self.cudart = FakeCudart(self.machine)
        self.library = fake_library(self.machine)
        self.built: list[tuple[str, Sequence[ShapeProfile], EngineOptions]] = []

    def find_library(self, name: str) -> Library:
        assert name == "tensorrt"
        return self.library

    def open_device(self, subject: str) -> CudaPythonDevice:
        return CudaPythonDevice(self.cudart)

    def build_engine(
        self,
        onnx: Path,
        plan: Path,
        *,
        profiles: Sequence[ShapeProfile],
        options: EngineOptions,
        **_: Any,
    ) -> None:
        self.built.append((onnx.name, profiles, options))
        write_plan(plan, MAX_4, **INPUTS)


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that take no seconds."""
    monkeypatch.setattr(measure_peaks, "SHAPES", (LinearShape(256, 256),))
    monkeypatch.setattr(measure_peaks, "ROWS", 256)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    for name in ("find_library", "open_device", "build_engine"):
        monkeypatch.setattr(engines_module, name, getattr(made, name))
    monkeypatch.setattr("nxmi_export.backends.tensorrt_engine.runner.open_device", made.open_device)
    return made


@pytest.fixture
def with_plan(sparse_copy: Artefact) -> Artefact:
    """An artefact whose plan the stand-in runs."""
    write_plan(sparse_copy.directory / "model.plan", MAX_4, **INPUTS)
    return with_engine_document(sparse_copy, profiles=SHAPES)


def quiet(what: str, done: int, total: int) -> None:
    pass


def test_an_engine_runs_with_sparse_kernels_allowed_and_forbidden(
    with_plan: Artefact, gpu: Gpu
) -> None:
    result = bench(with_plan, REQUEST, on_progress=quiet)
    small, large = (each.results for each in result.workloads)
    for key in ("tensorrt", "tensorrt-dense-kernels"):
        measured = small[key]
        assert isinstance(measured, Measured)
        assert measured.gpu is not None
        assert measured.gpu.p50 == 2e-3  # what the stand-in's events say
        assert measured.speedup is not None
        refused = large[key]
        assert isinstance(refused, NotRun)
        assert refused.reason.startswith("model.plan: a batch of input_ids 9×8, ")
    [(graph, [profile], options)] = gpu.built
    assert (graph, str(profile)) == ("model.onnx", PROFILE)
    assert options == EngineOptions(sparse_weights=False)
    assert gpu.cudart.live == []  # all streams, events and graphs were given back
    assert gpu.machine.allocations == {}


def test_the_second_engine_repeats_the_options_of_the_first(with_plan: Artefact, gpu: Gpu) -> None:
    asked = EngineOptions(workspace_bytes=1 << 20, optimization_level=5, tf32=False)
    artefact = with_engine_document(with_plan, profiles=SHAPES, options=asked.as_json())
    bench(artefact, dataclasses.replace(REQUEST, workloads=(SMALL,)), on_progress=quiet)
    [(_, [profile], used)] = gpu.built
    assert str(profile) == PROFILE
    assert used == dataclasses.replace(asked, sparse_weights=False)


def test_the_engine_may_be_the_baseline(with_plan: Artefact, gpu: Gpu) -> None:
    request = dataclasses.replace(REQUEST, baseline="tensorrt-dense-kernels", workloads=(SMALL,))
    (found,) = bench(with_plan, request, on_progress=quiet).workloads
    engine = found.results["tensorrt"]
    assert isinstance(engine, Measured)
    assert engine.gpu_speedup is not None
    assert engine.gpu_speedup.median == 1  # the stand-in is as fast either way


def test_a_plan_that_does_not_load_leaves_its_place_empty(with_plan: Artefact, gpu: Gpu) -> None:
    (with_plan.directory / "model.plan").write_bytes(b"of another GPU")
    artefact = with_engine_document(with_plan, profiles=SHAPES)
    request = dataclasses.replace(REQUEST, workloads=(SMALL,))
    (found,) = bench(artefact, request, on_progress=quiet).workloads
    engine = found.results["tensorrt"]
    assert isinstance(engine, NotRun)
    assert "found the plan was built by another version; build it again" in engine.reason
    assert isinstance(found.results["tensorrt-dense-kernels"], Measured)


def test_a_dense_artefact_has_no_sparse_kernels_to_compare(with_plan: Artefact, gpu: Gpu) -> None:
    linears = {
        name: each.model_copy(update={"storage": "int8"})
        for name, each in with_plan.manifest.linears.items()
    }
    dense = Artefact(
        with_plan.directory, with_plan.manifest.model_copy(update={"linears": linears})
    )
    request = dataclasses.replace(REQUEST, workloads=(SMALL,))
    (found,) = bench(dense, request, on_progress=quiet).workloads
    assert found.results["tensorrt-dense-kernels"] == NotRun(
        "no linear of the artefact is 2:4, so that no sparse kernel could be chosen"
    )
    assert gpu.built == []


def test_a_plan_without_its_weights_leaves_both_places_empty(with_plan: Artefact, gpu: Gpu) -> None:
    stripped = EngineOptions(strip_weights=True).as_json()
    artefact = with_engine_document(with_plan, profiles=SHAPES, options=stripped)
    request = dataclasses.replace(REQUEST, workloads=(SMALL,))
    (found,) = bench(artefact, request, on_progress=quiet).workloads
    for key in ("tensorrt", "tensorrt-dense-kernels"):
        assert found.results[key] == NotRun(
            f"{artefact.directory / 'model.plan'}: expected a plan with its weights, found one "
            "built with --strip-weights, which runs only after a refit; "
            "build it again without the option"
        )
    assert gpu.built == []


def test_an_engine_without_sparse_kernels_is_not_compared_with_another(
    with_plan: Artefact, gpu: Gpu
) -> None:
    dense = EngineOptions(sparse_weights=False).as_json()
    artefact = with_engine_document(with_plan, profiles=SHAPES, options=dense)
    request = dataclasses.replace(REQUEST, workloads=(SMALL,))
    (found,) = bench(artefact, request, on_progress=quiet).workloads
    assert isinstance(found.results["tensorrt"], Measured)
    assert found.results["tensorrt-dense-kernels"] == NotRun(
        "model.plan was built with --sparsity disable and has no sparse kernels to compare with"
    )
    assert gpu.built == []


def test_layers_are_profiled_on_the_largest_shape_that_fits(with_plan: Artefact, gpu: Gpu) -> None:
    profile = profile_engine(with_plan, REQUEST)
    assert isinstance(profile, EngineProfile)
    assert profile.workload == SMALL
    assert [each.get("name") for each in profile.layers] == [None, "gemm", "softmax"]
    assert profile.layers[0] == {"count": 50}
    assert sum(each.get("percentage", 0) for each in profile.layers) == pytest.approx(100)


def test_no_shape_that_fits_is_a_reason(with_plan: Artefact, gpu: Gpu) -> None:
    request = dataclasses.replace(REQUEST, workloads=(LARGE,))
    profile = profile_engine(with_plan, request)
    assert isinstance(profile, NotRun)
    assert profile.reason.startswith("model.plan: a batch of input_ids 9×8, ")


def test_threads_are_given_back(with_plan: Artefact, gpu: Gpu) -> None:
    before = torch.get_num_threads()
    request = dataclasses.replace(REQUEST, workloads=(SMALL,), threads=before + 1)
    result = bench(with_plan, request, on_progress=quiet)
    assert result.settings["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_the_dense_model_has_the_size_of_the_compressed_one(sparse_copy: Artefact) -> None:
    config = json.loads((sparse_copy.directory / "config.json").read_text())
    state = torch.get_rng_state()
    model = dense_model(sparse_copy.manifest.architecture, config | {"return_dict": False})
    assert model.config.return_dict
    assert torch.equal(state, torch.get_rng_state())
    assert type(model).__name__ == sparse_copy.manifest.architecture
    shapes = {
        name: module.weight.shape
        for name, module in model.named_modules()
        if hasattr(module, "weight")
    }
    for name, record in sparse_copy.manifest.linears.items():
        assert shapes[name] == (record.outputs, record.inputs)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
