"""A copy of a good project in, the place where a fault is planted out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from nxmi_export.artefact import (
    CPU_MODEL,
    FP16_MODEL,
    FP16_WEIGHTS,
    MODEL,
    WEIGHTS,
    Manifest,
    file_record,
)
from samples.fault_injection.projects import Base, Projects

__all__ = ["BOTH", "Site"]

BOTH = (MODEL, CPU_MODEL)
_FLOAT16 = (FP16_MODEL, FP16_WEIGHTS)


@dataclass(frozen=True)
class Site:
    """An artefact that may be changed, and where it comes from."""

    directory: Path
    projects: Projects

    @classmethod
    def copy(cls, projects: Projects, base: Base, folder: Path) -> "Site":
        """Copy the good artefact of `base` into `folder`; its checkpoint stays where it is.

        A float16 file comes along only where `base` is about it. Raises Unavailable.
        """
        good = projects.good(base)
        directory = folder / good.name
        shutil.copytree(good, directory)
        site = cls(directory, projects)
        manifest = Manifest.read(directory)
        if base is not Base.FLOAT16:
            kept = {name: each for name, each in manifest.files.items() if name not in _FLOAT16}
            site.facts(files=kept)
            for name in manifest.files.keys() - kept.keys():
                (directory / name).unlink()
        if manifest.source.sha256 is not None:
            path = str((good / manifest.source.path).resolve())
            site.facts(source=manifest.source.model_copy(update={"path": path}))
        return site

    def edit(self, mutate: Callable[[ir.Model], None], *names: str) -> None:
        """Change ONNX files, by default both; tensors that are left alone stay where they are."""
        for name in names or BOTH:
            model = ir.load(self.directory / name)
            mutate(model)
            ir.save(model, self.directory / name)

    def read(self, name: str = MODEL) -> ir.Model:
        """One of the ONNX files."""
        return ir.load(self.directory / name)

    def overwrite(self, value: ir.Value, array: npt.NDArray[np.generic]) -> None:
        """Write a tensor of the file of weights, which both ONNX files read, in place."""
        tensor = value.const_value
        assert isinstance(tensor, ir.ExternalTensor)
        offset, length = tensor.offset or 0, tensor.length
        content = np.ascontiguousarray(array).tobytes()
        assert len(content) == length
        tensor.release()
        with (self.directory / WEIGHTS).open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def take(self, *names: str) -> None:
        """Replace files by those of the other artefact."""
        for name in names:
            shutil.copyfile(self.projects.other() / name, self.directory / name)

    def rewrite(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change one of the JSON files."""
        path = self.directory / name
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")

    def facts(self, **changed: Any) -> None:
        """Change what the manifest says."""
        manifest = Manifest.read(self.directory)
        manifest.model_copy(update=changed).write(self.directory)

    def seal(self) -> None:
        """Give the manifest the hashes of the files as they are now."""
        files = Manifest.read(self.directory).files
        self.facts(files={name: file_record(self.directory / name) for name in files})
