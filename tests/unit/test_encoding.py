import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.encoding import EncodedDataset, check_ids, encode, load_tokenizer
from nxmi_export.errors import CheckpointError, ShapeError
from nxmi_export.glue import task_named
from tests.tiny_models import tiny_tokenizer, toy_data, toy_dataset

BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CLS, SEP, PAD = 2, 3, 0


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    tiny_tokenizer().save_pretrained(tmp_path)
    return read_tokenizer_files(tmp_path)


def _encode(count: int = 10, *, task: str = "sst2", max_length: int = 64) -> EncodedDataset:
    dataset = toy_dataset(count, task=task_named(task))
    return encode(dataset, tiny_tokenizer(), input_names=BERT_INPUTS, max_length=max_length)


@given(count=st.integers(1, 40), size=st.integers(1, 50))
def test_batches_cover_every_example_once_and_are_never_longer_than_asked(
    count: int, size: int
) -> None:
    data = toy_data(count)
    batches = list(data.batches(size))
    indices = np.concatenate([batch.indices for batch in batches])
    assert sorted(indices) == list(range(count))
    assert [len(batch.indices) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 0 < len(batches[-1].indices) <= size


def test_batches_go_from_short_to_long_so_that_they_pad_little() -> None:
    data = toy_data(40)
    longest = [batch.feeds["input_ids"].shape[1] for batch in data.batches(8)]
    assert longest == sorted(longest)
    assert longest[0] < longest[-1] == data.lengths.max()


@given(st.permutations(range(40)), st.integers(1, 50))
def test_examples_are_spread_over_the_lengths_whatever_their_order(
    order: list[int], count: int
) -> None:
    data = toy_data(40)
    turned = data.select(np.array(order))
    chosen = data.spread(count)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, 40)
    assert (np.diff(data.lengths[chosen]) >= 0).all()
    if count > 1:
        ends = data.lengths[chosen[[0, -1]]].tolist()
        assert ends == [data.lengths.min(), data.lengths.max()]
    tokens = [[each.rows.content(i) for i in each.spread(count)] for each in (data, turned)]
    assert tokens[0] == tokens[1]


def test_a_batch_is_padded_on_the_right_to_its_longest_example() -> None:
    data = toy_data(12)
    for batch in data.batches(5):
        length = max(data.lengths[batch.indices])
        for row, index in enumerate(batch.indices):
            own = data.lengths[index]
            ids = batch.feeds["input_ids"][row]
            assert ids.shape == (length,)
            np.testing.assert_array_equal(ids[:own], data.rows[index]["input_ids"])
            assert ids[0] == CLS
            assert ids[own - 1] == SEP
            assert (ids[own:] == PAD).all()
            assert batch.feeds["attention_mask"][row].tolist() == [1] * own + [0] * (length - own)
            assert (batch.feeds["token_type_ids"][row] == 0).all()
        assert all(array.dtype == np.int64 for array in batch.feeds.values())


def test_the_order_of_the_caller_is_kept() -> None:
    data, order = toy_data(6), np.array([4, 0, 5])
    batches = [batch.indices.tolist() for batch in data.batches(2, order=order)]
    assert batches == [[4, 0], [5]]


def test_padding_to_a_fixed_length() -> None:
    data = toy_data(6)
    shapes = {batch.feeds["input_ids"].shape for batch in data.batches(2, pad_to=40)}
    assert shapes == {(2, 40)}


def test_padding_below_the_longest_example_is_refused() -> None:
    data = toy_data(6)
    longest = data.lengths.max()
    with pytest.raises(ShapeError) as caught:
        list(data.batches(2, pad_to=8))
    assert str(caught.value).endswith("found 8; pad to a larger length")
    with pytest.raises(ShapeError) as caught:
        data.padded(range(6), 8)
    assert str(caught.value) == (
        f"padding: expected at least the {longest} tokens of the longest example, found 8; pad to "
        "a larger length"
    )


def test_a_pair_is_one_row_with_two_token_types() -> None:
    data = _encode(task="mrpc")
    for row in data.rows:
        ids, types = row["input_ids"].tolist(), row["token_type_ids"].tolist()
        assert ids.count(SEP) == 2
        end_of_first = ids.index(SEP) + 1
        assert types == [0] * end_of_first + [1] * (len(ids) - end_of_first)


def test_a_pair_is_cut_at_its_longer_half() -> None:
    data = _encode(40, task="mrpc", max_length=12)
    assert data.lengths.max() == 12
    for row in data.rows:
        assert row["input_ids"].tolist().count(SEP) == 2


def test_texts_are_cut_to_the_maximum_length_and_keep_their_end_mark() -> None:
    data = _encode(40, max_length=7)
    assert data.lengths.max() == 7
    assert all(row["input_ids"][-1] == SEP for row in data.rows)


def test_only_the_inputs_of_the_model_are_made() -> None:
    data = toy_data(4, model_type="roberta")
    assert set(data.rows[0]) == set(data.padding) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(("task", "max_length"), [("sst2", 1), ("mrpc", 2)])
def test_a_length_without_room_for_the_special_tokens_is_refused(
    task: str, max_length: int
) -> None:
    with pytest.raises(ShapeError) as caught:
        _encode(task=task, max_length=max_length)
    assert str(caught.value) == (
        "tokenizing: expected a maximum length that has room for text and special tokens, found "
        f"{max_length}; allow more tokens"
    )


def test_padding_and_truncation_baked_into_a_tokenizer_are_overridden(
    files: dict[str, bytes],
) -> None:
    inner = Tokenizer.from_str(files["tokenizer.json"].decode())
    inner.enable_padding(length=128, pad_id=0, pad_token="[PAD]")
    inner.enable_truncation(5)
    assert len(inner.encode("a film").ids) == 128
    baked = load_tokenizer(files | {"tokenizer.json": inner.to_str().encode()}, source="model.pt")
    dataset = toy_dataset(20)
    encoded = encode(dataset, baked, input_names=BERT_INPUTS, max_length=64)
    plain = encode(dataset, tiny_tokenizer(), input_names=BERT_INPUTS, max_length=64)
    assert encoded.lengths.tolist() == plain.lengths.tolist()
    assert encoded.lengths.min() < 20 < encoded.lengths.max() + 5
    for row, expected in zip(encoded.rows, plain.rows, strict=True):
        for name in BERT_INPUTS:
            np.testing.assert_array_equal(row[name], expected[name])


def test_a_tokenizer_that_pads_on_the_left_makes_no_difference() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    dataset = toy_dataset(8)
    data = encode(dataset, tokenizer, input_names=BERT_INPUTS, max_length=64)
    feeds = data.padded(range(8), None)
    assert (feeds["input_ids"][:, 0] == CLS).all()


def test_a_tokenizer_that_names_no_attention_mask_still_gets_one() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids"]
    data = encode(toy_dataset(2), tokenizer, input_names=BERT_INPUTS, max_length=64)
    assert (data.rows[0]["attention_mask"] == 1).all()


def test_a_loaded_tokenizer_gives_the_ids_of_the_saved_one(files: dict[str, bytes]) -> None:
    text = "a great film with dull acting"
    assert load_tokenizer(files, source="model.pt")(text) == tiny_tokenizer()(text)


def _config(**changes: Any) -> bytes:
    return json.dumps({"tokenizer_class": "BertTokenizer"} | changes).encode()


BROKEN_TOKENIZERS = {
    "nothing": ({}, "no tokenizer files"),
    "no vocabulary": ({"tokenizer_config.json": _config()}, "tokenizer_config.json"),
    "half a JSON": ({"tokenizer.json": b'{"version": '}, "tokenizer.json"),
    "another JSON": ({"tokenizer.json": b"{}"}, "tokenizer.json"),
    "an unknown model": (
        {"tokenizer.json": b'{"added_tokens": [], "model": {"type": "Nope"}}'},
        "tokenizer.json",
    ),
    "a list as configuration": (
        {"tokenizer.json": b"{}", "tokenizer_config.json": b"[]"},
        "tokenizer.json, tokenizer_config.json",
    ),
}


@pytest.mark.parametrize(("broken", "found"), BROKEN_TOKENIZERS.values(), ids=BROKEN_TOKENIZERS)
def test_a_missing_or_broken_tokenizer_is_refused(broken: dict[str, bytes], found: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(broken, source="model.pt")
    assert str(caught.value) == (
        f"model.pt: expected a whole tokenizer beside the weights, found {found}; save it with "
        "tokenizer.save_pretrained next to the model"
    )


BARE = {"vocab.txt": "\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "great")).encode()}


@pytest.mark.parametrize("more", [{}, {"tokenizer_config.json": b'{"do_lower_case": true}'}])
def test_the_type_of_the_model_says_which_tokenizer_reads_a_bare_vocabulary(
    more: dict[str, bytes],
) -> None:
    tokenizer = load_tokenizer(BARE | more, source="model.pt", model_type="bert")
    assert tokenizer("Great films")["input_ids"] == [CLS, 5, 1, SEP]


@pytest.mark.parametrize(
    "more",
    [
        {"tokenizer_config.json": b'{"tokenizer_class": "Own", "auto_map": {}}'},
        {"tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["own.Own", null]}}'},
        {"tokenizer_config.json": b"{"},
        {"tokenizer.json": b"{}"},
    ],
)
def test_the_type_of_the_model_overrides_nothing_that_is_said(more: dict[str, bytes]) -> None:
    with pytest.raises(CheckpointError, match="expected a whole tokenizer"):
        load_tokenizer(BARE | more, source="model.pt", model_type="bert")


@pytest.mark.parametrize("model_type", ["roberta", "albert", "xlm-roberta"])
def test_a_bare_vocabulary_of_another_kind_is_refused(model_type: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected a whole tokenizer .* found vocab\.txt;"):
        load_tokenizer(BARE, source="model.pt", model_type=model_type)


def test_a_bare_vocabulary_with_capitals_has_to_say_what_becomes_of_case() -> None:
    cased = {"vocab.txt": BARE["vocab.txt"] + b"\nGreat"}
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(cased, source="model.pt", model_type="bert")
    assert str(caught.value) == (
        "model.pt: expected a tokenizer_config.json that says whether texts are lower-cased, found "
        "none, beside a vocabulary with capitals, such as 'Great'; save the tokenizer with "
        "tokenizer.save_pretrained next to the model"
    )
    said = {"tokenizer_config.json": b'{"do_lower_case": false}'}
    tokenizer = load_tokenizer(cased | said, source="model.pt", model_type="bert")
    assert tokenizer("Great great")["input_ids"] == [CLS, 6, 5, SEP]


def test_what_fills_up_shorter_texts_needs_a_row_of_its_own() -> None:
    data = _encode()
    highest = int(data.rows.ids["input_ids"].max())
    beyond = replace(data, padding=data.padding | {"input_ids": highest + 1})
    with pytest.raises(CheckpointError, match=f"found {highest + 1} in sst2 train"):
        check_ids(beyond, {"vocab_size": highest + 1}, source="model.pt")
    alone = _encode(1)
    check_ids(
        replace(alone, padding=beyond.padding), {"vocab_size": highest + 1}, source="model.pt"
    )


@pytest.mark.parametrize(
    ("task", "name", "key", "remedy"),
    [
        (
            *("sst2", "input_ids", "vocab_size"),
            "save the tokenizer that the model was trained with beside it",
        ),
        (
            *("mrpc", "token_type_ids", "type_vocab_size"),
            "use a model that was trained on pairs of texts",
        ),
    ],
)
def test_ids_that_a_table_has_no_row_for_are_refused(
    task: str, name: str, key: str, remedy: str
) -> None:
    data = _encode(task=task)
    highest = int(data.rows.ids[name].max())
    enough = {"vocab_size": 96, "type_vocab_size": 2}
    check_ids(data, enough | {key: highest + 1}, source="model.pt")
    with pytest.raises(CheckpointError) as caught:
        check_ids(data, enough | {key: highest}, source="model.pt")
    assert str(caught.value) == (
        f"model.pt: expected {name} below its {key}, {highest}, found {highest} in {task} train; "
        f"{remedy}"
    )


def test_a_tokenizer_with_code_of_its_own_is_refused_without_a_question(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(prompt: str = "") -> str:
        pytest.fail(f"asked on the terminal: {prompt}")

    monkeypatch.setattr("builtins.input", asked)
    config = _config(tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]})
    with pytest.raises(CheckpointError, match="expected a whole tokenizer"):
        load_tokenizer(files | {"tokenizer_config.json": config}, source="model.pt")
