"""A builder's log at its most detailed level in, the engine's layers out.

One line of the log describes one layer, in TensorRT 10, 11 and RTX alike but for two spellings:
10 writes `Format/Datatype: Half` and lists weights among the inputs, later releases write
`Datatype: Half` and list them as `Constants`.
"""

import re
from dataclasses import dataclass

__all__ = [
    "EngineLayer",
    "Operand",
    "as_in_names",
    "datatype_in",
    "exhausted_memory",
    "onnx_nodes_in",
    "parse_layers",
    "tight_workspace",
]

# One level of nested brackets: dimensions and strides inside the list of operands.
_LIST = r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]"
_LAYER = re.compile(
    rf"\bName: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: {_LIST}"
    rf"(?:, Constants: {_LIST})?, Outputs: {_LIST}(?P<rest>.*)$"
)
# Of layers in another form: what is left to know of them.
_OUTLINE = re.compile(r"\bName: (?P<name>.*?), LayerType: (?P<type>\w+)(?P<rest>.*)$")
# No part may reach over a brace, or an operand in another form would be read as the next one.
_OPERAND = re.compile(
    r"\{ Name: (?P<name>[^{}]*?), (?:Location: \w+, )?Dimensions: \[(?P<sizes>(?:-?\d+,? ?)*)\]"
    r"[^{}]*?(?:Format/)?Datatype: (?P<datatype>[^{}]*?)(?:, Format: [^{}]*?)? ?\}"
)
_TACTIC = re.compile(r"\bTacticName: ([^,]*)")
_ONNX_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\[\x1e\s]|$)")
_MYELIN_SUFFIX = re.compile(r"_(myl\d+)_\d+$")
_PROFILE = re.compile(r" \[(profile \d+)\]")  # in the layers of every profile but the first
_FIRST_PROFILE = "profile 0"
# "Thirty-two wide channel vectorized row major Int8 format" -> Int8
_DATATYPE = re.compile(
    r"Int8|INT8|Int4|Int32|Int64|UInt8|Bool|Half|FP16|BFloat16|BF16|FP8|Float|FP32"
)

# NVIDIA also writes "insuficient". The last ones are Myelin's, which times whole subgraphs: "User
# allocator error allocating 51539607552-byte buffer", "CUDA error 3 allocating 0-byte buffer".
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemory|out of memory|insuff?icient memory|memory is insufficient"
    r"|GPU memory .*could not be allocated"
    r"|\berror (?:\d+ )?allocating \d+-byte buffer",
    re.IGNORECASE,
)
_TIGHT_WORKSPACE = re.compile(r"tactics do not have sufficient workspace memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor at the edge of a layer."""

    name: str
    dimensions: tuple[int, ...]  # -1 where dynamic
    datatype: str  # as TensorRT writes it: Int8, Half, Float, …

    @property
    def is_scalar(self) -> bool:
        """Whether it holds one number for sure, as the alpha and beta of a GEMM do."""
        return all(size == 1 for size in self.dimensions)


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """One layer of the built engine: what one kernel does."""

    name: str
    type: str  # gemm, kgen, runtime_fusion, CaskConvolution, …
    inputs: tuple[Operand, ...]
    constants: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    tactic: str  # the kernel's name, where the library gives one
    onnx_nodes: tuple[str, ...]  # whatever took part, neighbours fused into it included
    line: str  # the log line, the evidence itself

    @property
    def named_nodes(self) -> tuple[str, ...]:
        """The ONNX nodes that the layer is named after; none for a kernel named after its steps.

        The metadata of a GEMM may also list the MatMul before it, whose rescaling was fused into
        this one; the name lists only what the kernel multiplies, joined by "+".
        """
        stem = as_in_names(_PROFILE.sub("", _MYELIN_SUFFIX.sub("", self.name)))
        return tuple(node for node in self.onnx_nodes if f"+{as_in_names(node)}+" in f"+{stem}+")

    @property
    def place(self) -> str:
        """The part of the engine it lies in; no two profiles share one.

        The subgraph that Myelin compiled, as kernels named after their steps bear no profile's
        number; the profile for layers outside of one.
        """
        compiled = _MYELIN_SUFFIX.search(self.name) or _PROFILE.search(self.name)
        return compiled.group(1) if compiled else _FIRST_PROFILE


def parse_layers(log: str) -> tuple[EngineLayer, ...]:
    """Every layer the log lists, in its order; none if it was not written in detail.

    What is in another form than known ones, a layer or an operand, is there with "?" for its type.
    """
    # Not splitlines(): TensorRT 10 separates ONNX nodes by U+001E, which that takes for a line end.
    lines = (line.rstrip("\r") for line in log.split("\n") if ", LayerType: " in line)
    found = (_layer(line) or _outline(line) for line in lines)
    return tuple(layer for layer in found if layer is not None)


def exhausted_memory(log: str) -> str | None:
    """The first line about memory that could not be had, if any.

    The builder survives it by skipping the kernel it was timing, so such an engine builds and
    is slower than the one that was asked for.
    """
    return _first_line(_OUT_OF_MEMORY, log)


def tight_workspace(log: str) -> str | None:
    """The first line about kernels that need more scratch memory than they may use, if any.

    Nothing ran out: the limit is the one that was asked for, or what the whole GPU has. Another
    build with as much would leave out the same kernels.
    """
    return _first_line(_TIGHT_WORKSPACE, log)


def onnx_nodes_in(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes that a layer's metadata lists."""
    return tuple(_ONNX_NODE.findall(metadata))


def datatype_in(text: str) -> str:
    """The data type in a description of a format, or the text itself where it names none."""
    found = _DATATYPE.search(text)
    return found.group(0).replace("INT8", "Int8") if found else text


def as_in_names(text: str) -> str:
    """ONNX names as layer names have them: TensorRT 10 writes "_" for ".", and "+" varies."""
    return text.replace(".", "_").replace(" + ", "+")


def _first_line(pattern: re.Pattern[str], log: str) -> str | None:
    return next((line for line in log.splitlines() if pattern.search(line)), None)


def _layer(line: str) -> EngineLayer | None:
    match = _LAYER.search(line)
    if match is None:
        return None
    name, kind, inputs, constants, outputs, rest = match.groups()
    return EngineLayer(
        name=name,
        type=kind,
        inputs=_operands(inputs),
        constants=_operands(constants or ""),
        outputs=_operands(outputs),
        tactic=_tactic(rest),
        onnx_nodes=_metadata(rest),
        line=match.group(0),
    )


def _outline(line: str) -> EngineLayer | None:
    """A layer whose operands are listed in no known form: dropped, it could not be missed."""
    match = _OUTLINE.search(line)
    if match is None:
        return None
    name, kind, rest = match.groups()
    unread = (_UNREAD,)
    return EngineLayer(
        name, kind, unread, (), unread, _tactic(rest), _metadata(rest), match.group(0)
    )


def _tactic(rest: str) -> str:
    found = _TACTIC.search(rest)
    return found.group(1) if found else ""


def _metadata(rest: str) -> tuple[str, ...]:
    return onnx_nodes_in(rest.partition("Metadata: ")[2])


def _operands(text: str) -> tuple[Operand, ...]:
    found = tuple(
        Operand(
            match["name"],
            tuple(int(size) for size in match["sizes"].split(",") if size.strip()),
            datatype_in(match["datatype"]),
        )
        for match in _OPERAND.finditer(text)
    )
    return found if not _OPERAND.sub("", text).strip(" ,") else (*found, _UNREAD)


# Its size is unknown too, so that it passes for no scalar.
_UNREAD = Operand("?", (-1,), "?")
