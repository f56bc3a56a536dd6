"""What a build leaves behind, by name: in an artefact, or beside a plan of its own."""

from dataclasses import dataclass

from nxmi_export.artefact import BUILD_LOG, ENGINE_FACTS, PLAN

__all__ = ["IN_ARTEFACT", "EngineFiles"]


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """File names inside one folder, as users of trtexec expect them."""

    plan: str
    facts: str
    log: str
    layers: str
    trtexec: str
    timing_cache: str
    failed_log: str  # of the latest build if it failed; never part of an artefact

    @classmethod
    def beside(cls, plan: str) -> "EngineFiles":
        """Those of a plan outside an artefact: `bert.plan` has `bert.engine.json` beside it."""
        stem = plan.rpartition(".")[0]
        return cls(
            plan=plan,
            facts=f"{stem}.engine.json",
            log=f"{stem}.build.log",
            layers=f"layers_{stem}.json",
            trtexec=f"{stem}.trtexec.txt",
            timing_cache=f"{stem}.timing.cache",
            failed_log=f"{stem}.build.failed.log",
        )


IN_ARTEFACT = EngineFiles(
    plan=PLAN,
    facts=ENGINE_FACTS,
    log=BUILD_LOG,
    layers="layers_model.json",
    trtexec="trtexec.txt",
    timing_cache="timing.cache",
    failed_log="build.failed.log",
)
