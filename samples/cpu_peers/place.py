"""Where things are, and how the programs that make them are started."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HERE", "Failed", "Place", "run_module", "run_program"]

HERE = Path(__file__).parent


class Failed(Exception):
    """A program that did not do its work; the message says which, and its last words."""


@dataclass(frozen=True)
class Place:
    """Where models, peers' files and environments are kept, and where GLUE is."""

    models: Path
    data: Path


def run_module(module: str, *arguments: object) -> None:
    """One of this project's commands, a process of its own; exits where it fails."""
    # Its figures go to standard error, since the table is what this sample prints.
    command = [sys.executable, "-m", module, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def run_program(*command: object) -> None:
    """Somebody else's program; raises Failed with the last line that it wrote."""
    words = list(map(str, command))
    done = subprocess.run(
        words, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        told = lines[-1] if lines else f"exit status {done.returncode}"
        raise Failed(f"{' '.join(Path(word).name for word in words[:3])} failed: {told}")
