"""A finished step or epoch in, one record in TensorBoard or MLflow out, through accelerate."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nxmi_export.errors import CapabilityMissing
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.compress.request import TrackerName
from nxmi_export.workflow.compress.run_log import Entry

__all__ = ["check_tracker", "tracking"]

_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",)}
_INSTALL = {"tensorboard": '"nxmi-export[tracking]"', "mlflow": "mlflow"}


def check_tracker(name: TrackerName | None) -> None:
    """Raise CapabilityMissing where no package of the tracker is installed."""
    if name is not None and not any(map(find_spec, _PACKAGES[name])):
        raise CapabilityMissing(
            f"the tracker {name}",
            expected=f"an installed {' or '.join(_PACKAGES[name])}",
            found="none",
            remedy=f"run `pip install {_INSTALL[name]}`",
        )


@contextmanager
def tracking(
    name: TrackerName | None, run: str, folder: Path, recipe: Recipe
) -> Iterator["_Track | None"]:
    """What records the entries of the run's log, with the recipe as its settings; closed after.

    TensorBoard's event files go to `folder`. MLflow records where MLFLOW_TRACKING_URI says or its
    own default is; `folder` only becomes the place for artefacts of a new experiment, `run`.
    """
    if name is None:
        yield None
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker = LOGGER_TYPE_TO_CLASS[name](run, logging_dir=str(folder))
    tracker.start()
    try:
        tracker.store_init_configuration(_settings(recipe))
        yield _Track(tracker)
    finally:
        tracker.finish()


def _settings(recipe: Recipe) -> dict[str, Any]:
    facts = recipe.as_mapping()
    # MLflow refuses names with a star, and patterns of module names have one.
    facts["overrides"] = str(facts["overrides"])
    return _flat(facts)


class _Track:
    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def add(self, entry: Entry) -> None:
        """Record the numbers of one line of the log under its step."""
        facts = {name: each for name, each in entry.items() if name not in {"event", "step"}}
        numbers = {
            name: value for name, value in _flat(facts).items() if isinstance(value, int | float)
        }
        self._tracker.log(numbers, step=entry["step"])


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; what is no number becomes text, None goes."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)
    return flat
