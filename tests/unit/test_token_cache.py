"""Datasets that were tokenized before: found again by their content, and only where it is whole."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.cli.caches import token_cache
from nxmi_export.encoding import CachedEncoder, EncodedDataset, cache
from nxmi_export.errors import OutputError, UsageError
from tests.tiny_models import tiny_tokenizer, toy_dataset

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Encodings = list[int]  # of each time that a dataset was tokenized, how many texts


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(folder)
    return read_tokenizer_files(folder)


@pytest.fixture
def encoder(files: dict[str, bytes], tmp_path: Path) -> CachedEncoder:
    return CachedEncoder.open(
        files,
        source="model.pt",
        model_type="bert",
        input_names=INPUTS,
        max_length=64,
        folder=tmp_path / "tokens",
    )


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> Encodings:
    encode, counts = cache.encode, []

    def counting(dataset: Any, *arguments: Any, **options: Any) -> EncodedDataset:
        counts.append(len(dataset))
        return encode(dataset, *arguments, **options)

    monkeypatch.setattr(cache, "encode", counting)
    return counts


def entry(encoder: CachedEncoder) -> Path:
    assert encoder.folder is not None
    (path,) = encoder.folder.iterdir()
    return path


def assert_same(one: EncodedDataset, other: EncodedDataset) -> None:
    assert one.padding == other.padding
    assert len(one) == len(other)
    for row, expected in zip(one.rows, other.rows, strict=True):
        assert row.keys() == expected.keys()
        for name, ids in row.items():
            np.testing.assert_array_equal(ids, expected[name])


def test_a_dataset_is_tokenized_once(encoder: CachedEncoder, tokenized: Encodings) -> None:
    dataset = toy_dataset(30)
    first, again = encoder.encode(dataset), encoder.encode(dataset)
    assert tokenized == [30]
    assert_same(again, first)
    assert again.dataset is dataset


def test_another_process_finds_it(
    encoder: CachedEncoder, files: dict[str, bytes], tokenized: Encodings
) -> None:
    encoder.encode(toy_dataset(30))
    other = CachedEncoder.open(
        dict(reversed(files.items())),
        source="elsewhere.pt",
        model_type="bert",
        input_names=INPUTS,
        max_length=64,
        folder=encoder.folder,
    )
    assert_same(other.encode(toy_dataset(30)), encoder.encode(toy_dataset(30)))
    assert tokenized == [30]


@pytest.mark.parametrize(
    "change",
    [
        lambda encoder: replace(encoder, max_length=12),
        lambda encoder: replace(encoder, input_names=INPUTS[:2]),
        lambda encoder: replace(encoder, files=encoder.files | {"vocab.txt": b"[PAD]\n[UNK]\n"}),
    ],
    ids=["length", "inputs", "tokenizer"],
)
def test_other_settings_are_another_entry(
    encoder: CachedEncoder,
    tokenized: Encodings,
    change: Callable[[CachedEncoder], CachedEncoder],
) -> None:
    other = change(encoder)
    encoder.encode(toy_dataset(30))
    found = other.encode(toy_dataset(30))
    assert tokenized == [30, 30]
    assert found.lengths.max() <= other.max_length
    assert set(found.rows[0]) == set(other.input_names)


def test_other_texts_of_the_same_name_are_another_entry(encoder: CachedEncoder) -> None:
    dataset = toy_dataset(4)
    (column,) = dataset.texts
    # The same words, cut into texts elsewhere.
    moved = (f"{column[0]} {column[1]}", *column[1:])
    assert encoder.key(dataset) != encoder.key(replace(dataset, texts=(moved,)))
    assert encoder.key(dataset) != encoder.key(dataset.head(3))
    assert encoder.key(dataset) == encoder.key(replace(dataset, source="moved", split="test"))


def test_another_version_of_the_tokenizer_is_another_entry(
    encoder: CachedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = encoder.key(toy_dataset(4))
    monkeypatch.setattr(cache, "version", lambda name: "0.0.1")
    assert encoder.key(toy_dataset(4)) != before


def _flip(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        _flip,
        lambda content: b"",
        lambda content: b"PK",
    ],
    ids=["cut short", "one bit", "empty", "another file"],
)
def test_a_damaged_entry_is_replaced(
    encoder: CachedEncoder, tokenized: Encodings, damage: Callable[[bytes], bytes]
) -> None:
    dataset = toy_dataset(30)
    expected = encoder.encode(dataset)
    path = entry(encoder)
    path.write_bytes(damage(path.read_bytes()))
    assert_same(encoder.encode(dataset), expected)
    assert_same(encoder.encode(dataset), expected)
    assert tokenized == [30, 30]


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays | {"starts": arrays["starts"][:-1]},
        lambda arrays: arrays | {"starts": arrays["starts"].astype(np.float64)},
        lambda arrays: arrays | {"ids.input_ids": arrays["ids.input_ids"][1:]},
        lambda arrays: arrays | {"ids.input_ids": arrays["ids.input_ids"].astype(np.int16)},
        lambda arrays: {name: array for name, array in arrays.items() if name != "starts"},
    ],
    ids=["an example less", "starts of another type", "a token less", "another type", "no starts"],
)
def test_an_entry_that_does_not_fit_its_dataset_is_replaced(
    encoder: CachedEncoder, tokenized: Encodings, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    dataset = toy_dataset(30)
    expected = encoder.encode(dataset)
    path = entry(encoder)
    with np.load(path) as arrays:
        changed = change(dict(arrays))
    with path.open("wb") as file:
        np.savez(file, **changed)
    assert_same(encoder.encode(dataset), expected)
    assert tokenized == [30, 30]


def test_nothing_is_left_of_an_entry_whose_writing_fails(
    encoder: CachedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **arrays: Any) -> None:
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "savez_compressed", full)
    with pytest.raises(OutputError, match="found no space left on the device"):
        encoder.encode(toy_dataset(4))
    assert encoder.folder is not None
    assert list(encoder.folder.iterdir()) == []


def test_without_a_folder_nothing_is_kept(encoder: CachedEncoder, tokenized: Encodings) -> None:
    for _ in range(2):
        replace(encoder, folder=None).encode(toy_dataset(5))
    assert tokenized == [5, 5]
    assert encoder.folder is not None
    assert list(encoder.folder.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    place = tmp_path / "tokens"
    place.touch()
    with pytest.raises(OutputError) as refusal:
        CachedEncoder.open(
            files,
            source="model.pt",
            model_type="bert",
            input_names=INPUTS,
            max_length=64,
            folder=place,
        )
    assert str(refusal.value) == (
        f"{place}: expected a folder for tokenized datasets, found File exists; "
        "choose another with --cache, or pass --no-cache"
    )


def test_the_default_folder_is_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert token_cache(None, wanted=True) == tmp_path / "xdg" / "nxmi-export" / "tokens"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_cache(None, wanted=True) == tmp_path / ".cache" / "nxmi-export" / "tokens"


def test_a_default_folder_that_cannot_be_made_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert token_cache(None, wanted=True) is None


def test_a_folder_that_is_named_is_taken_and_none_is_none(tmp_path: Path) -> None:
    assert token_cache(tmp_path, wanted=True) == tmp_path
    assert token_cache(None, wanted=False) is None
    with pytest.raises(UsageError) as refusal:
        token_cache(tmp_path, wanted=False)
    assert str(refusal.value) == (
        "--no-cache: expected a folder of tokenized datasets, or none, "
        f"found both, with --cache {tmp_path}; give one of the two"
    )
