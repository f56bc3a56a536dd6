"""A parity run in, one self-contained HTML page out: nothing is loaded from elsewhere.

The verdict, every dev set's scores with what they prove, the ladder of each and the examples it
changed, what is proved of the files, their sizes, and where all of it comes from. It follows the
reader's theme and fits a phone; every number carries its exact value from the JSON of the run.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from nxmi_export.artefact import Artefact
from nxmi_export.parity import Stage
from nxmi_export.report.certificate_section import certificate_section
from nxmi_export.report.changed_examples import changed_examples
from nxmi_export.report.drift_section import drift_section
from nxmi_export.report.evidence_tables import (
    checks_table,
    codes_table,
    probes_table,
    proof_table,
    shapes_table,
    sizes_table,
    storage_table,
)
from nxmi_export.report.ladder_chart import NARROW, ladder_chart
from nxmi_export.report.latency_section import latency_section
from nxmi_export.report.markup import Html, bullets, element, figure, joined, table
from nxmi_export.report.parity_facts import OPEN, Facts, holds, split_name, step_of
from nxmi_export.report.parity_page_style import PARITY_PAGE_STYLE
from nxmi_export.report.score_rows import conclusion, scores_table, statistics_told

__all__ = ["parity_page"]


def parity_page(
    document: Facts,
    artefact: Artefact,
    *,
    engine: Facts | None = None,
    commands: Sequence[str] = (),
    certificate: Facts | str | None = None,
    bench: Facts | str | None = None,
) -> str:
    """The HTML document; `document` is `run_document`, `engine` the content of engine.json.

    `commands` make the artefact and the run again, one a line. `certificate` is the content of
    certificate.json, or why that is not valid, and None where there is none; so is `bench` of
    bench.json.
    """
    title = f"Parity {'passed' if document['ok'] else 'failed'}: {artefact.directory.name}"
    sections = {
        "Dev sets": (scores_table(document),),
        **{split_name(each): tuple(_split(document, each, engine)) for each in document["splits"]},
        **({"Drift by layer": drift} if (drift := drift_section(document)) else {}),
        "What is proved of the files": (proof_table(document, engine),),
        **_certificate(certificate),
        "Sizes": (sizes_table(artefact.manifest), storage_table(artefact.manifest)),
        "Latencies": tuple(latency_section(bench)),
        "Where this comes from": tuple(_provenance(document, artefact, engine, commands)),
    }
    body = element(
        "body",
        element("header", *_opening(document, artefact)),
        _contents(sections),
        element("main", *(_section(*each) for each in enumerate(sections.items()))),
    )
    return f"<!doctype html>\n{element('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Html:
    fits = "width=device-width, initial-scale=1"
    return element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta name="viewport" content="{fits}">'),
        element("title", title),
        element("style", Html(PARITY_PAGE_STYLE)),
    )


def _contents(sections: Mapping[str, object]) -> Html:
    links = (element("a", name, href=f"#section-{number}") for number, name in enumerate(sections))
    return element("nav", joined(links, " "), aria_label="Sections of this page")


def _section(number: int, named: tuple[str, Sequence[str]]) -> Html:
    name, content = named
    place = f"section-{number}"
    heading = element("h2", name, id=f"{place}-name")
    return element("section", heading, *content, id=place, aria_labelledby=f"{place}-name")


def _opening(document: Facts, artefact: Artefact) -> Iterator[Html]:
    ok, source = document["ok"], artefact.manifest.source
    mark = holds(ok)
    failures = [
        f"{split_name(split)}: {failure}"
        for split in document["splits"]
        for failure in split["failures"]
    ]
    yield element(
        "div",
        element("h1", mark(f"Parity {'passed' if ok else 'failed'}")),
        element("p", f"{artefact.directory}, exported from {source.path}"),
        bullets(failures),
        class_=f"verdict {mark.style}",
    )
    for title, sentences in (
        ("Not decided", list(_undecided(document))),
        ("Warnings", document["warnings"]),
    ):
        if sentences:
            yield element("h2", OPEN(title))
            yield bullets(sentences)
    yield _figures(document)


def _undecided(document: Facts) -> Iterator[str]:
    for split in document["splits"]:
        for check in split["checks"]:
            if check["undecided"]:
                yield f"{split_name(split)}: {check['undecided']}"


def _figures(document: Facts) -> Html:
    splits, family, terms = document["splits"], document["family"], document["gate"]["terms"]
    deployed = [step_of(each, Stage.COMPRESSED, Stage.OPTIMIZED) for each in splits]
    written = [step_of(each, Stage.COMPRESSED, Stage.WRITTEN) for each in splits]
    changed = sum(len(each["comparison"]["changes"]) for each in deployed if each)
    figures = {
        "all dev sets together": conclusion(document["conclusion"]) if family else "not compared",
        "dev sets that passed": f"{sum(each['ok'] for each in splits)} of {len(splits)}",
        "predictions changed, deployed": (
            f"{changed} of {sum(each['comparison']['examples'] for each in deployed if each)}"
        ),
        "unexplained, ONNX as written": str(
            sum(len(each["unexplained"]) for each in written if each)
        ),
        "margin": joined((figure(terms["margin"], "g", unit=100), " points")),
        "confidence": joined((figure(terms["confidence"], "g", unit=100), " %")),
    }
    cells = (
        element("div", element("dt", name), element("dd", value)) for name, value in figures.items()
    )
    return element("dl", *cells, class_="figures")


def _split(document: Facts, split: Facts, engine: Facts | None) -> Iterator[Html]:
    yield element("div", ladder_chart(split, engine), class_="wide")
    yield element("div", ladder_chart(split, engine, NARROW), class_="narrow")
    yield from statistics_told(document, split)
    for candidate in (Stage.WRITTEN, Stage.OPTIMIZED, Stage.OPENVINO):
        if step := step_of(split, Stage.COMPRESSED, candidate):
            yield changed_examples(split, step)
    yield checks_table(split)
    yield from shapes_table(split)
    yield from probes_table(split)
    yield from codes_table(split)


def _certificate(found: Facts | str | None) -> dict[str, tuple[Html, ...]]:
    return {} if found is None else {"Deployment certificate": tuple(certificate_section(found))}


def _provenance(
    document: Facts, artefact: Artefact, engine: Facts | None, commands: Sequence[str]
) -> Iterator[Html]:
    if commands:
        yield element("h3", "Commands that make it again")
        yield element("pre", element("code", "\n".join(commands)))
    manifest = artefact.manifest
    facts = {
        "artefact": {"created": manifest.created, "architecture": manifest.architecture},
        "checkpoint": document["checkpoint"],
        "training": manifest.provenance,
        "gate": document["gate"],
        "max length": document["max_length"],
        "data": {split_name(each): each["dataset"] for each in document["splits"]},
        "exported with": manifest.versions,
        "compared with": document["splits"][0]["environment"] if document["splits"] else {},
        "engine": {key: engine[key] for key in _OF_ENGINE} if engine else {},
    }
    yield table("Facts", ("fact", "value"), _flat(facts))
    yield element("h3", "Recipe")
    recipe = json.dumps(manifest.recipe, indent=1) if manifest.recipe else "none: a dense model"
    yield element("pre", element("code", recipe))


_OF_ENGINE = ("graph", "plan", "library", "compute_capabilities", "profiles")


def _flat(facts: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as rows: "data slice examples" and its value; null is no fact."""
    for key, value in facts.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        elif isinstance(value, bool | str):
            yield name, str(value)
        elif isinstance(value, int | float):
            yield name, figure(value, "")
        elif value is not None:
            yield name, json.dumps(value)
