"""The words of a recipe: component, pattern, scheme and placement."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

__all__ = [
    "DENSE_BITS",
    "SPARSE_FLOAT_BITS",
    "Component",
    "Pattern",
    "Placement",
    "Scheme",
    "SchemeField",
    "conflict",
    "sentence",
]

_PATTERN = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")
_SCHEMES = "write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
_WEIGHT_BITS = {"int8": 8, "int4": 4}
MAX_GROUP = 32  # the widest group that storage and accuracy studies use
DENSE_BITS = 32  # of a weight that no scheme touches, and what everything is compared with
SPARSE_FLOAT_BITS = 16  # of a kept value without bits: sparse tensor cores have no float32


class Component(StrEnum):
    """The six linear layers of an encoder block."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    ATTENTION_OUTPUT = "attention_output"
    FFN_UP = "ffn_up"
    FFN_DOWN = "ffn_down"


class Placement(StrEnum):
    """Which values carry an activation quantizer; each placement includes the one before.

    `weights`    none: the weights alone are quantized, and products run on floats
    `linear`     the inputs of quantized linears
    `attention`  + query, key, softmax output and value: the four inputs of the attention matmuls
    `sparse`     + every linear's output and both inputs of every residual addition
    """

    WEIGHTS = "weights"
    LINEAR = "linear"
    ATTENTION = "attention"
    SPARSE = "sparse"


class Pattern(BaseModel):
    """At most `keep` non-zeros in every `group` consecutive weights along in_features ("2:4")."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    keep: int = Field(ge=1)
    group: int = Field(ge=2, le=MAX_GROUP)

    @model_validator(mode="after")
    def _keeps_fewer_than_all(self) -> Self:
        if self.keep >= self.group:
            raise ValueError(f"{self} keeps every weight; write a keep below {self.group}")
        return self

    @property
    def share(self) -> float:
        """Of the weights that may be kept, 0…1."""
        return self.keep / self.group

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"


class Scheme(BaseModel):
    """How one linear's weight is stored: a sparsity pattern, a width in bits, both, or neither."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    pattern: Pattern | None = None
    bits: Literal[4, 8] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `dense`, `2:4`, `int8`, `int4`, `2:4+int8`, … ; raises ValueError otherwise."""
        if text == "dense":
            return cls()
        parts = text.split("+")
        match = _PATTERN.fullmatch(parts[0])
        pattern = None
        if match:
            pattern = _pattern(int(match[1]), int(match[2]))
            parts = parts[1:]
        if len(parts) > 1 or (parts and parts[0] not in _WEIGHT_BITS) or not (parts or pattern):
            raise ValueError(f"{text!r} is not a scheme; {_SCHEMES}")
        bits = _WEIGHT_BITS[parts[0]] if parts else None
        return cls.model_validate({"pattern": pattern, "bits": bits})

    @property
    def nominal_bits(self) -> float:
        """Stored per weight of the dense linear, without metadata."""
        return self._value_bits if self.pattern is None else self._value_bits * self.pattern.share

    @property
    def bits_with_metadata(self) -> float:
        """Stored per weight of the dense linear, with the index of every kept value.

        An index counts the places of its group: ⌈log2 group⌉ bits, 2 for 2:4.
        """
        if self.pattern is None:
            return self._value_bits
        index_bits = (self.pattern.group - 1).bit_length()
        return (self._value_bits + index_bits) * self.pattern.share

    @property
    def _value_bits(self) -> int:
        return self.bits or (SPARSE_FLOAT_BITS if self.pattern else DENSE_BITS)

    def __str__(self) -> str:
        names = [str(self.pattern)] if self.pattern else []
        names += [f"int{self.bits}"] if self.bits else []
        return "+".join(names) or "dense"


def _pattern(keep: int, group: int) -> Pattern:
    try:
        return Pattern(keep=keep, group=group)
    except ValidationError as error:
        # pydantic's own text has three lines and a link
        raise ValueError(
            f"{keep}:{group} is not a pattern: {sentence(error.errors()[0])}"
        ) from error


def _scheme(value: Any) -> Any:
    if isinstance(value, str):
        return Scheme.parse(value)
    if isinstance(value, dict | Scheme):
        return value  # pydantic looks inside
    raise ValueError(f"a scheme is a text; {_SCHEMES}")


SchemeField = Annotated[Scheme, BeforeValidator(_scheme), PlainSerializer(str, return_type=str)]


def sentence(error: ErrorDetails) -> str:
    """One complaint of pydantic, in words that fit behind a colon."""
    text = error["msg"].removeprefix("Value error, ")
    if error["loc"]:
        text = re.sub(r"^Input(?= should)", str(error["loc"][-1]), text)
    return text


def conflict(found: str, remedy: str) -> PydanticCustomError:
    """Keys of which each is valid and which do not go together, for a validator to raise."""
    return PydanticCustomError("conflict", "{found}; {remedy}", {"found": found, "remedy": remedy})
