"""What one cell measured in; ours, the best peers and their ratios, shape by shape, out.

Ours is the faster of the artefact's files and libraries, which is what `load` runs once `bench` has
measured. A peer counts as exact where it runs with exact products, or by default where no kernel of
this processor could give others. That a default run gave the same logits on one batch proves
nothing of the next: a file that rounds its logits coarsely hides what its products lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nxmi_export.bench.latency_statistics import speedup
from nxmi_export.workflow.bench.contenders import OPENVINO
from nxmi_export.workflow.bench.other_files import EXACT
from samples.cpu_peers.peers import PEERS, Peer

__all__ = ["OURS", "Fastest", "Shape", "files_of", "run_of", "shapes_of"]

OURS = ("onnxruntime", "onnxruntime-portable", OPENVINO)
PYTORCH = "pytorch"


@dataclass(frozen=True)
class Fastest:
    """The fastest of some contenders."""

    key: str
    seconds: float  # median
    of_limit: float | None
    rounds: tuple[float, ...] = ()  # seconds in each; none for results from before they were kept

    def times_faster_than(self, other: "Fastest") -> float:
        """The median of what both took in the same rounds, so that what disturbed both cancels."""
        if self.rounds and len(self.rounds) == len(other.rounds):
            return speedup(*([[each] for each in side.rounds] for side in (other, self))).median
        return other.seconds / self.seconds


@dataclass(frozen=True)
class Shape:
    """Who was fastest on one shape of batch; None where none of those ran."""

    name: str  # as in "8x128"
    pytorch: Fastest | None
    ours: Fastest | None
    ours_openvino: Fastest | None
    onnxruntime_exact: Fastest | None  # of the peers that run on it
    onnxruntime_any: Fastest | None  # the same, whatever they answer
    openvino_any: Fastest | None
    openvino_exact: Fastest | None


def shapes_of(result: Mapping[str, Any]) -> Iterator[Shape]:
    """Every shape of a cell, in the order it was measured."""
    for workload in result["bench"]["workloads"]:
        found = workload["results"]
        on_onnxruntime, on_openvino = (
            [name for peer in PEERS if peer.runs_on == library for name in files_of(peer, result)]
            for library in ("onnxruntime", "openvino")
        )
        yield Shape(
            f"{workload['batch']}x{workload['sequence']}",
            _fastest(found, [PYTORCH]),
            _fastest(found, OURS),
            _fastest(found, [OPENVINO]),
            _fastest(found, _exact(found, on_onnxruntime)),
            _fastest(found, _either(on_onnxruntime)),
            _fastest(found, _either(on_openvino)),
            _fastest(found, _exact(found, on_openvino)),
        )


def files_of(peer: Peer, result: Mapping[str, Any]) -> list[str]:
    """The names of what the tool made for this cell."""
    return list(result["peers"][peer.name]["files"])


def _either(names: list[str]) -> list[str]:
    return [key for name in names for key in (name, name + EXACT)]


def _exact(found: Mapping[str, Any], names: list[str]) -> list[str]:
    """The keys under which those files answer exactly, whether or not they ran."""
    return [name + EXACT if name + EXACT in found else name for name in names]


def run_of(key: str, found: Mapping[str, Any]) -> Fastest:
    """What `bench` stored of a contender that ran."""
    rounds = tuple(found.get("round_seconds", ()))
    return Fastest(key, found["call"]["p50"], found["of_int8_limit"], rounds)


def _fastest(found: Mapping[str, Any], keys: list[str] | tuple[str, ...]) -> Fastest | None:
    ran = [run_of(key, found[key]) for key in keys if key in found and found[key]["ran"]]
    return min(ran, key=lambda each: each.seconds, default=None)
