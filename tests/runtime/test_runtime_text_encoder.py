"""Ids without transformers are those that transformers gives, on a real tokenizer."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import encode, load_tokenizer
from nxmi_export.glue import Dataset, load_dataset, task_named
from nxmi_export.runtime.text_encoder import SIDE_FILES, TOKENIZER, TextEncoder

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
DIFFICULT = (
    "",
    "   \t\n",
    "Ça va? CAFÉ naïve Zoë",
    "東京タワー and 서울",
    "[SEP] [CLS] [MASK] in a text",
    "emoji 👩‍👩‍👧 and \u200b zero width \ufeff",
    "control \x00\x07 characters",
    "a" * 300,
    "Ünïcödé " * 200,
    "don't U.S.A. 3.14 e-mail@example.com",
)


def served(directory: Path, max_length: int, **side: Mapping[str, object]) -> TextEncoder:
    names = [name for name in (TOKENIZER, *SIDE_FILES) if (directory / name).is_file()]
    files = {name: (directory / name).read_bytes() for name in names}
    files |= {f"{name}.json": json.dumps(content).encode() for name, content in side.items()}
    return TextEncoder(directory, files, input_names=INPUTS, max_length=max_length)


def assert_equal_ids(directory: Path, dataset: Dataset, max_length: int) -> None:
    tokenizer = load_tokenizer(read_tokenizer_files(directory), source=directory)
    expected = encode(dataset, tokenizer, input_names=INPUTS, max_length=max_length)
    encoder = served(directory, max_length)
    columns = dataset.texts
    texts = list(columns[0] if len(columns) == 1 else zip(*columns, strict=True))
    found = encoder.encode(texts)
    np.testing.assert_array_equal(found.starts, expected.rows.starts)
    for name in INPUTS:
        np.testing.assert_array_equal(found.ids[name], expected.rows.ids[name], err_msg=name)
    assert encoder.padding == expected.padding


def made_of(task: str, *columns: tuple[str, ...]) -> Dataset:
    labels = np.zeros(len(columns[0]), np.int64)
    return Dataset(task_named(task), "validation", columns, labels, labels, "made up", "0" * 64)


@pytest.mark.parametrize("max_length", [8, 128, 512])
def test_difficult_texts_have_the_ids_of_training(max_length: int, minilm_dir: Path) -> None:
    assert_equal_ids(minilm_dir, made_of("sst2", DIFFICULT), max_length)


@pytest.mark.parametrize("max_length", [8, 128])
def test_difficult_pairs_have_the_ids_of_training(max_length: int, minilm_dir: Path) -> None:
    pairs = made_of("mrpc", DIFFICULT * 2, DIFFICULT[::-1] + DIFFICULT)
    assert_equal_ids(minilm_dir, pairs, max_length)


@pytest.mark.parametrize("task", ["sst2", "mrpc"])
def test_a_dev_set_has_the_ids_of_training(task: str, minilm_dir: Path, glue_dir: Path) -> None:
    assert_equal_ids(minilm_dir, load_dataset(task_named(task), "validation", glue_dir), 128)


def test_the_side_that_is_cut_off_is_the_tokenizers_own(minilm_dir: Path) -> None:
    text, settings = "one two three four", {"pad_token": "[PAD]", "truncation_side": "left"}
    right = served(minilm_dir, 4, tokenizer_config={"pad_token": {"content": "[PAD]"}})
    left = served(minilm_dir, 4, tokenizer_config=settings)
    whole = served(minilm_dir, 8).encode([text]).ids["input_ids"].tolist()
    assert right.encode([text]).ids["input_ids"].tolist() == [*whole[:3], whole[-1]]
    assert left.encode([text]).ids["input_ids"].tolist() == [whole[0], *whole[3:]]


def test_the_padding_is_the_models_where_the_tokenizer_names_none(minilm_dir: Path) -> None:
    none: dict[str, object] = {}
    encoder = served(
        minilm_dir, 8, tokenizer_config=none, special_tokens_map=none, config={"pad_token_id": 7}
    )
    assert encoder.padding == {"input_ids": 7, "attention_mask": 0, "token_type_ids": 0}
