"""A parity run's JSON in, what is proved of its files out: weights, 2:4, codes, shapes, engine."""

from collections.abc import Iterator
from typing import TypeAlias

from nxmi_export.artefact import Manifest
from nxmi_export.report.markup import Html, bullets, element, figure, joined, table
from nxmi_export.report.parity_facts import FAILS, HOLDS, NOT_CLAIMED, OPEN, Facts

__all__ = [
    "checks_table",
    "codes_table",
    "probes_table",
    "proof_table",
    "shapes_table",
    "sizes_table",
    "storage_table",
]

MOST_SHOWN = 10  # mismatches of a file, and quantizers; the JSON file has them all
_Row: TypeAlias = tuple[str, str, Html]  # what, its verdict, why
_MARKS = {"proved": HOLDS, "refuted": FAILS, "unproven": OPEN, "not claimed": NOT_CLAIMED}


def proof_table(document: Facts, engine: Facts | None) -> Html:
    """What holds of the artefact as a whole; nothing is proved by not having been looked at."""
    rows = [*_weights(document), *_patterns(document), *_engine(engine)]
    marked = ((what, _MARKS[verdict](verdict), told) for what, verdict, told in rows)
    return table("Proved, refuted or unproven; never assumed", ("what", "verdict", "why"), marked)


def checks_table(split: Facts) -> Html:
    """Every condition of the gate on one dev split."""
    return table("Conditions of the gate", ("condition", "holds"), map(_check, split["checks"]))


def codes_table(split: Facts) -> Iterator[Html]:
    """How far activation codes agree, the quantizers that agree least first; reported, not judged.

    Two free runs drift apart behind the first rounding tie, so that no rate separates a fault.
    """
    codes = sorted(split["codes"], key=lambda each: each["rate"] if each["rate"] is not None else 1)
    if not codes:
        return
    caption = (
        f"Activation codes of PyTorch and ONNX as written, running freely: the "
        f"{min(MOST_SHOWN, len(codes))} of {len(codes)} quantizers that agree least"
    )
    counts = ("equal", "off_by_one", "worse")
    rows = (
        (
            each["module"],
            figure(each["rate"], ".3f", unit=100),
            *(figure(each[count], "d") for count in counts),
        )
        for each in codes[:MOST_SHOWN]
    )
    yield table(caption, ("quantizer", "% equal", "equal", "off by one", "worse"), rows)


def shapes_table(split: Facts) -> Iterator[Html]:
    """The same examples in other batches and more padding."""
    headings = (
        *("rung", "batch", "padded to", "changed", "unexplained", "largest logit gap"),
        "replayed",
    )
    rows = [
        (
            f"{shapes['name']}, {shapes['examples']} examples",
            figure(each["batch_size"], "d"),
            "longest, on the left"
            if each["left"]
            else figure(each["pad_to"], "d", absent="longest of the batch"),
            figure(each["changed"], "d"),
            figure(each["unexplained"], "d"),
            figure(each["largest_logit_gap"], ".2g", absent="no number"),
            _replayed(each["replays"]),
        )
        for shapes in split["shapes"]
        for each in shapes["settings"]
    ]
    if rows:
        yield table("The same examples in other shapes", headings, rows)


def probes_table(split: Facts) -> Iterator[Html]:
    """Made-up inputs that use what no text of the dev set does, rung by rung."""
    probes = split["probes"]
    if probes is None:
        return
    rows = [
        (
            step["names"][1],
            step["names"][0],
            figure(step["largest_logit_gap"], ".2g", absent="no number"),
            figure(step["different"], "d"),
            _replayed(step["replayed"]) if step["replayed"] else "not replayed",
        )
        for step in probes["steps"]
    ]
    headings = ("rung", "compared with", "largest logit gap", "differ in a bit", "replayed")
    yield table("Probes: made-up inputs beyond the dev set", headings, rows)
    sizes = probes["sizes"]
    whole = (sizes["positions"], sizes["vocabulary"], sizes["token_types"])
    reached = (
        (what, figure(own, "d"), figure(dev_set, "d"), figure(most, "d"))
        for what, own, dev_set, most in zip(
            ("positions", "different words", "token types"),
            _reached(probes["reach"]),
            _reached(probes["dev_set"]),
            whole,
            strict=True,
        )
    )
    caption = "What probes and dev set reach of the model"
    yield table(caption, ("what", "probes", "dev set", "the model has"), reached)


def _reached(reach: Facts) -> tuple[int, int, int]:
    return reach["tokens"], reach["words"], len(reach["token_types"])


def _replayed(replays: list[Facts]) -> str:
    """How many examples PyTorch explains, of those that it replayed."""
    return f"{sum(bool(each['explained']) for each in replays)} of {len(replays)} explained"


def sizes_table(manifest: Manifest) -> Html:
    """Every file by size and hash."""
    rows = (
        (name, figure(record.bytes, ".3f", unit=1e-6), _hash(record.sha256))
        for name, record in manifest.files.items()
    )
    return table("Files of the artefact", ("file", "MB", "SHA-256"), rows)


def storage_table(manifest: Manifest) -> Html:
    """How the linears are stored, by kind, and how many of their numbers are zero."""
    kinds: dict[str, list[float]] = {}
    for record in manifest.linears.values():
        kinds.setdefault(record.storage, []).append(record.zeros)
    rows = (
        (kind, str(len(zeros)), figure(min(zeros), ".2%"), figure(max(zeros), ".2%"))
        for kind, zeros in kinds.items()
    )
    headings = ("stored as", "linears", "zeros, fewest", "zeros, most")
    return table("Linears by how they are stored", headings, rows)


def _hash(digest: str) -> Html:
    return element("span", digest, class_="hash")


def _check(check: Facts) -> tuple[str, Html]:
    if check["undecided"]:
        return check["name"], joined((OPEN("not decided"), f": {check['undecided']}"))
    return check["name"], HOLDS("holds") if check["ok"] else FAILS("fails")


def _files(document: Facts) -> Facts:
    """The comparison of each file's weights, which is the same for every split."""
    files: Facts = document["splits"][0]["weights"] if document["splits"] else {}
    return files


def _weights(document: Facts) -> Iterator[_Row]:
    if not _files(document):
        yield "stored weights", "unproven", Html("They were not compared.")
    for name, found in _files(document).items():
        mismatches = found["mismatches"]
        verdict = "proved" if found["equal"] else "refuted" if mismatches else "unproven"
        yield f"weights of {name}", verdict, joined((*_compared(found), _mismatches(mismatches)))


def _compared(found: Facts) -> Iterator[str]:
    if found.get("tables"):  # documents of before have no such count
        yield figure(found["tables"], "d")
        yield " embedding tables, "
    yield figure(found["linears"], "d")
    yield " linears, "
    yield figure(found["compressed"], "d")
    yield " of them compressed and "
    yield figure(found["patterned"], "d")
    yield " with a sparsity pattern, "
    yield figure(found["quantizers"], "d")
    yield " activation scales and "
    yield figure(found["parameters"], "d")
    yield " parameters of embeddings and norms were compared with PyTorch's bit for bit: "
    yield "every one is equal." if found["equal"] else f"{len(found['mismatches'])} differ."


def _mismatches(mismatches: list[Facts]) -> Html:
    told = [_mismatch(each) for each in mismatches[:MOST_SHOWN]]
    return bullets([*told, *_more(len(mismatches), "the JSON file")])


def _mismatch(found: Facts) -> str:
    """The sentence of `Mismatch`, from its JSON."""
    place = f" at {list(found['position'])}" if found["position"] else ""
    more = f", the first of {found['count']}" if found["count"] > 1 else ""
    return (
        f"{found['module']}: {found['what']}{place} is {found['found']}, not "
        f"{found['expected']}{more}"
    )


def _more(total: int, where: str) -> list[str]:
    return [f"{total - MOST_SHOWN} more in {where}"] if total > MOST_SHOWN else []


def _patterns(document: Facts) -> Iterator[_Row]:
    """Groups were counted on the stored numbers, along the axis where sparse kernels skip."""
    for name, found in _files(document).items():
        broken = [each for each in found["mismatches"] if each["what"] == "pattern"]
        if found["patterned"]:
            verdict = "refuted" if broken else "proved" if found["equal"] else "unproven"
            told = "linears whose pattern was counted on the stored numbers"
            count = figure(found["patterned"], "d")
            yield f"sparsity of {name}", verdict, joined((count, f" {told}.", _mismatches(broken)))


def _engine(engine: Facts | None) -> Iterator[_Row]:
    if engine is None:
        yield "TensorRT engine", "unproven", Html("It was not built.")
        return
    int8, sparse, runs = (engine[key] for key in ("int8", "sparse_kernels", "runs"))
    yield "engine: INT8", int8["verdict"], joined(_coverage(int8))
    yield "engine: 2:4 kernels", sparse["verdict"], joined((f"{sparse['reason']}.",))
    yield "engine: its answers", runs["verdict"], joined((f"{runs['reason']}.",))


def _coverage(int8: Facts) -> Iterator[str]:
    for what in ("linears", "attentions"):
        if int8[what]["total"]:
            yield figure(int8[what]["int8"], "d")
            yield " of "
            yield figure(int8[what]["total"], "d")
            yield f" {what} in INT8. "
    open_modules = [each for each in int8["modules"] if each["verdict"] != "proved"]
    told = [f"{each['module']}, {each['verdict']}: {each['reason']}" for each in open_modules]
    yield bullets([*told[:MOST_SHOWN], *_more(len(told), "engine.json")])
