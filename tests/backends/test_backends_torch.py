import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.errors import UsageError

INPUTS = ("input_ids", "attention_mask")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=96,
        max_position_embeddings=16,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def test_logits_are_those_of_the_model_in_evaluation_mode(
    model: PreTrainedModel, batch: dict[str, np.ndarray]
) -> None:
    model.train()
    with TorchRunner(model, INPUTS) as runner:
        logits = runner.run(batch)["logits"]
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits
    assert not model.training
    assert logits.dtype == np.float32
    assert logits.shape == (2, 3)
    np.testing.assert_array_equal(logits, expected.numpy())


def test_logits_of_a_half_precision_model_come_back_as_float32(
    model: PreTrainedModel, batch: dict[str, np.ndarray]
) -> None:
    half = BertForSequenceClassification(model.config).to(torch.bfloat16)
    assert TorchRunner(half, INPUTS).run(batch)["logits"].dtype == np.float32


def test_a_non_contiguous_batch_is_accepted(model: PreTrainedModel) -> None:
    wide = np.arange(28).reshape(2, 14)
    feeds = {"input_ids": wide[:, ::-2], "attention_mask": np.ones((2, 7), np.int64)}
    compact = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    runner = TorchRunner(model, INPUTS)
    np.testing.assert_array_equal(runner.run(feeds)["logits"], runner.run(compact)["logits"])


def test_name_and_inputs_are_the_callers(model: PreTrainedModel) -> None:
    runner = TorchRunner(model, INPUTS, name="compressed")
    assert (runner.name, runner.input_names) == ("compressed", INPUTS)


def test_an_input_outside_the_names_is_refused(
    model: PreTrainedModel, batch: dict[str, np.ndarray]
) -> None:
    with pytest.raises(UsageError, match=r"^pytorch: the batch: expected the inputs input_ids, "):
        TorchRunner(model, INPUTS).run(batch | {"token_type_ids": batch["input_ids"]})


def test_a_closed_runner_does_not_run(model: PreTrainedModel, batch: dict[str, np.ndarray]) -> None:
    with TorchRunner(model, INPUTS) as runner:
        pass
    with pytest.raises(ValueError, match=r"^pytorch: run\(\) after the runner was closed$"):
        runner.run(batch)
