"""What a command line leaves behind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Outcome:
    """Exit code, results and everything else."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line that standard error consists of, without its prefix."""
        assert self.out == ""
        assert self.err.startswith("error: "), self.err
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").removesuffix("\n")


Command: TypeAlias = Callable[..., Outcome]
