"""What earlier builds measured, given to the next one; what it knows afterwards, given back."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.logger import Recording

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["TimingCache", "attach_timing_cache", "with_content"]

# The bindings say so in a DeprecationWarning, and what they serialize they refuse to read back
# (1.7.1, without a GPU).
_RTX_HAS_NONE = "TensorRT-RTX has no timing caches; it times no kernel when it builds"


@dataclass(frozen=True, slots=True)
class TimingCache:
    """How a build used timings of earlier ones."""

    was_read: bool = False
    refused: str | None = None  # why the library did not take what the file held, in its words
    is_attached: bool = False  # the build added to it
    content: bytes | None = field(default=None, repr=False)  # to keep for the next build


def attach_timing_cache(
    library: Library, config: "trt.IBuilderConfig", record: Recording, path: Path | None
) -> TimingCache:
    """Let a build use and extend the timings in the file `path`, which need not exist yet.

    Timings hold for one kind of GPU and one release; the library checks both. What it refuses is
    not used, and the build starts new timings.
    """
    if path is None:
        return TimingCache()
    if library.is_rtx:
        return TimingCache(refused=_RTX_HAS_NONE)
    content = path.read_bytes() if path.exists() else b""
    refused = _refusal(config, record, content) if content else None
    if not content or refused:
        fresh = config.create_timing_cache(b"")
        config.set_timing_cache(fresh, False)
    return TimingCache(bool(content) and not refused, refused, is_attached=True)


def with_content(cache: TimingCache, config: "trt.IBuilderConfig") -> TimingCache:
    """The same cache after the build, with the bytes to keep."""
    if not cache.is_attached:
        return cache
    return replace(cache, content=bytes(memoryview(config.get_timing_cache().serialize())))


def _refusal(config: "trt.IBuilderConfig", record: Recording, content: bytes) -> str | None:
    """None where the library takes the timings, else its reason.

    Timings of another release are replaced by none, with a warning; those of another GPU are read
    and then not accepted.
    """
    said = len(record.messages)
    cache = config.create_timing_cache(content)
    is_whole = cache is not None and not record.complaints(said)
    if is_whole and config.set_timing_cache(cache, False):
        return None
    return "; ".join(record.complaints(said)) or "it is of another GPU or release"
