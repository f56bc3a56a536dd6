"""An artefact in, how fast everything that can run it is out."""

from nxmi_export.workflow.bench.request import BenchRequest, TextsRequest
from nxmi_export.workflow.bench.run import EngineProfile, bench, profile_engine

__all__ = ["BenchRequest", "EngineProfile", "TextsRequest", "bench", "profile_engine"]
