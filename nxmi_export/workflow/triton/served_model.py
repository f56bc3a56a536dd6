"""An artefact and a backend in, what Triton must know to serve it out."""

from dataclasses import dataclass

import onnx

from nxmi_export.artefact import CPU_MODEL, PLAN, WEIGHTS, Artefact
from nxmi_export.backends.tensorrt_engine import Shape, ShapeProfile
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.backends.tensorrt_engine.profile import MAX_BATCH, OPT_BATCH, OPT_SEQUENCE
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.workflow.triton.request import TritonRequest

__all__ = ["ServedModel", "Tensor"]


@dataclass(frozen=True)
class Tensor:
    """An input or an output, by name and by the type ONNX gives it."""

    name: str
    onnx_type: int


@dataclass(frozen=True)
class ServedModel:
    """The files of one version, what goes in and out, and the batches it is made for."""

    files: tuple[str, ...]  # of the artefact; the first is the model
    inputs: tuple[Tensor, ...]
    output: Tensor
    largest: int  # examples of a batch
    longest: int  # tokens
    tuned: Shape  # the batch that is fastest, within `largest`
    profiles: int  # of the engine; 0 where there is none
    needs: str  # what the server must have, in words
    narrowed: str | None = None  # why `largest` is less than some profile holds, if it is

    @classmethod
    def read(cls, artefact: Artefact, request: TritonRequest) -> "ServedModel":
        """Raises ArtefactError without a whole engine for `tensorrt`, UsageError if it is unfit."""
        if request.backend == "tensorrt":
            return _engine(artefact, request)
        limit = artefact.manifest.position_limit
        largest = request.max_batch or MAX_BATCH
        inputs, output = _interface(artefact, CPU_MODEL)
        return cls(
            files=(CPU_MODEL, WEIGHTS),
            inputs=inputs,
            output=output,
            largest=largest,
            longest=limit,
            tuned=Shape(min(OPT_BATCH, largest), min(OPT_SEQUENCE, limit)),
            profiles=0,
            needs="Triton's onnxruntime backend, on a CPU with VNNI (others saturate)",
        )


def _engine(artefact: Artefact, request: TritonRequest) -> ServedModel:
    facts = EngineFacts.read(artefact)
    if facts is None:
        raise ArtefactError(
            artefact.directory,
            expected=f"an artefact with {PLAN}",
            found="none",
            remedy="build it with nxmi-export build, or serve with --backend onnxruntime",
        )
    if facts.library.is_rtx:
        raise UsageError(
            artefact.directory / PLAN,
            expected="a plan of TensorRT, the only ones that Triton's backend loads",
            found=f"one of {facts.library.name}",
            remedy="build it with --library tensorrt, or serve with --backend onnxruntime",
        )
    facts.plan_to_run(artefact)
    profiles = facts.shape_profiles(artefact.manifest.position_limit)
    _check_profiles(artefact, profiles)
    largest = _largest(artefact, profiles, request)
    inputs, output = _interface(artefact, facts.graph.name)
    tuned = max((each.opt for each in profiles), key=lambda shape: shape.batch)
    return ServedModel(
        files=(PLAN,),
        inputs=inputs,
        output=output,
        largest=largest,
        longest=facts.longest,
        tuned=Shape(min(tuned.batch, largest), tuned.sequence),
        profiles=len(profiles),
        needs=f"Triton's tensorrt backend with TensorRT {facts.library.version}, "
        "and the GPU of the build",
        narrowed=_narrowed(profiles, request),
    )


def _check_profiles(artefact: Artefact, profiles: tuple[ShapeProfile, ...]) -> None:
    """Triton forms batches from one example up, whenever they come."""
    smallest = min(each.min.batch for each in profiles)
    if smallest > 1:
        raise UsageError(
            artefact.directory / PLAN,
            expected="a profile that begins at one example, for a request may come alone",
            found=f"none below {smallest}",
            remedy="build it with --shapes min=1x…",
        )


def _largest(artefact: Artefact, profiles: tuple[ShapeProfile, ...], request: TritonRequest) -> int:
    # Of any length, for Triton does not ask which profile will run a batch.
    allowed = min(each.max.batch for each in profiles)
    if request.max_batch is not None and request.max_batch > allowed:
        raise UsageError(
            "--max-batch",
            expected=f"at most {allowed}, what {artefact.directory / PLAN} was built for",
            found=f"{request.max_batch}",
            remedy="lower it, or build the engine for larger batches",
        )
    return request.max_batch or allowed


def _narrowed(profiles: tuple[ShapeProfile, ...], request: TritonRequest) -> str | None:
    """Which profile keeps every batch small, unless that was asked for."""
    narrow = min(profiles, key=lambda each: each.max.batch)
    widest = max(each.max.batch for each in profiles)
    if request.max_batch is not None or narrow.max.batch == widest:
        return None
    return (
        f"batches are of {narrow.max.batch} at most, not {widest}: Triton does not ask which "
        f"profile will run one, and {narrow} holds no more"
    )


def _interface(artefact: Artefact, name: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs and the one output as the graph has them; an engine keeps their names and types."""
    graph = onnx.load(artefact.path(name), load_external_data=False).graph
    inputs = tuple(Tensor(each.name, each.type.tensor_type.elem_type) for each in graph.input)
    (output,) = (Tensor(each.name, each.type.tensor_type.elem_type) for each in graph.output)
    return inputs, output
