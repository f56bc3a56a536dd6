"""A file of pinned requirements in, the Python of a virtual environment that has them out."""

import shutil
import sys
from pathlib import Path

from samples.cpu_peers.place import Failed, run_program

__all__ = ["python_of"]

_DONE = "requirements.txt"  # inside the environment, written last


def python_of(requirements: Path, folder: Path) -> Path:
    """The interpreter; made first where it is not there, or has other requirements.

    Raises Failed where pip cannot install them.
    """
    wanted, stamp = requirements.read_text(encoding="utf-8"), folder / _DONE
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    try:
        run_program(sys.executable, "-m", "venv", folder)
        run_program(python, "-m", "pip", "install", "--quiet", "--requirement", requirements)
    except Failed as failure:
        raise Failed(f"no environment for {requirements.name}: {failure}") from failure
    stamp.write_text(wanted, encoding="utf-8")
    return python
