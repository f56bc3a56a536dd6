"""The figures of runs in, a table of two columns or of one row a run in Markdown out."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["markdown", "table"]

_HEADINGS = (
    *("model", "clients, minutes", "requests (a second)", "errors, wrong answers"),
    *("p50, p95, p99 ms", "anonymous MB: loaded, warm, last", "in ten minutes (95 %)", "verdict"),
)
_KINDS = ("resident MB", "anonymous MB", "mapped MB")


def table(result: dict[str, Any]) -> str:
    """The figures as rows of two columns."""
    others = result["processors others kept busy"]
    rows = {
        "model": f"{result['model']}, {result['task']}, {result['library']}",
        "load": f"{result['clients']} clients, {result['minutes']:g} minutes, "
        f"threads={result['threads']}; others kept {others} processors busy",
        "requests": f"{result['requests']} ({result['requests a second']:g} a second, "
        f"{result['texts a second']:g} texts a second)",
        "errors": f"{result['errors']}" + (f" ({result['first error']})" * bool(result["errors"])),
        "wrong answers": f"{result['wrong answers']}",
        "latency": ", ".join(f"{name} {ms:g} ms" for name, ms in result["latency ms"].items()),
        **{name.removesuffix(" MB"): _stages(result, name) for name in _KINDS},
        "growth": f"{result['memory']['verdict']}: anonymous memory by {_slope(result)} MB in ten "
        f"minutes, at most {_in_ten_minutes(result)['tolerated']:g} is tolerated; over the last "
        f"{_in_ten_minutes(result)['over the last seconds']:g} s",
        "machine": result["machine"],
    }
    return "\n".join(f"{name:14} {text}" for name, text in rows.items())


def markdown(results: Path) -> str:
    """One row for each result file in the folder, by name."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))
    ]
    lines = [f"| {' | '.join(_HEADINGS)} |", "|" + "---|" * len(_HEADINGS)]
    lines += [f"| {' | '.join(_row(each))} |" for each in found]
    notes = dict.fromkeys(_note(each) for each in found)
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _row(result: dict[str, Any]) -> Iterable[str]:
    latency, memory = result["latency ms"], result["memory"]
    stages = memory["anonymous MB"]
    return (
        f"{result['model']}, {result['library']}",
        f"{result['clients']}, {result['minutes']:g}",
        f"{result['requests']} ({result['requests a second']:g})",
        f"{result['errors']}, {result['wrong answers']}",
        ", ".join(f"{latency[name]:g}" for name in ("p50", "p95", "p99")),
        ", ".join(f"{stages[name]:g}" for name in ("loaded", "warm", "last")),
        _slope(result),
        memory["verdict"],
    )


def _note(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    others = result["processors others kept busy"]
    return f"{result['machine']}; {versions}; others kept {others} processors busy"


def _stages(result: dict[str, Any], kind: str) -> str:
    return ", ".join(f"{each:g} MB {name}" for name, each in result["memory"][kind].items())


def _in_ten_minutes(result: dict[str, Any]) -> dict[str, float]:
    slope: dict[str, float] = result["memory"]["anonymous MB in ten minutes"]
    return slope


def _slope(result: dict[str, Any]) -> str:
    slope = _in_ten_minutes(result)
    return f"{slope['slope']:+g} ({slope['low']:+g} to {slope['high']:+g})"
