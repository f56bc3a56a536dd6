"""How fast N:M projection is, in weights per second, next to a plain `topk`, in one run.

    python -m samples.bench_projection [--rounds 9] [--threads 1] [--json FILE]

Every implementation prunes the FFN weight of a BERT-base, (3072, 768) in float32, in place. They
take turns in every round, so that whatever else the machine does reaches all of them, and the
ratios are medians over rounds. The stable sort is the plain way to the same masks; `topk` breaks
ties as it likes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nxmi_export.compression.sparsity import apply_mask, pattern_mask
from nxmi_export.processor import this_processor
from nxmi_export.recipe import Pattern, Scheme

SHAPE = (3072, 768)
PATTERNS = ("1:2", "2:4", "1:4", "4:8", "8:16", "16:32")
SEED = 0


def packaged(weight: Tensor, pattern: Pattern) -> None:
    """The projection of this package."""
    apply_mask(weight, pattern_mask(weight, pattern))


def plain_topk(weight: Tensor, pattern: Pattern) -> None:
    """What one writes first: `topk` of every group, scattered into a mask."""
    groups = weight.abs().reshape(-1, pattern.group)
    kept = groups.topk(pattern.keep, dim=-1).indices
    weight.mul_(torch.zeros_like(groups).scatter_(-1, kept, 1.0).reshape(weight.shape))


def stable_sort(weight: Tensor, pattern: Pattern) -> None:
    """The same with ties decided, by the lowest index."""
    groups = weight.abs().reshape(-1, pattern.group)
    order = torch.argsort(groups, dim=-1, descending=True, stable=True)
    kept = order[:, : pattern.keep]
    weight.mul_(torch.zeros_like(groups).scatter_(-1, kept, 1.0).reshape(weight.shape))


IMPLEMENTATIONS: dict[str, Callable[[Tensor, Pattern], None]] = {
    "packaged": packaged,
    "topk": plain_topk,
    "stable sort": stable_sort,
}


def main() -> None:
    """Measure every pattern; print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"float32 {SHAPE}, {options.threads} thread(s), medians of {options.rounds} rounds")
    print(f"{'pattern':>8}{'weights/s':>12}{'of topk':>10}{'of a stable sort':>18}")
    rows = [measured(text, options.rounds) for text in PATTERNS]
    if options.json:
        facts = {"shape": SHAPE, "threads": options.threads, "rounds": options.rounds}
        facts |= {"machine": str(this_processor())}
        versions = {"torch": torch.__version__}
        text = json.dumps({**facts, "versions": versions, "patterns": rows}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")


def measured(text: str, rounds: int) -> dict[str, Any]:
    """The row of one pattern, printed."""
    pattern = Scheme.parse(text).pattern
    assert pattern is not None
    weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))
    _check_agreement(weight, pattern)
    seconds = _seconds(weight, pattern, rounds)
    speed = weight.numel() / statistics.median(seconds["packaged"])
    ratios = {
        name: statistics.median(
            other / own for other, own in zip(seconds[name], seconds["packaged"], strict=True)
        )
        for name in ("topk", "stable sort")
    }
    print(
        f"{text:>8}{speed / 1e6:>10.0f} M{ratios['topk']:>9.1f}×{ratios['stable sort']:>17.1f}×",
        flush=True,
    )
    return {"pattern": text, "weights_per_second": round(speed), "times_as_fast_as": ratios}


def _check_agreement(weight: Tensor, pattern: Pattern) -> None:
    """Random weights have no ties, so all implementations must agree about them."""
    results = []
    for project in IMPLEMENTATIONS.values():
        results.append(weight.clone())
        project(results[-1], pattern)
    if not all(torch.equal(result, results[0]) for result in results):
        raise SystemExit(f"the implementations disagree about {pattern}")


def _seconds(weight: Tensor, pattern: Pattern, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in IMPLEMENTATIONS}
    for _ in range(rounds):
        for name, project in IMPLEMENTATIONS.items():
            copy = weight.clone()
            start = time.perf_counter()
            project(copy, pattern)
            seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
