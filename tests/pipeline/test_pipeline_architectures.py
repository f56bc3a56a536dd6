"""Every supported architecture, from training over model.pt to both ONNX files and back."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.artefact import WEIGHTS, Artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_kernels import linear_kernels
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, ShapeProfile
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import read_checkpoint, write_checkpoint
from nxmi_export.compression import checkpoint_of, compress, compressed_linears, restore
from nxmi_export.compression.encoder_layout import SUPPORTED
from nxmi_export.compression.progress import Progress, StepDone
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import RecipeError
from nxmi_export.glue import task_named
from nxmi_export.parity import (
    Explanation,
    Observed,
    Sizes,
    SpecialTokens,
    code_agreement,
    explain,
    probe_inputs,
    reach_of,
    run_rung,
    weight_parity,
)
from nxmi_export.recipe import ActivationSettings, Placement, Recipe, preset
from nxmi_export.workflow.build import build
from nxmi_export.workflow.export import ExportRequest, export
from passes import MODULE_KEY
from tests.pipeline.exports import ONNX_FILES, SIZES, stored_weights
from tests.tiny_models import (
    POSITION_LIMIT,
    compressed_model,
    logits_of,
    tiny_model,
    toy_batch,
    toy_data,
)

# ALBERT runs its one block three times.
CHANGES = {
    "albert": SIZES | {"num_hidden_layers": 3},
    "distilbert": {"dim": 64, "n_heads": 2, "hidden_dim": 128},
    "mobilebert": SIZES | {"intra_bottleneck_size": 64},
}
# The sparse placement holds the quantizers of all; the others are tried where blocks differ most.
CASES = [
    *((model_type, Placement.SPARSE) for model_type in SUPPORTED),
    ("modernbert", Placement.LINEAR),
    ("albert", Placement.ATTENTION),
]
SHAPES = [(1, 1), (3, 1), (2, 17), (3, POSITION_LIMIT)]
EXAMPLES, BATCH, BATCH_TOKENS = 24, 8, 128
QUERY, KEY = (
    f"albert.encoder.albert_layer_groups.0.albert_layers.0.attention.{part}.output_quantizer"
    for part in ("query", "key")
)


@dataclass(frozen=True)
class Case:
    """One exported model, and what its training told."""

    model_type: str
    model: PreTrainedModel
    heard: tuple[Progress, ...]
    checkpoint: Path
    artefact: Artefact

    @property
    def data(self) -> EncodedDataset:
        return toy_data(EXAMPLES, model_type=self.model_type)

    def path(self, name: str) -> Path:
        return self.artefact.directory / name


ExportOf = Callable[[str, Placement], Case]


@pytest.fixture(scope="session")
def export_of_type(tmp_path_factory: pytest.TempPathFactory) -> ExportOf:
    @functools.cache
    def export_once(model_type: str, placement: Placement) -> Case:
        folder = tmp_path_factory.mktemp(f"{model_type}-{placement}")
        recipe, heard = _recipe(placement), list[Progress]()
        model = _dense(model_type)
        compress(model, toy_data(model_type=model_type), recipe, on_progress=heard.append)
        _write(folder / "model.pt", model, recipe)
        request = ExportRequest(str(folder / "model.pt"), folder / "model.artefact")
        return Case(model_type, model, tuple(heard), folder / "model.pt", export(request))

    return export_once


@pytest.fixture(params=CASES, ids=lambda case: f"{case[1]}-{case[0]}")
def case(request: pytest.FixtureRequest, export_of_type: ExportOf) -> Case:
    return export_of_type(*request.param)


@pytest.fixture
def albert(export_of_type: ExportOf) -> Case:
    return export_of_type("albert", Placement.SPARSE)


def _recipe(placement: Placement) -> Recipe:
    """The preset `deploy` for eight steps, the last two of them under the final masks."""
    recipe = preset("deploy")
    training = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    return recipe.model_copy(
        update={
            "placement": placement,
            "embeddings": "int8" if placement is Placement.SPARSE else "dense",
            "sparsity": recipe.sparsity.model_copy(update={"updates_per_epoch": 2}),
            "distillation": recipe.distillation.model_copy(update={"attention": 1.0}),
            "training": recipe.training.model_copy(update=training),
        }
    )


def _dense(model_type: str) -> PreTrainedModel:
    model = tiny_model(model_type, **CHANGES.get(model_type, SIZES))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases of 0 and norms of 1 would hide that one was lost
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        if model_type == "mobilebert":
            _calm_attention(model)
    return model


def _calm_attention(model: PreTrainedModel) -> None:
    """Make random scores as small as trained ones are.

    MobileBERT's stream is not normalized, so they grow large, and a softmax multiplies the noise of
    its scores by their size, which the allowance for summation order does not cover.
    """
    for name, module in model.named_modules():
        if name.endswith((".query", ".key")):
            module.weight.mul_(0.03)


def _write(path: Path, model: PreTrainedModel, recipe: Recipe) -> None:
    tokenizer = {"vocab.txt": b"[PAD]\n"}
    checkpoint = checkpoint_of(model, recipe=recipe, tokenizer=tokenizer, provenance={})
    write_checkpoint(path, checkpoint)


def _explained(
    case: Case, path: Path, data: EncodedDataset | None = None
) -> tuple[Explanation, ...]:
    data = data or case.data
    names = tuple(data.rows[0])
    reference = run_rung(TorchRunner(case.model, names), data, batch_tokens=BATCH_TOKENS)
    with OnnxRuntimeRunner(path, optimize=False, threads=1) as runner:
        candidate = run_rung(runner, data, batch_tokens=BATCH_TOKENS)
    observed = Observed(case.model, path, reference, candidate, threads=1)
    return explain(observed, data, range(len(data)))


def test_training_follows_the_labels_and_all_of_the_teacher(case: Case) -> None:
    steps = [each for each in case.heard if isinstance(each, StepDone)]
    assert [step.number for step in steps] == list(range(1, 9))
    for step in steps:
        assert step.losses.keys() == {"labels", "logits", "hidden", "attention"}
        assert all(loss > 0 for loss in step.losses.values())


def test_the_stored_integers_keep_two_of_four(case: Case) -> None:
    stored = stored_weights(case.path("model.onnx"))
    linears = compressed_linears(case.model)
    assert linears
    for name, linear in linears.items():
        codes, _ = stored[name]  # (in, out)
        assert codes.dtype == np.int8
        assert codes.shape == (linear.in_features, linear.out_features)
        kept = (codes.reshape(-1, 4, linear.out_features) != 0).sum(axis=1)
        assert kept.max() == 2, name


def test_the_checkpoint_restores_the_model(case: Case) -> None:
    restored = restore(read_checkpoint(str(case.checkpoint)))
    feeds = toy_batch(case.model_type)
    assert torch.equal(logits_of(restored, feeds), logits_of(case.model, feeds))


@pytest.mark.parametrize("name", ONNX_FILES)
def test_the_files_store_what_was_trained(case: Case, name: str) -> None:
    found = weight_parity(case.model, case.path(name))
    assert found.mismatches == ()
    assert found.equal
    assert found.patterned == found.compressed > 0
    assert (found.tables > 0) == (case.artefact.manifest.recipe["embeddings"] == "int8")
    assert found.quantizers > 0


@pytest.mark.parametrize("name", ONNX_FILES)
def test_every_difference_from_pytorch_is_a_rounding_tie(case: Case, name: str) -> None:
    explanations = _explained(case, case.path(name))
    assert [each.reason for each in explanations if not each.explained] == []
    assert len(explanations) == EXAMPLES


@pytest.mark.parametrize("name", ONNX_FILES)
def test_probes_of_all_positions_and_token_types_are_explained_too(case: Case, name: str) -> None:
    """An honest export gives no false alarm, whatever made-up inputs make of its values."""
    manifest, config = case.artefact.manifest, case.model.config
    types = config.type_vocab_size if "token_type_ids" in manifest.input_names else 0
    sizes = Sizes(manifest.position_limit, config.vocab_size, types)
    special = SpecialTokens(2, 3, padding={0})
    task = task_named("sst2")
    data = probe_inputs(task, manifest.input_names, sizes, special, longest=POSITION_LIMIT)
    assert reach_of(data).token_types == tuple(range(types))
    explanations = _explained(case, case.path(name), data)
    assert [each.reason for each in explanations if not each.explained] == []
    assert len(explanations) == len(data) == 5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_onnxruntime_agrees_with_pytorch_at_every_shape(case: Case, shape: tuple[int, int]) -> None:
    count, sequence = shape
    generator = torch.Generator().manual_seed(sequence)
    feeds = {
        name: torch.zeros(shape, dtype=torch.int64) for name in case.artefact.manifest.input_names
    }
    feeds["input_ids"] = torch.randint(2, 96, shape, generator=generator)
    lengths = torch.arange(count) % sequence + 1  # every row padded differently
    feeds["attention_mask"] = (torch.arange(sequence) < lengths[:, None]).long()
    with OnnxRuntimeRunner(case.path("model.onnx"), optimize=False, threads=1) as runner:
        found = runner.run({name: value.numpy() for name, value in feeds.items()})["logits"]
    # Sums in another order move single values across a rounding tie: one code, at most.
    expected = logits_of(case.model, feeds).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)


def test_openvino_agrees_with_onnxruntime(case: Case) -> None:
    path, data = case.path("model.onnx"), case.data
    with OnnxRuntimeRunner(path, optimize=False, threads=1) as runner:
        expected = run_rung(runner, data, batch_tokens=BATCH_TOKENS)
    with OpenVinoRunner(path, threads=1) as runner:
        found = run_rung(runner, data, batch_tokens=BATCH_TOKENS)
        linears = linear_kernels(path, runner)
    # All but those that a sum in another order moves across ties: how many depends on the kernels
    # of this processor (most are ALBERT's, whose one layer runs twice: of 24, three on one with
    # AVX512-VNNI and ten on another). Around them lies nothing but the rounding of float32.
    gaps = np.abs(found.logits - expected.logits).max(axis=1)
    assert (gaps < 1e-3).mean() > (0.75 if case.model_type != "albert" else 0.4)
    # MobileBERT's random attention scores are large: one tie moved its logits by 0.71 with AMX.
    assert gaps.max() < (0.2 if case.model_type != "mobilebert" else 1.0)
    # Every product is found again, those of a block that runs repeatedly as well.
    assert [each for each in linears if len(each.kernels) != each.products] == []


def test_codes_agree_in_every_quantizer(case: Case) -> None:
    counts = code_agreement(
        case.model, case.path("model.onnx"), case.data, indices=np.arange(BATCH), batch_size=BATCH
    )
    # Both sides run freely: behind one tie, which falls otherwise on each processor, codes drift.
    assert [each for each in counts if not each.rate > 0.9] == []


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_an_engine_is_built_that_multiplies_int8(
    model_type: str, export_of_type: ExportOf, rtx: Library
) -> None:
    artefact = export_of_type(model_type, Placement.SPARSE).artefact
    profile = ShapeProfile.parse("min=1x1,opt=8x32,max=16x64", position_limit=POSITION_LIMIT)
    options = EngineOptions(compute_capabilities=("sm86",))
    coverage = build(artefact, profiles=[profile], library=rtx, options=options).coverage
    assert coverage.int8_linears == len(coverage.linears) > 0
    # Three runs of one ALBERT block are three kernels that hold two products of one module each.
    blocks = 1 if model_type == "albert" else 2
    assert coverage.int8_attentions == len(coverage.attentions) == blocks


def test_a_block_that_runs_repeatedly_is_stored_once(albert: Case) -> None:
    graph = ir.load(albert.path("model.onnx")).graph
    products = [node for node in graph if node.metadata_props.get(MODULE_KEY, "").endswith("ffn")]
    weights = {node.inputs[1] for node in products if node.op_type == "MatMul"}
    assert sum(node.op_type == "MatMul" for node in products) == 3
    assert len(weights) == 1


def test_codes_of_all_runs_of_a_block_are_counted(albert: Case) -> None:
    data, indices = albert.data, np.arange(4)
    counts = code_agreement(
        albert.model, albert.path("model.onnx"), data, indices=indices, batch_size=4
    )
    total = {each.module: each.total for each in counts}
    width = SIZES["hidden_size"]
    assert total[QUERY] == 3 * 4 * data.lengths[indices].max() * width
    assert total["albert.encoder.embedding_hidden_mapping_in.output_quantizer"] * 3 == total[QUERY]


@pytest.fixture
def mislabelled(albert: Case, tmp_path: Path) -> Path:
    """ALBERT's graph, the second run's quantizer of the query labelled as one of the key."""
    model = ir.load(albert.path("model.onnx"))
    found = [
        node
        for node in model.graph
        if node.op_type == "QuantizeLinear" and node.metadata_props.get(MODULE_KEY) == QUERY
    ]
    assert len(found) == 3
    for node in found[1:]:
        node.metadata_props[MODULE_KEY] = KEY
    return _beside_its_weights(model, albert, tmp_path)


@pytest.fixture
def lengthened(albert: Case, tmp_path: Path) -> Path:
    """ALBERT's graph with a fourth value quantized as the key is, which nothing reads."""
    model = ir.load(albert.path("model.onnx"))
    pattern = next(
        node
        for node in model.graph
        if node.op_type == "QuantizeLinear" and node.metadata_props.get(MODULE_KEY) == KEY
    )
    parameters = pattern.inputs[1:]
    quantize = ir.node("QuantizeLinear", [model.graph.outputs[0], *parameters], name="fourth")
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], *parameters], name="fourth_back")
    for node in (quantize, dequantize):
        node.metadata_props[MODULE_KEY] = KEY
    quantize.outputs[0].dtype = ir.DataType.INT8
    model.graph.extend((quantize, dequantize))
    return _beside_its_weights(model, albert, tmp_path)


def _beside_its_weights(model: ir.Model, case: Case, folder: Path) -> Path:
    shutil.copy(case.path(WEIGHTS), folder)
    ir.save(model, folder / "edited.onnx")
    return folder / "edited.onnx"


def test_a_run_that_the_graph_lacks_is_not_explained(albert: Case, mislabelled: Path) -> None:
    reasons = {each.reason for each in _explained(albert, mislabelled)}
    assert reasons == {f"{QUERY} quantizes more values than the 1 of the graph."}


def test_a_run_that_the_pytorch_model_lacks_is_not_explained(
    albert: Case, lengthened: Path
) -> None:
    reasons = {each.reason for each in _explained(albert, lengthened)}
    assert reasons == {f"the PyTorch model ran {KEY} on 3 of the graph's 4 values."}


def test_codes_of_a_run_that_the_graph_lacks_are_not_counted(
    albert: Case, mislabelled: Path
) -> None:
    """That something is wrong, the replays above say."""
    indices = np.arange(4)
    whole, less = (
        {
            each.module: each.total
            for each in code_agreement(
                albert.model, path, albert.data, indices=indices, batch_size=4
            )
        }
        for path in (albert.artefact.path("model.onnx"), mislabelled)
    )
    assert whole.keys() == less.keys()
    assert less[QUERY] < whole[QUERY]


def test_dynamic_activations_are_refused_where_the_export_starts(tmp_path: Path) -> None:
    recipe = Recipe(
        placement=Placement.LINEAR,
        activations=ActivationSettings(mode="dynamic", learned=False),
    )
    _write(tmp_path / "model.pt", compressed_model(recipe=recipe), recipe)
    with pytest.raises(RecipeError) as caught:
        export(ExportRequest(str(tmp_path / "model.pt"), tmp_path / "model.artefact"))
    assert str(caught.value) == (
        f"{tmp_path / 'model.pt'}: expected static activation scales, the only ones that engines "
        "and onnxruntime run with these weights, found activations: {mode: dynamic} in its "
        "recipe; compress the model with activations: {mode: static}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
