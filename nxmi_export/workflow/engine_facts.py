"""`engine.json` of an artefact in, what is needed to run or rebuild its plan out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nxmi_export.artefact import MODEL, Artefact
from nxmi_export.backends.tensorrt_engine import EngineOptions, Shape, ShapeProfile
from nxmi_export.backends.tensorrt_engine.library import LibraryName
from nxmi_export.errors import ArtefactError
from nxmi_export.workflow.build import ENGINE_FACTS, PLAN

__all__ = ["EngineFacts"]

_OPTIONS = ("workspace_bytes", "optimization_level", "tf32")  # that another build should repeat


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
            options = facts.get("options", {})
            return cls(
                library=facts["library"]["name"],
                version=facts["library"]["version"],
                graph=facts.get("graph", {}).get("name", MODEL),
                profiles=_profiles(facts, limit),
                options=EngineOptions(**{key: options[key] for key in _OPTIONS if key in options}),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(
                path,
                expected="the facts of an engine, as nxmi-export build writes them",
                found=f"{type(error).__name__} {error}",
                remedy="build the engine again",
            ) from error


def _profiles(facts: Mapping[str, Any], position_limit: int) -> tuple[ShapeProfile, ...]:
    """A profile is text in the first version of engine.json, and pairs of sizes in the next."""
    if "shapes" in facts:
        return (ShapeProfile.parse(facts["shapes"], position_limit=position_limit),)
    return tuple(
        ShapeProfile(Shape(*each["min"]), Shape(*each["opt"]), Shape(*each["max"]), position_limit)
        for each in facts["profiles"]
    )
