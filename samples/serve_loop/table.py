"""The figures of a run in, rows of two columns out."""

from typing import Any

__all__ = ["table"]


def table(result: dict[str, Any]) -> str:
    """The figures as rows of two columns."""
    memory, latency = result["memory"], result["latency ms"]
    others = result["processors others kept busy"]
    rows = {
        "model": f"{result['model']}, {result['task']}",
        "load": f"{result['clients']} clients, {result['minutes']:g} minutes, "
        f"threads={result['threads']}; others kept {others} processors busy",
        "requests": f"{result['requests']} ({result['requests a second']:g} a second, "
        f"{result['texts a second']:g} texts a second)",
        "errors": f"{result['errors']}" + (f" ({result['first error']})" * bool(result["errors"])),
        "wrong answers": f"{result['wrong answers']}",
        "latency": ", ".join(f"{name} {value:g} ms" for name, value in latency.items()),
        "memory": f"{memory['loaded MB']:g} MB loaded, {memory['warm MB']:g} warm, "
        f"{memory['last MB']:g} last, {memory['largest MB']:g} largest",
        "slope": f"{memory['slope MB per hour']:+g} ± {memory['standard error']:g} MB an hour"
        f"{', growth' if memory['grew'] else ''}",
        "machine": result["machine"],
    }
    return "\n".join(f"{name:14} {text}" for name, text in rows.items())
