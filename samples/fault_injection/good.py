"""A folder in, good artefacts of a small model and a dev set of made-up reviews out."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pyarrow as pa
import torch
from pyarrow import parquet
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from nxmi_export.artefact import CPU_MODEL, MODEL, Manifest, file_record
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import (
    calibrate,
    checkpoint_of,
    compressed_linears,
    insert_quantizers,
    project,
)
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.lowering import lower, onnxruntime_passes
from nxmi_export.recipe import Placement, Recipe
from nxmi_export.workflow.export import ExportRequest, export
from samples.fault_injection.projects import Base

__all__ = ["TASK", "SmallProjects"]

TASK = task_named("sst2")
EXAMPLES = 24
POSITIONS = 48
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPINIONS = (
    ("awful", "dull", "poor", "stale", "weak", "flat", "tedious"),
    ("fine", "great", "lovely", "warm", "witty", "bold", "moving"),
)
_NEUTRAL = ("a", "acting", "film", "is", "plot", "that", "the", "this", "very", "with", "Paris")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


_PLACEMENTS = {
    Base.ATTENTION: Placement.ATTENTION,
    Base.LINEAR: Placement.LINEAR,
    Base.PRODUCTS: Placement.LINEAR,
}


class SmallProjects:
    """Artefacts under one folder, each exported when it is first asked for, and then kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.task = TASK
        self.data = folder / "glue"
        path = self.data / TASK.name / f"{TASK.dev_splits[0]}.parquet"
        if not path.is_file():
            _write_reviews(path)

    def good(self, base: Base) -> Path:
        """The artefact of `base`."""
        # One export serves both: a copy leaves the float16 file out where it is not asked for.
        return self._artefact(Base.FLOAT16 if base is Base.SPARSE else base, 0)

    def other(self) -> Path:
        """The artefact of another checkpoint, of the shapes of `Base.FLOAT16`."""
        return self._artefact(Base.FLOAT16, 1)

    def _artefact(self, base: Base, seed: int) -> Path:
        folder = self._folder / f"{base.name.lower()}-{seed}"
        artefact = folder / "model.artefact"
        if not artefact.is_dir():
            folder.mkdir(exist_ok=True)
            write_small_checkpoint(folder / "model.pt", base, seed, self.data)
            export(ExportRequest(str(folder / "model.pt"), artefact, fp16=base is Base.FLOAT16))
            if base is Base.PRODUCTS:
                _fold_products(artefact)
        return artefact


def _fold_products(artefact: Path) -> None:
    """Give `model.cpu.onnx` the form that an export chooses where it measures it to be fastest."""
    steps = onnxruntime_passes({}, fused_attention=True, integer_products=True)
    ir.save(lower(ir.load(artefact / MODEL), steps).model, artefact / CPU_MODEL)
    manifest = Manifest.read(artefact)
    files = {**manifest.files, CPU_MODEL: file_record(artefact / CPU_MODEL)}
    manifest.model_copy(update={"files": files}).write(artefact)


def write_small_checkpoint(path: Path, base: Base, seed: int, data: Path) -> None:
    """Write model.pt of a two-layer BERT of width 32, whose every parameter differs from all."""
    torch.manual_seed(seed)
    _tokenizer().save_pretrained(path.parent)
    tokenizer = read_tokenizer_files(path.parent)
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,  # of 0.02, every logit would be the same
        id2label=dict(enumerate(TASK.labels)),
        label2id={label: number for number, label in enumerate(TASK.labels)},
    )
    model = BertForSequenceClassification._from_config(config, attn_implementation="eager").eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # new ones are zero, which a lost bias would not change
            torch.nn.init.normal_(parameter, std=0.1)
        elif "LayerNorm" in name:  # new ones are one
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    placement = _PLACEMENTS.get(base, Placement.SPARSE)
    embeddings = "int8" if base is Base.TABLES else "dense"
    recipe = Recipe(placement=placement, embeddings=embeddings)
    insert_quantizers(model, recipe)
    project(compressed_linears(model))
    calibrate(model, _encoded(data, path.parent), batches=2, batch_size=8)
    provenance = {"task": TASK.name, "seed": seed}
    write_checkpoint(
        path, checkpoint_of(model, recipe=recipe, tokenizer=tokenizer, provenance=provenance)
    )


def _encoded(data: Path, tokenizer: Path) -> EncodedDataset:
    dataset = load_dataset(TASK, TASK.dev_splits[0], data)
    return encode(
        dataset,
        load_tokenizer(read_tokenizer_files(tokenizer), source=tokenizer),
        input_names=INPUTS,
        max_length=POSITIONS,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Words in lower case, and BERT's special tokens."""
    words = (*_SPECIAL, *_OPINIONS[0], *_OPINIONS[1], *(word.lower() for word in _NEUTRAL))
    numbered = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbered, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbered["[CLS]"]), ("[SEP]", numbered["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=POSITIONS,
    )


def _write_reviews(path: Path) -> None:
    """Reviews of 3 to 20 words whose label is the side of their opinions."""
    generator = np.random.default_rng(0)
    labels = np.arange(EXAMPLES) % 2
    texts = []
    for label in labels:
        words = [
            *generator.choice(_OPINIONS[label], generator.integers(2, 8)),
            *generator.choice(_NEUTRAL, generator.integers(1, 13)),
        ]
        texts.append(" ".join(map(str, generator.permutation(words))))
    path.parent.mkdir(parents=True)
    parquet.write_table(
        pa.table({"sentence": texts, "label": labels, "idx": np.arange(EXAMPLES)}), path
    )
