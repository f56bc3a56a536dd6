"""`engine.json` of an artefact in, what is needed to run or rebuild its plan out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nxmi_export.artefact import ENGINE_FACTS, MODEL, PLAN, Artefact
from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    HardwareCompatibility,
    Shape,
    ShapeProfile,
)
from nxmi_export.backends.tensorrt_engine.library import LibraryName
from nxmi_export.errors import ArtefactError

__all__ = ["EngineFacts"]

# What another build of the same graph should repeat, written as it is used.
_OPTIONS = (
    "workspace_bytes",
    "optimization_level",
    "tf32",
    "version_compatible",
    "refit",
    "strip_weights",
)


@dataclass(frozen=True)
class EngineFacts:
    """How the plan of an artefact was built."""

    library: LibraryName
    version: str  # of the library; a plan loads in no other
    graph: str  # the artefact's file that was built
    profiles: tuple[ShapeProfile, ...]
    options: EngineOptions

    @classmethod
    def read(cls, artefact: Artefact) -> "EngineFacts | None":
        """None where the artefact has no engine; raises ArtefactError for another layout."""
        if PLAN not in artefact.manifest.files:
            return None
        path = artefact.path(ENGINE_FACTS)
        limit = artefact.manifest.position_limit
        try:
            facts = json.loads(path.read_bytes())
            found = cls(
                library=facts["library"]["name"],
                version=facts["library"]["version"],
                graph=facts.get("graph", {}).get("name", MODEL),
                profiles=_profiles(facts, limit),
                options=_options(facts.get("options", {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(
                path,
                expected="the facts of an engine, as nxmi-export build writes them",
                found=f"{type(error).__name__} {error}",
                remedy="build the engine again",
            ) from error
        _check_hashes(artefact, facts, found.graph)
        return found


def _check_hashes(artefact: Artefact, facts: Mapping[str, Any], graph: str) -> None:
    """Refuse facts of another plan, or of one that was built from another graph.

    Versions before the hashes were recorded tell none, and bind nothing.
    """
    for name, told in ((PLAN, facts.get("plan")), (graph, facts.get("graph"))):
        digest = told.get("sha256") if isinstance(told, Mapping) else None
        record = artefact.manifest.files.get(name)
        if digest is not None and (record is None or record.sha256 != digest):
            raise ArtefactError(
                artefact.path(ENGINE_FACTS),
                expected=f"the facts of an engine of this artefact's {name}",
                found=f"one of a {name} with SHA-256 {digest[:12]}…",
                remedy="build the engine again",
            )


def _options(told: Mapping[str, Any]) -> EngineOptions:
    """Earlier versions of engine.json tell fewer of them; those keep their defaults."""
    none = HardwareCompatibility.NONE
    return EngineOptions(
        compute_capabilities=tuple(told.get("compute_capabilities", ())),
        hardware_compatibility=HardwareCompatibility(told.get("hardware_compatibility", none)),
        **{key: told[key] for key in _OPTIONS if key in told},
    )


def _profiles(facts: Mapping[str, Any], position_limit: int) -> tuple[ShapeProfile, ...]:
    """A profile is text in the first version of engine.json, and pairs of sizes in the next."""
    if "shapes" in facts:
        return (ShapeProfile.parse(facts["shapes"], position_limit=position_limit),)
    return tuple(
        ShapeProfile(Shape(*each["min"]), Shape(*each["opt"]), Shape(*each["max"]), position_limit)
        for each in facts["profiles"]
    )
