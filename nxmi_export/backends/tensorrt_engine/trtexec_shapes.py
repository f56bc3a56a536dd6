"""Shapes as trtexec spells them in, profiles that this package builds out.

trtexec names every input (`--minShapes=input_ids:1x8,attention_mask:1x8`); the inputs of an
encoder share one batch and one sequence, so one shape must be left.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from nxmi_export.backends.tensorrt_engine.profile import Shape, ShapeProfile
from nxmi_export.errors import ShapeError

__all__ = ["TrtexecShapes"]

_INPUT = re.compile(r"(?P<quote>'?)(?P<name>.+)(?P=quote):(?P<batch>\d+)x(?P<sequence>\d+)")
_EXAMPLE = "input_ids:1x8,attention_mask:1x8"

_Texts: TypeAlias = Sequence[str]


@dataclass(frozen=True)
class TrtexecShapes:
    """The values of --minShapes, --optShapes and --maxShapes, one of each per profile."""

    min: _Texts = ()
    opt: _Texts = ()
    max: _Texts = ()

    def __bool__(self) -> bool:
        return any((self.min, self.opt, self.max))

    def profiles(
        self, input_names: Sequence[str], *, position_limit: int | None
    ) -> tuple[ShapeProfile, ...]:
        """One profile for each time the three were given; only --optShapes stands for all three.

        Raises ShapeError for what does not give every input the same shape.
        """
        only_opt = self.opt and not self.min and not self.max
        counts = (len(self.min), len(self.opt), len(self.max))
        if not only_opt and len(set(counts)) != 1:
            raise ShapeError(
                "--minShapes, --optShapes and --maxShapes",
                expected="each of the three once for every profile, or --optShapes alone",
                found=" and ".join(map(str, counts)),
                remedy="give the missing ones",
            )
        usual = [_shape("--optShapes", text, input_names) for text in self.opt]
        least, most = (
            usual if only_opt else [_shape(option, text, input_names) for text in texts]
            for option, texts in (("--minShapes", self.min), ("--maxShapes", self.max))
        )
        return tuple(
            ShapeProfile(*shapes, position_limit) for shapes in zip(least, usual, most, strict=True)
        )


def _shape(option: str, text: str, input_names: Sequence[str]) -> Shape:
    """The one shape of all inputs."""
    shapes: dict[str, Shape] = {}
    for pattern, shape in _parsed(option, text):
        named = [name for name in input_names if fnmatchcase(name, pattern)]
        if not named:
            raise ShapeError(
                option,
                expected=f"the inputs {', '.join(input_names)}",
                found=repr(pattern),
                remedy="use the names of the model",
            )
        shapes |= dict.fromkeys(named, shape)
    if missing := [name for name in input_names if name not in shapes]:
        raise ShapeError(
            option,
            expected=f"a shape for each of {', '.join(input_names)}",
            found=f"none for {', '.join(missing)}",
            remedy="name every input",
        )
    if len(set(shapes.values())) != 1:
        raise ShapeError(
            option,
            expected="one batch and sequence, which the inputs of an encoder share",
            found=", ".join(f"{name}:{shape}" for name, shape in shapes.items()),
            remedy="give every input the same",
        )
    return shapes[input_names[0]]


def _parsed(option: str, text: str) -> Iterator[tuple[str, Shape]]:
    for part in text.split(","):
        match = _INPUT.fullmatch(part)
        if match is None:
            raise ShapeError(
                option,
                expected=f"inputs with batch x sequence, as in {_EXAMPLE}",
                found=repr(text),
                remedy="write each input as NAME:BATCHxSEQUENCE",
            )
        yield match["name"], Shape(int(match["batch"]), int(match["sequence"]))
