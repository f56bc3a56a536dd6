"""What to do to each encoder linear: the `Recipe`, its schemes and its placement.

A recipe is data (YAML or JSON), validated here and saved inside every compressed checkpoint, so
that a checkpoint alone says how to rebuild the model that was trained.
"""

import difflib
import fnmatch
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from nxmi_export.errors import RecipeError

__all__ = ["Component", "Pattern", "Placement", "Recipe", "Scheme", "SchemeField"]

_PATTERN = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")
_WEIGHT_BITS = {"int8": 8, "int4": 4}
MAX_GROUP = 32  # the widest group that storage and accuracy studies use
_INT = "tag:yaml.org,2002:int"


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

    `linear`     the inputs of quantized linears
    `attention`  + query, key, softmax output and value: the four inputs of the attention matmuls
    `sparse`     + every linear's output and both inputs of every residual addition
    """

    LINEAR = "linear"
    ATTENTION = "attention"
    SPARSE = "sparse"


class Pattern(BaseModel):
    """At most `keep` non-zeros in every `group` consecutive weights along in_features ("2:4")."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    keep: int = Field(ge=1)
    group: int = Field(ge=2, le=MAX_GROUP)

    @model_validator(mode="after")
    def _keeps_fewer_than_all(self) -> Self:
        if self.keep >= self.group:
            raise ValueError(f"{self} keeps every weight; write a keep below {self.group}")
        return self

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"


class Scheme(BaseModel):
    """How one linear's weight is stored: a sparsity pattern, a width in bits, both, or neither."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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
            raise ValueError(
                f"{text!r} is not a scheme; write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
            )
        bits = _WEIGHT_BITS[parts[0]] if parts else None
        return cls.model_validate({"pattern": pattern, "bits": bits})

    def __str__(self) -> str:
        names = [str(self.pattern)] if self.pattern else []
        names += [f"int{self.bits}"] if self.bits else []
        return "+".join(names) or "dense"


def _pattern(keep: int, group: int) -> Pattern:
    try:
        return Pattern(keep=keep, group=group)
    except ValidationError as error:
        # pydantic's own text has three lines and a link
        raise ValueError(f"{keep}:{group} is not a pattern: {_sentence(error)}") from error


def _scheme(value: Any) -> Any:
    return Scheme.parse(value) if isinstance(value, str) else value


SchemeField = Annotated[Scheme, BeforeValidator(_scheme), PlainSerializer(str, return_type=str)]


class Recipe(BaseModel):
    """The schemes of a model's encoder linears and the placement of its activation quantizers.

    `overrides` maps module-name patterns (as in `fnmatch`) to schemes; the first that matches
    wins over `schemes`, which speaks for whole component types, which wins over `default`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    default: SchemeField = Scheme.parse("2:4+int8")
    schemes: dict[Component, SchemeField] = Field(default_factory=dict)
    overrides: dict[str, SchemeField] = Field(default_factory=dict)
    placement: Placement = Placement.SPARSE

    def scheme_of(self, component: Component, module: str) -> Scheme:
        """The scheme of one linear, named as PyTorch names it."""
        for pattern, scheme in self.overrides.items():
            if fnmatch.fnmatchcase(module, pattern):
                return scheme
        return self.schemes.get(component, self.default)

    @classmethod
    def from_mapping(cls, mapping: object, *, source: object) -> Self:
        """Validate plain data; raises RecipeError naming the key at fault and its nearest name."""
        if not isinstance(mapping, dict):
            raise RecipeError(
                source,
                expected="a mapping of recipe keys",
                found=type(mapping).__name__,
                remedy=f"start from one of the keys {', '.join(cls.model_fields)}",
            )
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            raise _recipe_error(error, source) from error

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a recipe file; raises RecipeError if it is missing, no YAML, or invalid."""
        try:
            mapping = yaml.load(path.read_text(encoding="utf-8"), _RecipeLoader)  # a SafeLoader
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(
                path,
                expected="a readable YAML file",
                found=" ".join(str(error).split()),
                remedy="check the path and the indentation",
            ) from error
        return cls.from_mapping(mapping, source=path)

    def as_mapping(self) -> dict[str, Any]:
        """Plain data that `from_mapping` reads back to an equal recipe."""
        return self.model_dump(mode="json")


class _RecipeLoader(yaml.SafeLoader):
    """YAML 1.1 without its base-60 integers, in which `2:4` is the number 124."""


_RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RecipeLoader.add_implicit_resolver(_INT, re.compile(r"[0-9]+$"), list("0123456789"))


def _recipe_error(error: ValidationError, source: object) -> RecipeError:
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"] if part != "[key]"]
    place = ".".join(loc)
    if first["type"] == "extra_forbidden":
        nested = [*Scheme.model_fields, *Pattern.model_fields]
        known = list(Recipe.model_fields) if len(loc) == 1 else nested
        near = difflib.get_close_matches(loc[-1], known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        return RecipeError(
            source, expected="known recipe keys", found=f"the key {place!r}", remedy=remedy
        )
    return RecipeError(
        source,
        expected=f"a valid value for {place or 'the recipe'}",
        found=repr(first["input"]),
        remedy=_sentence(error),
    )


def _sentence(error: ValidationError) -> str:
    text = error.errors()[0]["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
