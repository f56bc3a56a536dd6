"""The files that a parity run leaves: their places checked before the work, written after it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nxmi_export.artefact import CERTIFICATE, MANIFEST, Artefact
from nxmi_export.cli.console import write_json, write_text
from nxmi_export.cli.parity_again import commands_again
from nxmi_export.errors import ArtefactError, OutputError
from nxmi_export.output_files import check_place

if TYPE_CHECKING:
    # These load torch, and --help should not.
    from nxmi_export.parity import ParityRun
    from nxmi_export.parity.bisect import Bisection
    from nxmi_export.workflow.parity import ParityRequest

__all__ = ["check_writable", "write_results"]


def check_writable(files: Mapping[str, Path], artefact: Artefact) -> None:
    """Refuse a place for a result before the work is done, not after.

    What the artefact is made of is no such place: it would be one no more.
    """
    for option, path in files.items():
        check_place(path, option=option)
        if own := _own_file(path, artefact):
            raise OutputError(
                path,
                expected="a file that is no part of the artefact",
                found=f"its {own}",
                remedy=f"choose another with {option}",
            )
    places = Counter(path.resolve() for path in files.values())
    shared = {option: path for option, path in files.items() if places[path.resolve()] > 1}
    if shared:
        raise OutputError(
            ", ".join(shared),
            expected="a file each",
            found=", ".join(map(str, shared.values())),
            remedy="give them different names",
        )


def write_results(
    artefact: Artefact,
    request: "ParityRequest",
    run: "ParityRun",
    engine: dict[str, Any] | None,
    files: Mapping[str, Path],
) -> tuple[dict[Path, str], list[Path]]:
    """The JSON, the page beside it, and the summaries that were asked for; each whole or not.

    The manifest does not list them: they say what was found of the artefact and are no part of it.
    Returns what was written, in a word each, and the recipes of earlier runs that were deleted: a
    search that ended without layers refutes them, one that was interrupted before it found any
    does not.
    """
    from nxmi_export.parity.document import run_document
    from nxmi_export.report.junit import junit_xml
    from nxmi_export.report.markdown_summary import markdown_summary
    from nxmi_export.report.parity_page import parity_page

    document = run_document(
        artefact,
        run,
        checkpoint=request.checkpoint or artefact.source(),
        max_length=min(request.max_length, artefact.manifest.position_limit),
        limit=request.limit if _is_cut(request, run) else None,
        gate=request.gate,
        allowances=(*request.allowances, *_too_short(request, artefact)),
    )
    write_json(files["-o"], document)
    page = parity_page(
        document,
        artefact,
        engine=engine,
        commands=commands_again(artefact, request),
        certificate=_certificate(artefact),
        bench=_bench(artefact),
    )
    write_text(files["--html"], page)
    written, deleted = {files["-o"]: "everything", files["--html"]: "a page"}, []
    if path := files.get("--junit"):
        write_text(path, junit_xml(run))
        written[path] = "a summary"
    if path := files.get("--markdown"):
        write_text(path, markdown_summary(run, artefact))
        written[path] = "a summary"
    for path, found in _bisected(run, files):
        if found.layers:
            _write_exclusions(path, artefact, found)
            written[path] = "a recipe"
        elif path.exists():
            path.unlink()
            deleted.append(path)
    return written, deleted


def _is_cut(request: "ParityRequest", run: "ParityRun") -> bool:
    """Whether there may be examples that were not run."""
    datasets = [split.result.dataset for split in run.splits]
    return request.limit is not None and not all(
        each is not None and len(each) < request.limit for each in datasets
    )


def _too_short(request: "ParityRequest", artefact: Artefact) -> Iterator[str]:
    """Texts were cut to fewer tokens than by default, in training and by the model."""
    usual, manifest = type(request)(request.task, request.data_dir).max_length, artefact.manifest
    options = manifest.provenance.get("options")
    trained = options.get("max_length") if isinstance(options, dict) else None
    trained = trained if isinstance(trained, int) else usual
    if request.max_length < min(usual, manifest.position_limit, trained):
        yield "max_length"


def _bisected(run: "ParityRun", files: Mapping[str, Path]) -> Iterator[tuple[Path, "Bisection"]]:
    for split in run.splits:
        result = split.result
        if result.dataset and result.bisection:
            yield files[f"--bisect, {result.dataset.task.name}"], result.bisection


def _certificate(artefact: Artefact) -> dict[str, Any] | str | None:
    """The content of certificate.json, or why it is not valid; None where there is none."""
    from nxmi_export.certificate import read_certificate

    if CERTIFICATE not in artefact.manifest.files:
        return None
    try:
        return read_certificate(artefact).as_json()
    except ArtefactError as error:
        return _why_invalid(error)


def _bench(artefact: Artefact) -> dict[str, Any] | str | None:
    """The content of bench.json, or why it is not valid; None where there is none."""
    from nxmi_export.bench import read_bench

    try:
        return read_bench(artefact)
    except ArtefactError as error:
        return _why_invalid(error)


def _why_invalid(error: ArtefactError) -> str:
    return f"expected {error.expected}, found {error.found}; {error.remedy}"


def _write_exclusions(path: Path, artefact: Artefact, found: "Bisection") -> None:
    """The recipe that leaves the layers dense."""
    from nxmi_export.parity.bisect import exclusion_recipe, write_exclusions
    from nxmi_export.recipe import Recipe

    facts = artefact.manifest.recipe
    assert facts is not None  # else nothing is bisected
    recipe = Recipe.from_mapping(facts, source=str(artefact.directory))
    write_exclusions(path, exclusion_recipe(recipe, found.layers), found)


def _own_file(path: Path, artefact: Artefact) -> str | None:
    """Which file of the artefact `path` is, by whatever name or link."""
    for name in (MANIFEST, *artefact.manifest.files):
        own = artefact.directory / name
        if path.exists() and own.exists() and path.samefile(own):
            return name
    return None
