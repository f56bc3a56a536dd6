"""What this machine has of what the stages need, and how to get the rest.

Which libraries, and which versions, is read from the metadata of the installed package: this file
holds no list that could fall behind it. Nothing here initialises CUDA or imports torch.
"""

import importlib.metadata
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from packaging.requirements import Requirement

from nxmi_export.backends.nvidia_driver import NvidiaDriver, find_driver
from nxmi_export.backends.tensorrt_engine.library import LibraryName, find_library
from nxmi_export.errors import CapabilityMissing
from nxmi_export.processor import Processor, this_processor

__all__ = ["Component", "Diagnosis", "Status", "examine"]

_PACKAGE = "nxmi-export"
_FOR_DEVELOPERS = "dev"


class Status(StrEnum):
    """What stands between a component and its use."""

    OK = "ok"
    MISSING = "missing"
    TOO_OLD = "too old"


@dataclass(frozen=True, slots=True)
class Component:
    """One library: what is wanted, what is there, and what to type if that is not enough."""

    name: str
    wanted: str  # ">=1.23", or empty for any version
    extra: str | None  # the optional feature it belongs to; None for a required one
    status: Status
    version: str | None
    detail: str
    remedy: str | None  # a command; None where nothing is to be done, or nothing can be


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts about one machine at one moment."""

    python: str
    platform: str
    processor: Processor
    driver: NvidiaDriver | None
    components: tuple[Component, ...]

    @property
    def ok(self) -> bool:
        """Whether everything required is there; optional features may be missing."""
        required = [each.status for each in self.components if each.extra is None]
        return bool(required) and set(required) == {Status.OK}

    def as_json(self) -> dict[str, Any]:
        """The same facts as plain data."""
        return {"ok": self.ok, **asdict(self)}


def examine(
    *,
    requirements: Sequence[str] | None = None,
    look_for_driver: Callable[[], NvidiaDriver | None] = find_driver,
) -> Diagnosis:
    """Look at this machine; `requirements` replaces the installed package's own (for tests)."""
    driver = look_for_driver()
    if requirements is None:
        components = _installed_components(driver)
    else:
        components = tuple(_component(text, driver) for text in requirements)
    return Diagnosis(
        python=platform.python_version(),
        platform=platform.platform(),
        processor=this_processor(),
        driver=driver,
        components=components,
    )


def _installed_components(driver: NvidiaDriver | None) -> tuple[Component, ...]:
    try:
        package = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        detail = "not installed, so which versions it needs is unknown"
        remedy = "pip install -e ."
        return (Component(_PACKAGE, "", None, Status.MISSING, None, detail, remedy),)
    wanted = [text for text in package.requires or [] if _extra(text) != _FOR_DEVELOPERS]
    itself = Component(_PACKAGE, "", None, Status.OK, package.version, "", None)
    return (itself, *(_component(text, driver) for text in wanted))


def _component(text: str, driver: NvidiaDriver | None) -> Component:
    """Compare one requirement, as package metadata writes it, with what is installed."""
    requirement, extra = Requirement(text), _extra(text)
    name, wanted = requirement.name, str(requirement.specifier)
    if requirement.marker and not requirement.marker.evaluate({"extra": extra or ""}):
        detail = "has no release for this platform"
        return Component(name, wanted, extra, Status.MISSING, None, detail, None)
    what = f"{_PACKAGE}[{extra}]" if extra else f"{name}{wanted}"
    remedy = f'pip install "{what}"'
    version = _installed_version(name)
    if version is None:
        return Component(name, wanted, extra, Status.MISSING, None, "not installed", remedy)
    if not requirement.specifier.contains(version, prereleases=True):
        detail = f"{version} is installed"
        return Component(name, wanted, extra, Status.TOO_OLD, version, detail, remedy)
    try:
        detail = _PROBES[name](driver) if name in _PROBES else ""
    except (CapabilityMissing, ImportError) as error:
        detail = f"installed, but does not load: {error}"
        return Component(name, wanted, extra, Status.MISSING, version, detail, remedy)
    return Component(name, wanted, extra, Status.OK, version, detail, None)


def _extra(text: str) -> str | None:
    """The extra a requirement belongs to; its marker is `…extra == "rtx"`, platform or not."""
    found = re.search(r"""extra == ["']([\w-]+)["']""", text)
    return found.group(1) if found else None


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # The same module under another name, as onnxruntime-gpu provides onnxruntime.
        module = name.replace("-", "_")
        others = importlib.metadata.packages_distributions().get(module, [])
        return importlib.metadata.version(others[0]) if others else None


def _onnxruntime(driver: NvidiaDriver | None) -> str:
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def _openvino(driver: NvidiaDriver | None) -> str:
    from nxmi_export.backends.openvino_library import products

    found = products()
    return f"{found} products" if found == "int8" else f"{found} products, as int8 ones saturate"


def _tensorrt(name: LibraryName) -> Callable[[NvidiaDriver | None], str]:
    def probe(driver: NvidiaDriver | None) -> str:
        library = find_library(name)
        has_gpu = driver is not None and bool(driver.gpus)
        if has_gpu:
            return "builds and runs engines"
        if library.needs_gpu:
            return "finds no GPU, and needs one to build engines"
        return "builds engines without a GPU; running them needs one"

    return probe


_PROBES: Mapping[str, Callable[[NvidiaDriver | None], str]] = MappingProxyType(
    {
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
        "tensorrt-cu13": _tensorrt("tensorrt"),
        "tensorrt-rtx-cu13": _tensorrt("tensorrt_rtx"),
    }
)
