import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver
from nxmi_export.backends.tensorrt_engine import Library
from nxmi_export.doctor import Component, Diagnosis, Status, examine
from nxmi_export.processor import this_processor

GPU = NvidiaDriver("580.65.06", (Gpu("NVIDIA A10", "sm86", 24 << 30),))


def _examine(*requirements: str, driver: NvidiaDriver | None = None) -> Diagnosis:
    return examine(requirements=requirements, look_for_driver=lambda: driver)


def _only(*requirements: str, driver: NvidiaDriver | None = None) -> Component:
    [component] = _examine(*requirements, driver=driver).components
    return component


def test_an_installed_library_is_ok() -> None:
    assert _only("numpy>=1.0") == Component(
        "numpy", ">=1.0", None, Status.OK, np.__version__, "", None
    )


def test_a_library_below_the_limit_is_too_old() -> None:
    component = _only("numpy>=999")
    assert (component.status, component.version) == (Status.TOO_OLD, np.__version__)
    assert component.detail == f"{np.__version__} is installed"
    assert component.remedy == 'pip install "numpy>=999"'


def test_an_absent_library_is_missing() -> None:
    component = _only("no-such-library>=1")
    assert (component.status, component.version) == (Status.MISSING, None)
    assert component.detail == "not installed"
    assert component.remedy == 'pip install "no-such-library>=1"'


def test_an_absent_extra_is_installed_by_its_name() -> None:
    component = _only('no-such-library>=1; extra == "hub"')
    assert (component.extra, component.status) == ("hub", Status.MISSING)
    assert component.remedy == 'pip install "nxmi-export[hub]"'


def test_a_library_of_another_platform_has_no_remedy() -> None:
    component = _only('numpy>=1; sys_platform == "plan9" and extra == "trt"')
    assert (component.extra, component.status) == ("trt", Status.MISSING)
    assert component.detail == "has no release for this platform"
    assert component.remedy is None


def test_a_build_suffix_does_not_make_a_version_older(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert _only("torch>=2.13").status is Status.OK


def test_a_module_from_another_distribution_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "other-build":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.24.4"

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr(
        "importlib.metadata.packages_distributions", lambda: {"onnxruntime": ["other-build"]}
    )
    component = _only("onnxruntime>=1.23")
    assert (component.status, component.version) == (Status.OK, "1.24.4")


def test_onnxruntime_lists_its_providers() -> None:
    assert "CPUExecutionProvider" in _only("onnxruntime>=1").detail


def test_a_library_that_does_not_load_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    component = _only("onnxruntime>=1")
    assert component.status is Status.MISSING
    assert component.detail == (
        "installed, but does not load: import of onnxruntime halted; None in sys.modules"
    )
    assert component.remedy == 'pip install "onnxruntime>=1"'


@pytest.mark.parametrize(
    ("driver", "detail"),
    [
        (None, "builds engines without a GPU; running them needs one"),
        (GPU, "builds and runs engines"),
    ],
)
def test_rtx_says_what_it_can_do_here(
    rtx: Library, driver: NvidiaDriver | None, detail: str
) -> None:
    component = _only('tensorrt-rtx-cu13>=1; extra == "rtx"', driver=driver)
    assert (component.status, component.detail) == (Status.OK, detail)


def test_a_missing_extra_leaves_the_machine_ok() -> None:
    assert _examine("numpy>=1", 'no-such-library>=1; extra == "hub"').ok


@pytest.mark.parametrize("requirement", ["no-such-library>=1", "numpy>=999"])
def test_a_missing_or_old_requirement_does_not(requirement: str) -> None:
    assert not _examine("numpy>=1", requirement).ok


def test_a_machine_of_which_nothing_was_examined_is_not_ok() -> None:
    assert not _examine().ok


def test_an_uninstalled_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    diagnosis = examine(look_for_driver=lambda: None)
    assert not diagnosis.ok
    [component] = diagnosis.components
    assert (component.name, component.status) == ("nxmi-export", Status.MISSING)
    assert component.detail == "not installed, so which versions it needs is unknown"
    assert component.remedy == "pip install -e ."


def test_the_installed_packages_metadata_is_the_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    metadata = tmp_path / "nxmi_export-1.2.3.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(
        "Metadata-Version: 2.4\nName: nxmi-export\nVersion: 1.2.3\n"
        "Requires-Dist: numpy>=1.0\n"
        'Requires-Dist: no-such-library>=3; extra == "hub"\n'
        'Requires-Dist: pytest>=8; extra == "dev"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    components = examine(look_for_driver=lambda: None).components
    assert [(each.name, each.extra, each.version) for each in components] == [
        ("nxmi-export", None, "1.2.3"),
        ("numpy", None, np.__version__),
        ("no-such-library", "hub", None),
    ]


def test_the_processor_is_described() -> None:
    assert _examine("numpy>=1").processor == this_processor()


def test_everything_becomes_json() -> None:
    facts = json.loads(json.dumps(_examine("numpy>=1", driver=GPU).as_json()))
    assert facts["ok"] is True
    assert facts["driver"] == {
        "version": "580.65.06",
        "gpus": [{"name": "NVIDIA A10", "compute_capability": "sm86", "memory_bytes": 24 << 30}],
    }
    assert facts["components"][0]["status"] == "ok"
    assert facts["python"].count(".") == 2


def test_a_machine_without_a_driver_has_none() -> None:
    assert _examine("numpy>=1").as_json()["driver"] is None


def test_examining_does_not_load_torch() -> None:
    program = (
        "import sys; from nxmi_export.doctor import examine\n"
        "examine(requirements=['torch>=2', 'transformers>=4', 'onnx>=1'])\n"
        "print(*sys.modules, sep='\\n')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.splitlines())
    assert "nxmi_export.doctor" in loaded
    assert loaded & {"torch", "transformers", "onnx"} == set()


@pytest.mark.parametrize(
    ("products", "detail"),
    [("int8", "int8 products"), ("float32", "float32 products, as int8 ones saturate")],
)
def test_openvino_says_in_what_it_multiplies(
    products: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nxmi_export.backends.openvino_library.products", lambda: products)
    component = _only('openvino>=2026; extra == "openvino"')
    assert (component.status, component.detail) == (Status.OK, detail)
