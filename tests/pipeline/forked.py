"""Functions run as real processes, alone or joined by gloo, that no import has to wait for.

A fresh interpreter spends ten times longer on importing torch and transformers than on a tiny run.
These processes are forked from a server that has imported them, and has computed nothing yet: they
share no state with pytest, have their own memory, and can be killed. What launchers start is in
tests/cli/compress/test_cli_compress_resume.py.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.distributed import TCPStore

__all__ = ["Ended", "run_forked"]

HOST = "127.0.0.1"
SECONDS = 300  # until a run counts as hanging

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.pipeline.preloaded"])


@dataclass(frozen=True)
class Ended:
    """How a run ended: the exit code of the first process that failed, else 0."""

    returncode: int
    stderr: str  # with standard output, of all processes


def run_forked(
    function: Callable[[Sequence[str]], None], arguments: Sequence[str], *, processes: int = 1
) -> Ended:
    """Call `function` of a module with `arguments` in each of `processes` new processes.

    Several find each other by the variables that torchrun sets. As under torchrun, the first that
    fails ends the others.
    """
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        started = [
            _SERVER.Process(
                target=_called,
                args=(function, list(arguments), _variables(rank, processes, store.port), output),
            )
            for rank in range(processes)
        ]
        for process in started:
            process.start()
        code = _first_failure(started)
        return Ended(code, output.read_text(errors="replace"))


def _variables(rank: int, processes: int, port: int) -> dict[str, str]:
    if processes == 1:
        return {}
    numbers = {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    numbers |= {name: str(processes) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    # The store is pytest's, so that its port is free for certain.
    store = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    return {**numbers, **store, "MASTER_ADDR": HOST, "MASTER_PORT": str(port)}


def _called(
    function: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    variables: dict[str, str],
    output: Path,
) -> None:
    with output.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ |= variables
    function(arguments)


def _first_failure(started: Sequence[BaseProcess]) -> int:
    """Wait for all, or for the first that fails, which ends the others; 0 where none fails."""
    end = time.monotonic() + SECONDS
    running = list(started)
    try:
        while running:
            if not wait([each.sentinel for each in running], end - time.monotonic()):
                raise TimeoutError(f"expected an end within {SECONDS} s, found none")
            for process in [each for each in running if not each.is_alive()]:
                running.remove(process)
                if process.exitcode:
                    return process.exitcode
        return 0
    finally:
        for process in running:
            process.kill()
        for process in started:
            process.join()
            process.close()
