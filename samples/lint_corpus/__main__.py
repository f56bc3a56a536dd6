"""Lint and build every bad graph of the corpus, or print what was found.

    python -m samples.lint_corpus              all of it, a few minutes; writes the results
    python -m samples.lint_corpus --print      the table, in Markdown

Each graph must break its rule and no other before it is built by TensorRT-RTX, which needs no GPU.
The results, with the library's version, are samples/results/lint_corpus.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.output_files import atomic_file
from passes.lint import RULES, lint
from samples.bad_graphs import BAD_GRAPHS, BadGraph
from samples.bad_graphs.good_graph import load_graph, write_good_artefact
from samples.lint_corpus.outcome import Built, attempt, compare
from samples.lint_corpus.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "lint_corpus.json"


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--print", action="store_true", dest="show")
    if not parser.parse_args().show:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(Path(folder), find_library("tensorrt_rtx"))
        with atomic_file(RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))))


def measure(
    folder: Path, library: Library, graphs: tuple[BadGraph, ...] = BAD_GRAPHS
) -> dict[str, Any]:
    """What the linter and the library say of every graph."""
    path = write_good_artefact(folder)
    good = attempt(load_graph(path), folder, library)
    if not isinstance(good, Built):
        raise SystemExit(f"the good graph is {good.effect}: {good.reason}")
    rows = []
    for bad in graphs:
        rows.append(row_of(bad, path, folder, library, good))
        print(f"{bad.name}: {rows[-1]['effect']}", file=sys.stderr, flush=True)
    return {
        "library": {"name": library.name, "version": library.version},
        "good": str(good),
        "graphs": rows,
    }


def row_of(
    bad: BadGraph, path: Path, folder: Path, library: Library, good: Built
) -> dict[str, str]:
    """One bad graph, linted and then built."""
    model = load_graph(path)
    bad.mutate(model)
    broken = {finding.rule for finding in lint(model, **bad.options)}
    if broken != {bad.rule}:
        raise SystemExit(f"{bad.name}: breaks {sorted(broken)} instead of its rule alone")
    effect, evidence = compare(attempt(model, folder, library, **bad.options), good)
    severity = next(rule.severity for rule in RULES if rule.name == bad.rule)
    return {
        "name": bad.name,
        "rule": bad.rule,
        "severity": severity,
        "effect": effect,
        "evidence": evidence,
        "unseen": bad.unseen,
    }


if __name__ == "__main__":
    main()
