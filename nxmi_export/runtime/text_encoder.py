"""Texts in, their token ids out, as the tokenizer gave them in training, without transformers.

`tokenizer.json` holds all that turns a text into ids; what transformers keeps beside it, the
padding and the side that is cut off, comes from its other files.
"""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nxmi_export.encoding.rows import TokenRows
from nxmi_export.errors import ArtefactError, CapabilityMissing, UsageError
from nxmi_export.runtime.texts import Text

__all__ = ["CONFIG", "SIDE_FILES", "TOKENIZER", "TextEncoder"]

TOKENIZER = "tokenizer.json"
CONFIG = "config.json"  # of the model
SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", CONFIG)

# Texts at a time: beside its ids, an encoding holds some kilobytes of other facts.
_CHUNK = 1024
# What an encoding calls each input of a model.
_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class TextEncoder:
    """Encodes texts and pairs, truncated to `max_length` tokens; safe to share between threads.

    `files` holds `tokenizer.json` and those of `SIDE_FILES` that there are. Raises ArtefactError
    for files that make no tokenizer, UsageError for a `max_length` without room for text, and
    CapabilityMissing without the library.
    """

    def __init__(
        self,
        directory: Path,
        files: Mapping[str, bytes],
        *,
        input_names: Sequence[str],
        max_length: int,
    ) -> None:
        side = {name: _json(directory / name, files.get(name, b"{}")) for name in SIDE_FILES}
        settings = side["tokenizer_config.json"]
        self._tokenizer = _open(directory / TOKENIZER, files[TOKENIZER])
        self._fields = {name: _field(directory, name) for name in input_names}
        for pair in (False, True):
            _check_room(directory, max_length, self._tokenizer.num_special_tokens_to_add(pair))
        # The file may have both baked in; from here on nothing changes it.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            max_length, direction=settings.get("truncation_side", "right")
        )
        self._tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens"))
        self.max_length = max_length
        self.padding = dict.fromkeys(input_names, 0)
        self.padding["input_ids"] = self._padding_id(directory, side)

    def encode(self, texts: Sequence[Text]) -> TokenRows:
        """The ids of every text, unpadded."""
        return TokenRows.of(self._rows(texts), tuple(self._fields))

    def _rows(self, texts: Sequence[Text]) -> Iterator[Mapping[str, list[int]]]:
        for start in range(0, len(texts), _CHUNK):
            for encoding in self._tokenizer.encode_batch_fast(texts[start : start + _CHUNK]):
                yield {name: getattr(encoding, field) for name, field in self._fields.items()}

    def _padding_id(self, directory: Path, side: Mapping[str, Mapping[str, Any]]) -> int:
        """Of the padding token that the tokenizer's files name, else the model's own."""
        named = (side[name].get("pad_token") for name in SIDE_FILES[:2])
        token = next((each for each in named if each), None)
        if token is None:
            return int(side[CONFIG].get("pad_token_id") or 0)
        text = token["content"] if isinstance(token, dict) else token
        index = self._tokenizer.token_to_id(text)
        if index is None:
            raise ArtefactError(
                directory / TOKENIZER,
                expected=f"the padding token {text!r} in the vocabulary",
                found="none",
                remedy="save the tokenizer with tokenizer.save_pretrained and export again",
            )
        return int(index)


def _open(path: Path, content: bytes) -> Any:
    library = _tokenizers()
    try:
        return library.Tokenizer.from_buffer(content)
    except Exception as error:  # the library, in Rust, raises bare Exception
        raise ArtefactError(
            path,
            expected="a tokenizer that the library tokenizers reads",
            found=" ".join(str(error).split()),
            remedy="export the model again, or update tokenizers",
        ) from error


def _tokenizers() -> ModuleType:
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise CapabilityMissing(
            "tokenizers",
            expected="an installation that loads",
            found=str(error),
            remedy="run `pip install tokenizers`",
        ) from error


def _json(path: Path, content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ArtefactError(
            path, expected="a JSON object", found="none", remedy="export the model again"
        )
    return value


def _field(directory: Path, name: str) -> str:
    if name not in _FIELDS:
        raise ArtefactError(
            directory,
            expected=f"a model whose inputs are among {', '.join(_FIELDS)}",
            found=name,
            remedy="run the graph with onnxruntime itself",
        )
    return _FIELDS[name]


def _check_room(directory: Path, max_length: int, special: int) -> None:
    if max_length <= special:
        raise UsageError(
            f"{directory}: max_length",
            expected=f"more than the {special} special tokens of a text",
            found=f"{max_length}",
            remedy="allow more tokens",
        )
