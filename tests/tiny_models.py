"""Seeded task models small enough for unit tests, and the files a user would bring of them.

model = tiny_model()                        dense BERT, eager attention, eval mode
model = compressed_model("sparse")          2:4 + INT8, calibrated on `toy_data()`
write_hugging_face(directory)               config, weights and tokenizer of `tiny_model()`
write_model_file(path, "sparse")            model.pt of `compressed_model("sparse")`
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nxmi_export.checkpoint import CompressedCheckpoint, read_tokenizer_files, write_checkpoint
from nxmi_export.compression import calibrate, checkpoint_of, insert_quantizers
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.sparsity import magnitude_masks
from nxmi_export.encoding import EncodedDataset, encode
from nxmi_export.glue import Dataset, Task, task_named
from nxmi_export.model_facts import model_facts
from nxmi_export.recipe import Placement, Recipe

ARCHITECTURES = {
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "xlm-roberta": "XLMRobertaForSequenceClassification",
    "camembert": "CamembertForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
    "electra": "ElectraForSequenceClassification",
    "albert": "AlbertForSequenceClassification",
    "mobilebert": "MobileBertForSequenceClassification",
    "modernbert": "ModernBertForSequenceClassification",
}
# What BERT's sizes leave open; ModernBERT looks four tokens far in one of its two blocks.
SPECIFIC_SIZES: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "mobilebert": {
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
        "num_feedforward_networks": 2,
    },
    "modernbert": {
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "cls_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
    },
}
POSITION_LIMIT = 64
# Those that quantize activations; tests of weights alone say so.
PLACEMENTS = (Placement.LINEAR, Placement.ATTENTION, Placement.SPARSE)

GOOD = ("fine", "great", "lovely", "warm", "witty")
BAD = ("awful", "dull", "poor", "stale", "weak")
NEUTRAL = ("a", "acting", "film", "is", "plot", "that", "the", "this", "very", "with")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_config(model_type: str = "bert", **changes: Any) -> Any:
    """Hidden 32, 2 layers, 4 heads, intermediate 64, 96 words, 64 positions."""
    if model_type == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    else:
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
        } | SPECIFIC_SIZES.get(model_type, {})
    # RoBERTa's position ids start behind the padding index, 1.
    reserved = 2 if model_type in ("roberta", "xlm-roberta", "camembert") else 0
    sizes |= {"vocab_size": 96, "max_position_embeddings": POSITION_LIMIT + reserved}
    return transformers.AutoConfig.for_model(model_type, **(sizes | changes))


def tiny_model(model_type: str = "bert", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A sequence classifier with weights drawn wide enough that its logits differ by text."""
    torch.manual_seed(seed)
    architecture: Any = getattr(transformers, ARCHITECTURES[model_type])
    config = tiny_config(model_type, initializer_range=0.2, **changes)
    model: PreTrainedModel = architecture._from_config(config, attn_implementation="eager")
    model.eval()
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with BERT's special tokens and pair template."""
    words = {word: index for index, word in enumerate((*SPECIAL, *GOOD, *BAD, *NEUTRAL))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=POSITION_LIMIT,
    )


def toy_dataset(count: int = 64, *, task: Task | None = None, seed: int = 0) -> Dataset:
    """Texts of 3 to 20 words whose label is the side most of their opinions take."""
    task = task or task_named("sst2")
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    columns = tuple(tuple(_text(generator, label) for label in labels) for _ in task.text_columns)
    return Dataset(
        task=task,
        split="train",
        texts=columns,
        labels=labels.astype(np.float64) if task.is_regression else labels.astype(np.int64),
        ids=np.arange(count, dtype=np.int64),
        source="toy",
        sha256="0" * 64,
    )


def toy_data(
    count: int = 64, *, model_type: str = "bert", task: Task | None = None
) -> EncodedDataset:
    """`toy_dataset` in the words of `tiny_tokenizer`, for models of `model_type`."""
    names = model_facts(tiny_config(model_type).to_dict()).input_names
    dataset = toy_dataset(count, task=task)
    return encode(dataset, tiny_tokenizer(), input_names=names, max_length=POSITION_LIMIT)


def toy_batch(model_type: str = "bert", *, count: int = 4, sequence: int = 24) -> dict[str, Tensor]:
    """Model inputs (count, sequence), padded differently in every row."""
    data = toy_data(count, model_type=model_type)
    feeds = data.padded(range(count), pad_to=sequence)
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def compressed_model(
    placement: Placement | str = Placement.SPARSE,
    *,
    model_type: str = "bert",
    recipe: Recipe | None = None,
    seed: int = 0,
    **changes: Any,
) -> PreTrainedModel:
    """`tiny_model` under `recipe` (default 2:4 + INT8), projected and calibrated."""
    model = tiny_model(model_type, seed=seed, **changes)
    insert_quantizers(model, recipe or Recipe(placement=Placement(placement)))
    project(model)
    calibrate(model, toy_data(model_type=model_type), batches=2, batch_size=8)
    return model


@torch.no_grad()
def project(model: PreTrainedModel) -> None:
    """Zero what the patterns of `model` leave out."""
    linears = compressed_linears(model)
    for name, mask in magnitude_masks(linears).items():
        linears[name].weight.mul_(mask)


def compressed_checkpoint(
    directory: Path, placement: Placement | str = Placement.SPARSE
) -> CompressedCheckpoint:
    """`compressed_model` as data, with the tokenizer that `directory` receives on the way."""
    tiny_tokenizer().save_pretrained(directory)
    return checkpoint_of(
        compressed_model(placement),
        recipe=Recipe(placement=Placement(placement)),
        tokenizer=read_tokenizer_files(directory),
        provenance={"task": "sst2", "seed": 0},
    )


def write_model_file(path: Path, placement: Placement | str = Placement.SPARSE) -> Path:
    """Write model.pt at `path`, whose folder also receives tokenizer files; returns `path`."""
    write_checkpoint(path, compressed_checkpoint(path.parent, placement))
    return path


def write_hugging_face(directory: Path, model: PreTrainedModel | None = None) -> Path:
    """Write a Hugging Face directory of `model` (default: `tiny_model`); returns `directory`."""
    (model or tiny_model()).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


@torch.inference_mode()
def logits_of(model: PreTrainedModel, feeds: dict[str, Tensor]) -> Tensor:
    """Float32 (batch, labels)."""
    logits: Tensor = model(**feeds).logits
    return logits


def _text(generator: np.random.Generator, label: int) -> str:
    opinions = generator.choice(GOOD if label else BAD, generator.integers(2, 8))
    filling = generator.choice(NEUTRAL, generator.integers(1, 13))
    words = np.concatenate([opinions, filling])
    generator.shuffle(words)
    return " ".join(words)
