"""Texts and a tokenizer in, the ids of every text out, neither padded nor longer than asked."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from nxmi_export.encoding.dataset import EncodedDataset
from nxmi_export.encoding.rows import TokenRows
from nxmi_export.errors import CheckpointError, ShapeError
from nxmi_export.glue import Dataset

__all__ = ["encode", "load_tokenizer"]

# Any one of these holds a vocabulary; without it transformers makes an empty tokenizer.
_VOCABULARIES = {
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spm.model",
    "spiece.model",
}

# Texts at a time: beside its ids, a tokenizer holds some kilobytes of other facts for each.
_CHUNK = 1024


def load_tokenizer(
    files: Mapping[str, bytes], *, source: object, model_type: str | None = None
) -> Any:
    """The transformers tokenizer made of these files; raises CheckpointError where none can be.

    `model_type` decides its class where a vocabulary is all that there is.
    """
    from transformers import AutoTokenizer

    if not files.keys() & _VOCABULARIES:
        raise _no_tokenizer(files, source)
    bare = model_type is not None and _is_bare_vocabulary(files)
    if bare:
        _check_case(files, source)
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        if bare:
            Path(directory, "config.json").write_text(json.dumps({"model_type": model_type}))
        try:
            # Without the flag, files that name code of their own make it ask on the terminal.
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        except Exception as error:  # its Rust half raises bare Exception for what it cannot parse
            raise _no_tokenizer(files, source) from error
    # One that reads another kind of vocabulary comes out empty.
    if bare and not files.keys() & _VOCABULARIES & set(tokenizer.vocab_files_names.values()):
        raise _no_tokenizer(files, source)
    return tokenizer


def encode(
    dataset: Dataset, tokenizer: Any, *, input_names: tuple[str, ...], max_length: int
) -> EncodedDataset:
    """Tokenize every example, truncated to `max_length` tokens and not padded.

    Raises ShapeError for a `max_length` that cannot be kept.
    """
    rows = TokenRows.of(_rows(dataset, tokenizer, input_names, max_length), input_names)
    longest = int(rows.lengths.max(initial=0))
    if longest > max_length:
        # where even the special tokens do not fit, tokenizers leave the text as it is
        raise ShapeError(
            "tokenizing",
            expected="a maximum length that has room for text and special tokens",
            found=f"{max_length}",
            remedy="allow more tokens",
        )
    padding = dict.fromkeys(input_names, 0)
    padding["input_ids"] = int(tokenizer.pad_token_id or 0)
    return EncodedDataset(dataset, rows, padding)


def _rows(
    dataset: Dataset, tokenizer: Any, input_names: tuple[str, ...], max_length: int
) -> Iterator[Mapping[str, ArrayLike]]:
    for start in range(0, len(dataset), _CHUNK):
        encoding = tokenizer(
            *[list(column[start : start + _CHUNK]) for column in dataset.texts],
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=True,
            return_token_type_ids="token_type_ids" in input_names,
        )
        for index in range(len(encoding["input_ids"])):
            yield {name: encoding[name][index] for name in input_names}


def _is_bare_vocabulary(files: Mapping[str, bytes]) -> bool:
    """Whether nothing says which tokenizer reads the vocabulary.

    Where something does, the model's type could override it.
    """
    if "tokenizer.json" in files:
        return False
    try:
        config = json.loads(files.get("tokenizer_config.json", b"{}"))
    except ValueError:
        return False
    return isinstance(config, dict) and not config.keys() & {"tokenizer_class", "auto_map"}


def _check_case(files: Mapping[str, bytes], source: object) -> None:
    """Refuse capitals in a vocabulary whose tokenizer would lower-case all texts unasked."""
    if b"do_lower_case" in files.get("tokenizer_config.json", b""):
        return
    words = files.get("vocab.txt", b"").decode(errors="replace").split()
    capital = next((each for each in words if each != each.lower() and each[0] != "["), None)
    if capital is not None:
        raise CheckpointError(
            source,
            expected="a tokenizer_config.json that says whether texts are lower-cased",
            found=f"none, beside a vocabulary with capitals, such as {capital!r}",
            remedy="save the tokenizer with tokenizer.save_pretrained next to the model",
        )


def _no_tokenizer(files: Mapping[str, bytes], source: object) -> CheckpointError:
    return CheckpointError(
        source,
        expected="a whole tokenizer beside the weights",
        found=", ".join(sorted(files)) or "no tokenizer files",
        remedy="save it with tokenizer.save_pretrained next to the model",
    )
