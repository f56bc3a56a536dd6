"""Functions run as real processes, alone or joined by gloo, that no import has to wait for.

A fresh interpreter spends ten times longer on importing torch and transformers than on a tiny run.
These processes are forked from a server that has imported them, and has computed nothing yet: they
share no state with pytest, have their own memory, and can be killed. What launchers start is in
tests/cli: test_cli_search.py and compress/test_cli_compress_resume.py.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.distributed import TCPStore

from nxmi_export.__main__ import main

__all__ = ["Ended", "command_line", "run_forked"]

HOST = "127.0.0.1"
SECONDS = 300  # until a run counts as hanging

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.preloaded"])


@dataclass(frozen=True)
class Ended:
    """How a run ended: the exit code of the first process that failed, else 0."""

    returncode: int
    stdout: str  # of all processes
    stderr: str


def run_forked(
    function: Callable[[Sequence[str]], None],
    arguments: Sequence[object],
    *,
    processes: int = 1,
    variables: Mapping[str, str] | None = None,
    patience: float = 0,
) -> Ended:
    """Call `function` of a module with `arguments` in each of `processes` new processes.

    Several find each other by the variables that torchrun sets. As under torchrun, the first that
    fails ends the others, after the `patience` seconds that they have to end by themselves.
    """
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder, "stdout"), Path(folder, "stderr")
        started = []
        for rank in range(processes):
            environment = {**(variables or {}), **_launched(rank, processes, store.port)}
            given = (function, list(map(str, arguments)), environment, outputs)
            started.append(_SERVER.Process(target=_called, args=given))
        for process in started:
            process.start()
        code = _first_failure(started, patience)
        return Ended(code, *(output.read_text(errors="replace") for output in outputs))


def command_line(arguments: Sequence[str]) -> None:
    """`nxmi-export` with these arguments, as `run_forked` calls it."""
    sys.exit(main(list(arguments)))


def _launched(rank: int, processes: int, port: int) -> dict[str, str]:
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
    outputs: tuple[Path, Path],
) -> None:
    for output, stream in zip(outputs, (sys.stdout, sys.stderr), strict=True):
        with output.open("a") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ |= variables
    function(arguments)


def _first_failure(started: Sequence[BaseProcess], patience: float) -> int:
    """The exit code of the first that fails, 0 where none does; none of them runs any longer."""
    end = time.monotonic() + SECONDS
    running, code = list(started), 0
    try:
        while running:
            if not wait([each.sentinel for each in running], max(0, end - time.monotonic())):
                if code:
                    return code
                raise TimeoutError(f"expected an end within {SECONDS} s, found none")
            for process in [each for each in running if not each.is_alive()]:
                running.remove(process)
                if process.exitcode and not code:
                    code, end = process.exitcode, time.monotonic() + patience
        return code
    finally:
        for process in running:
            process.kill()
        for process in started:
            process.join()
            process.close()
