"""TensorRT 10 and 11 as far as a build touches them; what was asked of them is kept."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import ModuleType
from typing import Any

from nxmi_export.backends.tensorrt_engine import Library

FLAGS = ("TF32", "SPARSE_WEIGHTS", "VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN")
# 10.0 … 10.8 know the first two; SAME_COMPUTE_CAPABILITY came later.
OLD_LEVELS = ("NONE", "AMPERE_PLUS")
LEVELS = (*OLD_LEVELS, "SAME_COMPUTE_CAPABILITY")


class Cache(bytes):
    """Kernel timings."""

    def serialize(self) -> bytes:
        return b"timed:" + self


@dataclass
class Asked:
    """What one build asked for."""

    creation_flags: int = -1
    flags: set[str] = field(default_factory=lambda: {"TF32"})
    settings: dict[str, Any] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    cache: Cache | None = None


def fake_library(
    version: str = "10.14.1",
    *,
    creation_flags: dict[str, int] | None = None,
    flags: tuple[str, ...] = FLAGS,
    levels: tuple[str, ...] = LEVELS,
    foreign: bytes = b"another GPU",
    stale: bytes = b"another release",
) -> tuple[Library, Asked]:
    """A TensorRT, and what the next build asks of it; 11 has no creation flags left.

    Timings equal to `foreign` are not accepted, and in the place of `stale` ones come none.
    """
    asked = Asked()
    module = ModuleType("tensorrt")
    module.ProfilingVerbosity = Enum("ProfilingVerbosity", ["DETAILED"])
    module.MemoryPoolType = Enum("MemoryPoolType", ["WORKSPACE"])
    module.BuilderFlag = Enum("BuilderFlag", list(flags))
    module.HardwareCompatibilityLevel = Enum("HardwareCompatibilityLevel", list(levels))
    module.NetworkDefinitionCreationFlag = IntEnum("CreationFlag", creation_flags or {})
    module.Dims2 = lambda *sizes: sizes
    module.IProgressMonitor = object
    module.ILogger = _logger()

    class Config:
        def __setattr__(self, name: str, value: object) -> None:
            asked.settings[name] = value

        def __getattr__(self, name: str) -> Any:
            return asked.settings[name]

        def set_flag(self, flag: Enum) -> None:
            asked.flags.add(flag.name)

        def get_flag(self, flag: Enum) -> bool:
            return flag.name in asked.flags

        def clear_flag(self, flag: Enum) -> None:
            asked.flags.discard(flag.name)

        def set_memory_pool_limit(self, pool: Enum, size: int) -> None:
            asked.pools[pool.name] = size

        def create_timing_cache(self, content: bytes) -> Cache:
            if content != stale:
                return Cache(content)
            logger = asked.settings["logger"]
            logger.log(module.ILogger.Severity.WARNING, "Returning an empty timing cache.")
            return Cache()

        def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            if cache == foreign:
                return False
            asked.cache = cache
            return True

        def get_timing_cache(self) -> Cache | None:
            return asked.cache

        def add_optimization_profile(self, profile: "Profile") -> None:
            asked.profiles.append(profile.shapes)

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, name: str, *shapes: tuple[int, int]) -> None:
            self.shapes[name] = shapes

    class Tensor:
        def __init__(self, name: str) -> None:
            self.name, self.shape = name, (-1, -1)

    class Network:
        num_inputs = 2

        def get_input(self, index: int) -> Tensor:
            return Tensor(("input_ids", "attention_mask")[index])

    class Builder:
        def __init__(self, logger: object) -> None:
            asked.settings["logger"] = logger

        def create_network(self, flags: int) -> Network:
            asked.creation_flags = flags
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes:
            return b"a plan"

    class Parser:
        def __init__(self, network: Network, logger: object) -> None:
            self.network = network

        def parse_from_file(self, path: str) -> bool:
            return True

    module.Builder, module.OnnxParser = Builder, Parser
    return Library(module, "tensorrt", version), asked


def _logger() -> type:
    class ILogger:
        Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    return ILogger
