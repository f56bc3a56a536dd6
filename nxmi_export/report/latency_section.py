"""What `bench` found in, HTML tables out: of times, one for each shape of batch, and of memory."""

from base64 import b64encode
from collections.abc import Iterator

from nxmi_export.report.bench_chart import bench_chart
from nxmi_export.report.bench_memory import MEMORY_HEADINGS, memory_caption, memory_rows
from nxmi_export.report.bench_table import bench_caption, comparisons, limits_told
from nxmi_export.report.markup import Html, element, figure, joined, table
from nxmi_export.report.parity_facts import OPEN, Facts

__all__ = ["latency_section"]

_MILLI, _MEGA = 1e3, 1e-6
_HEADINGS = ("", "p50, ms", "p90, ms", "p99, ms", "examples/s", "of limit", "speed")


def latency_section(found: Facts | str | None) -> Iterator[Html]:
    """Times and memory; a text is the reason why there are none to show, None that none are."""
    if not isinstance(found, dict):
        reason = found or "nothing was timed; nxmi-export bench does, and parity shows it"
        yield element("p", OPEN("No latencies"), f": {reason}.")
        return
    where = found["environment"]
    machine = f"{where['processor']}, GPU: {where['gpu']}; threads: {found['settings']['threads']}"
    yield element("p", f"Measured by nxmi-export bench on {machine}.")
    yield element("p", f"{limits_told(found)}.")
    picture = b64encode(bench_chart(found).encode()).decode()
    source = f"data:image/svg+xml;base64,{picture}"
    yield Html(f'<img src="{source}" alt="The speeds of the tables below">')
    baseline = found["contenders"][found["baseline"]]["what"]
    for title, each in comparisons(found):
        yield table(title, _HEADINGS, _rows(found, each))
        yield element("p", bench_caption(each, baseline))
    if not found["memory"]["measured"]:
        yield element("p", OPEN("No memory"), f": {found['memory']['reason']}.")
        return
    yield table("Memory", MEMORY_HEADINGS, _memory(found))
    yield element("p", memory_caption(found))


def _memory(found: Facts) -> Iterator[tuple[str, ...]]:
    for what, each in memory_rows(found):
        if isinstance(each, str):
            yield what, OPEN("not measured"), "", "", each
        else:
            yield what, *(figure(size, ".1f", unit=_MEGA) for size in each)


def _rows(found: Facts, workload: Facts) -> Iterator[tuple[str, ...]]:
    for key, each in workload["results"].items():
        what = found["contenders"][key]["what"]
        if not each["ran"]:
            yield what, OPEN("not run"), "", "", "", "", each["reason"]
            continue
        call, speedup = each["call"], each["speedup"]
        yield (
            what,
            *(figure(call[name], ".4g", unit=_MILLI) for name in ("p50", "p90", "p99")),
            figure(each["examples_per_second"], ".1f"),
            _share(each["of_int8_limit"]),
            joined(_speed(speedup)) if speedup else "",
        )


def _share(limit: float | None) -> Html:
    return Html("") if limit is None else Html(f"{figure(limit, '.0f', unit=100)} %")


def _speed(speedup: Facts) -> Iterator[Html]:
    yield Html(f"{figure(speedup['median'], '.2f')}×")
    if speedup["low"] is not None:
        yield Html(f" ({figure(speedup['low'], '.2f')} to {figure(speedup['high'], '.2f')})")
