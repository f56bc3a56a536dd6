"""The API that is called is the one TensorRT 10 publishes, which no machine here can run."""

import re
from pathlib import Path

import pytest

from tests.backends.published_stubs import ROOT, UNREADABLE, check_types, lay_out_stubs

ENGINE = Path("nxmi_export/backends/tensorrt_engine")
# A call for every object whose API is used: (what is written, a slip in it, what mypy says).
SLIPS = [
    ("configure.py", "config.set_flag(", "config.set_flagg(", 'no attribute "set_flagg"'),
    ("configure.py", "trt.BuilderFlag.TF32", "trt.BuilderFlag.TF23", 'no attribute "TF23"'),
    ("configure.py", "trt.MemoryPoolType", "trt.MemoryPools", 'no attribute "MemoryPools"'),
    ("build.py", "set_shape(name, low, middle", "set_shape(low, low, low", '"set_shape"'),
    ("build.py", "builder.build_serialized_network(", "builder.build_plan(", "build_plan"),
    ("build.py", "network.num_inputs", "network.inputs", 'no attribute "inputs"'),
    ("parse_onnx.py", "parser.parse_from_file(str(path))", "parser.parse_file(path)", "parse_file"),
    ("parse_onnx.py", "error.node_operator()", "error.operator()", 'no attribute "operator"'),
    ("timing_cache.py", "cache(fresh, False)", "cache(fresh)", 'argument "ignore_mismatch"'),
    ("logger.py", "msg: str)", "msg: int)", "incompatible with supertype"),
    ("progress.py", "step: int) -> bool:", "step: str) -> bool:", "incompatible with supertype"),
    ("start_runtime.py", "engine_host_code_allowed", "engine_code_allowed", "engine_code_allowed"),
    ("engine.py", ".device_memory_size_v2", ".memory_size", 'no attribute "memory_size"'),
    ("engine.py", "set_device_memory(self", "set_memory(self", 'no attribute "set_memory"'),
    ("engine.py", "get_tensor_profile_shape(name, profile)", "get_profile(name)", "get_profile"),
    ("engine.py", "mode.INPUT", "mode.IN", 'no attribute "IN"'),
    ("engine.py", "Strategy.USER_MANAGED", "Strategy.MANAGED", 'no attribute "MANAGED"'),
    ("engine.py", "profile, self.device.stream", "profile, str(profile)", "incompatible type"),
    ("execution.py", "execute_async_v3(", "execute_async_v2(", "execute_async_v2"),
    ("execution.py", "set_tensor_address(name, buffer.", "set_tensor_address(buffer.", '"memory"'),
    ("layer_profile.py", "ms: float)", "ms: str)", "incompatible with supertype"),
    ("layer_profile.py", ".context.profiler", ".context.profile", 'no attribute "profile"'),
    ("layer_info.py", "runtime.deserialize_cuda_engine(", "runtime.deserialize(", "deserialize"),
    ("api.py", 'DataType: "type[trt.DataType]"', 'Kind: "type[trt.DataType]"', "has type Module"),
]  # fmt: skip


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    assert lay_out_stubs(folder) == UNREADABLE
    return folder


def test_every_call_fits_the_published_signatures(stubs: Path) -> None:
    assert check_types(stubs, ENGINE) == []


def test_a_slip_in_any_part_of_the_api_is_found(stubs: Path, tmp_path: Path) -> None:
    """All slips in one copy, since mypy reads the ten thousand lines of stubs anew each time."""
    copies = {path.name: path.read_text() for path in (ROOT / ENGINE).glob("*.py")}
    for name, written, slip, _ in SLIPS:
        assert written in copies[name], (name, written)
        copies[name] = copies[name].replace(written, slip)
    folder = tmp_path / "nxmi_export_slips"
    folder.mkdir()
    for name, text in copies.items():
        text = text.replace("nxmi_export.backends.tensorrt_engine", "nxmi_export_slips")
        (folder / name).write_text(text)
    complaints = check_types(stubs, folder)
    for name, _, slip, complaint in SLIPS:
        found = [line for line in complaints if f"/{name}:" in line and complaint in line]
        assert found, (name, slip, complaints)


def test_nothing_that_is_called_had_to_be_loosened() -> None:
    calls = re.compile(rf"\b({'|'.join(sorted(UNREADABLE))})\(")
    assert not [path for path in (ROOT / ENGINE).glob("*.py") if calls.search(path.read_text())]
