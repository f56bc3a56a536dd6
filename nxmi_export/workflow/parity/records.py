"""An artefact in, what its manifest says of its graphs otherwise than they are out."""

from collections.abc import Iterator

from nxmi_export.artefact import CPU_MODEL, INT4_MODEL, MANIFEST, MODEL, Artefact
from nxmi_export.artefact.records import linear_records, packed_records, table_records
from nxmi_export.backends.onnxruntime_session import exact_options
from nxmi_export.parity.graph_quantizers import open_graph
from nxmi_export.parity.weights import Mismatch

__all__ = ["record_mismatches", "session_mismatches"]

_NONE = "none"


def record_mismatches(artefact: Artefact) -> Iterator[Mismatch]:
    """One for each record that is wrong, missing, or of a module that the graph lacks.

    `nxmi-export inspect` shows these records. Raises ArtefactError for a graph that cannot be read.
    """
    graph = open_graph(artefact.path(MODEL))
    manifest = artefact.manifest
    stored = {**linear_records(graph), **table_records(graph)}
    told = {**manifest.linears, **manifest.embeddings}
    for name in sorted(stored.keys() | told.keys()):
        expected, found = stored.get(name), told.get(name)
        if expected != found:
            yield _record(name, expected, found)
    packed = artefact.path(INT4_MODEL) if INT4_MODEL in manifest.files else None
    blocks = {} if packed is None else packed_records(open_graph(packed))
    for name in sorted(blocks.keys() | manifest.packed.keys()):
        if blocks.get(name) != manifest.packed.get(name):
            yield _record(name, blocks.get(name), manifest.packed.get(name))


def _record(name: str, expected: object, found: object) -> Mismatch:
    return Mismatch(name, f"record in {MANIFEST}", str(expected or _NONE), str(found or _NONE))


def session_mismatches(artefact: Artefact) -> Iterator[Mismatch]:
    """One, where the manifest recommends other session options than the CPU file needs, and those
    that were measured to be fastest.

    Without them products of integers may saturate on a processor that lacks VNNI, and floats are
    rounded where they meet stored integers; a file that shares zero-points does not load with them.
    """
    tuning = artefact.manifest.tuning
    measured = {} if tuning is None else tuning.options
    wanted = {**measured, **exact_options(artefact.path(CPU_MODEL))}
    found = dict(artefact.manifest.session_options)
    if found != wanted:
        yield Mismatch(CPU_MODEL, f"session_options in {MANIFEST}", str(wanted), str(found))
