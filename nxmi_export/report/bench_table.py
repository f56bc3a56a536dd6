"""The content of `bench.json` in, one table for each shape of batch out; nothing is left out."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

__all__ = [
    "bench_caption",
    "bench_notes",
    "bench_tables",
    "comparisons",
    "limits_told",
    "logits_told",
]

_BUSY_CORES = 0.1  # that others use, beyond which the times are theirs too
_GIGA = 1e9
_BUSY_SPREAD = 1.25  # p50 over p10


def bench_tables(document: Mapping[str, Any]) -> list[Table]:
    """Milliseconds by contender, and how many times faster than the baseline."""
    return [_table(document, found, title) for title, found in comparisons(document)]


def comparisons(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything that was timed, each with its title: shapes of batches, then texts."""
    for found in document["workloads"]:
        yield f"Batch {found['batch']} x {found['sequence']} tokens", found
    for found in document["texts"]:
        yield _texts_told(found), found


def _texts_told(found: Mapping[str, Any]) -> str:
    """Which texts, how they are batched, and how much of what is run is padding."""
    padding = 1 - found["tokens"] / found["padded_tokens"]
    mean = found["tokens"] / found["examples"]
    length = f"{mean:.0f} tokens on average"
    return f"{found['source']}, {length}, {found['batching']}: {padding:.0%} padding"


def bench_notes(document: Mapping[str, Any]) -> list[str]:
    """Why what did not run did not, each reason once, and what the limit is; as markup."""
    notes: dict[str, None] = {}
    for _, found in comparisons(document):
        for key, each in found["results"].items():
            if not each["ran"]:
                what = document["contenders"][key]["what"]
                notes[f"[yellow]not run:[/] {escape(what)}: {escape(each['reason'])}"] = None
    return [*notes, escape(limits_told(document))]


def limits_told(document: Mapping[str, Any]) -> str:
    """What "of limit" means, in a sentence."""
    peaks = document["peaks"]
    if not peaks["measured"]:
        return f"no limit: {peaks['reason']}"
    rates = {name: rate / _GIGA for name, rate in peaks["operations_per_second"].items()}
    return (
        f"limit: linears at {rates['int8']:.0f} billion INT8 operations a second and attention at "
        f"{rates['float32']:.0f} billion in float32, which large products reach here on "
        "onnxruntime's exact kernels, and nothing else; the share that the median run reaches"
    )


def logits_told(distance: float | str) -> str:
    """How far logits are from those of the same file with exact products, in a phrase."""
    number = distance if isinstance(distance, str) else f"{distance:.2g}"
    return f"logits up to {number} away from exact products"


def bench_caption(found: Mapping[str, Any], baseline: str) -> str:
    """How one shape was measured, and what disturbed it."""
    ran = [each for each in found["results"].values() if each["ran"]]
    runs = max((each["call"]["runs"] for each in ran), default=0)
    text = [f"{runs} runs each in {found['rounds']} rounds; speed is against {baseline}, with its"]
    text += ["95 % interval, compared round by round."]
    cores, spread = found["other_cores"], max((each["call"]["spread"] for each in ran), default=1)
    if cores is None:
        text.append("What other processes did meanwhile is unknown here.")
    elif cores > _BUSY_CORES:
        text.append(f"Other processes kept {cores:.1f} processors busy: measure again when idle.")
    if spread > _BUSY_SPREAD:
        text.append(f"The median was up to {spread:.2f} times what an undisturbed run takes.")
    return " ".join(text)


def _table(document: Mapping[str, Any], found: Mapping[str, Any], title: str) -> Table:
    baseline = document["contenders"][document["baseline"]]["what"]
    table = Table(
        title=title,
        title_justify="left",
        caption=bench_caption(found, baseline),
        caption_justify="left",
    )
    table.add_column("", overflow="fold")
    for heading in ("p50, ms", "p90, ms", "p99, ms", "examples/s", "of limit", "speed"):
        table.add_column(heading, justify="right", overflow="fold")
    for key, each in found["results"].items():
        what = escape(document["contenders"][key]["what"])
        if not each["ran"]:
            table.add_row(what, "[yellow]not run[/]", *[""] * 5)
            continue
        rate = f"{each['examples_per_second']:.1f}"
        speed, limit = _speed(each["speedup"]), _of_limit(each["of_int8_limit"])
        table.add_row(what, *_milliseconds(each["call"]), rate, limit, speed)
        if each["gpu"] is not None:
            table.add_row("  the GPU alone", *_milliseconds(each["gpu"]), "", "", "")
        if distance := each.get("logits_from_exact"):  # 0 is exact, and nothing need be said
            table.add_row(f"  [yellow]{logits_told(distance)}[/]", *[""] * 6)
    return table


def _milliseconds(latency: Mapping[str, Any]) -> list[str]:
    return [f"{1e3 * latency[name]:.4g}" for name in ("p50", "p90", "p99")]


def _of_limit(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _speed(speedup: Mapping[str, Any] | None) -> str:
    if speedup is None:
        return ""
    interval = "" if speedup["low"] is None else f" ({speedup['low']:.2f}–{speedup['high']:.2f})"
    return f"{speedup['median']:.2f}x{interval}"
