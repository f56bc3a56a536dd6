import sys
from types import ModuleType

import pytest

from nxmi_export.backends.tensorrt_engine import find_library
from nxmi_export.errors import CapabilityMissing


def _install(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Make exactly these importable, whatever this machine has; None means absent."""
    for name, version in versions.items():
        module = None
        if version is not None:
            module = ModuleType(name)
            module.__version__ = version
        monkeypatch.setitem(sys.modules, name, module)


def test_tensorrt_comes_before_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, tensorrt="10.14.1", tensorrt_rtx="1.7.1")
    library = find_library()
    assert (library.name, library.version) == ("tensorrt", "10.14.1")
    assert library.needs_gpu
    assert not library.is_rtx


def test_rtx_is_found_where_tensorrt_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, tensorrt=None, tensorrt_rtx="1.7.1")
    library = find_library()
    assert (library.name, library.version) == ("tensorrt_rtx", "1.7.1")
    assert library.is_rtx
    assert not library.needs_gpu


def test_the_preferred_library_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, tensorrt="10.14.1", tensorrt_rtx="1.7.1")
    assert find_library("tensorrt_rtx").name == "tensorrt_rtx"


def test_an_absent_preferred_library_is_not_replaced_by_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _install(monkeypatch, tensorrt=None, tensorrt_rtx="1.7.1")
    with pytest.raises(CapabilityMissing) as caught:
        find_library("tensorrt")
    assert str(caught.value) == (
        "TensorRT: expected an installed tensorrt, found import of tensorrt halted; None in "
        'sys.modules; run `pip install "nxmi-export[trt]"` (needs an NVIDIA GPU)'
    )


def test_a_machine_without_any_is_told_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, tensorrt=None, tensorrt_rtx=None)
    with pytest.raises(CapabilityMissing) as caught:
        find_library()
    assert str(caught.value) == (
        "TensorRT: expected an installed tensorrt or tensorrt_rtx, found import of tensorrt "
        "halted; None in sys.modules; import of tensorrt_rtx halted; None in sys.modules; "
        'run `pip install "nxmi-export[rtx]"` (builds without a GPU) or '
        'run `pip install "nxmi-export[trt]"` (needs an NVIDIA GPU)'
    )


def test_an_installation_that_does_not_load_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(name: str) -> ModuleType:
        raise OSError(f"{name}: libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(CapabilityMissing) as caught:
        find_library("tensorrt_rtx")
    assert caught.value.found == "tensorrt_rtx: libcudart.so.13: cannot open shared object file"


def test_type_stubs_of_a_library_are_not_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    # What `import tensorrt` gives where a folder of .pyi files has its name.
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    _install(monkeypatch, tensorrt_rtx="1.7.1")
    assert find_library().name == "tensorrt_rtx"
    with pytest.raises(CapabilityMissing) as caught:
        find_library("tensorrt")
    assert caught.value.found == "a package tensorrt without a library, as type stubs leave it"
