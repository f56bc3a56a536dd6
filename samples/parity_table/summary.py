"""A parity document in, what the table and its tests need of it out."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["summary_of"]


def summary_of(parity: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict and, by split, what each rung scored and which steps changed how many."""
    return {
        "ok": parity["ok"],
        "conclusion": parity["conclusion"],
        "warnings": parity["warnings"],
        "splits": [_split(each) for each in parity["splits"]],
    }


def _split(split: Mapping[str, Any]) -> dict[str, Any]:
    dataset = split["dataset"]
    return {
        "split": dataset["split"],
        "examples": dataset["examples"],
        "data_sha256": dataset["sha256"],
        "failures": split["failures"],
        "checks": len(split["checks"]),
        "rungs": {
            name: {"examples": rung["examples"], "primary": rung["primary"], **rung["scores"]}
            for name, rung in split["rungs"].items()
        },
        "steps": [_step(each) for each in split["steps"]],
        "weights_equal": {name: each["equal"] for name, each in split["weights"].items()},
        "shapes": {
            "settings": sum(len(each["settings"]) for each in split["shapes"]),
            "changed": sum(_settings(split, "changed")),
            "unexplained": sum(_settings(split, "unexplained")),
        },
        "probes": _probes(split["probes"]),
    }


def _settings(split: Mapping[str, Any], name: str) -> Iterable[Any]:
    return (setting[name] for shape in split["shapes"] for setting in shape["settings"])


def _probes(probes: Mapping[str, Any]) -> dict[str, Any]:
    replayed = [each for step in probes["steps"] for each in step["replayed"]]
    return {
        "tokens": probes["reach"]["tokens"],
        "positions": probes["sizes"]["positions"],
        "replayed": len(replayed),
        "replays_unexplained": sum(not each["explained"] for each in replayed),
    }


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    replayed = step["replayed"]
    return {
        "reference": step["reference"],
        "candidate": step["candidate"],
        "examples": step["comparison"]["examples"],
        "changed": len(step["comparison"]["changes"]),
        "different": step["comparison"]["different"],
        "unexplained": len(step["unexplained"]),
        "replayed": len(replayed),
        "replays_unexplained": sum(not each["explained"] for each in replayed),
        "largest_logit_gap": step["comparison"]["largest_logit_gap"],
    }
