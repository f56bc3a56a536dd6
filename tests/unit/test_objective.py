"""The terms of the objective against plain loops over examples, layers and tokens."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.objective import Objective
from nxmi_export.errors import InternalError, UnsupportedModel
from nxmi_export.recipe import DistillationSettings
from tests.tiny_models import (
    ARCHITECTURES,
    POSITION_LIMIT,
    compressed_model,
    tiny_model,
    toy_batch,
    toy_data,
)

ALL = DistillationSettings(labels=1.0, logits=0.5, temperature=2.0, hidden=0.25, attention=0.125)
LABELS = torch.tensor([0, 1, 1, 0])
HALF_STEP = 0.5 / 127  # of the quantized softmax


def _objective(settings: DistillationSettings = ALL, *, is_regression: bool = False) -> Objective:
    teacher = tiny_model(num_labels=1) if is_regression else tiny_model()
    return Objective(settings, teacher, is_regression)


def _terms(
    objective: Objective, student: PreTrainedModel, feeds: dict[str, Tensor], labels: Tensor
) -> dict[str, Tensor]:
    return objective.terms(student(**feeds, **objective.forward_options()), feeds, labels)


def _outputs(model: PreTrainedModel, feeds: dict[str, Tensor]) -> Any:
    with torch.no_grad():
        return model(**feeds, output_hidden_states=True, output_attentions=True)


@pytest.fixture(scope="module")
def student() -> PreTrainedModel:
    return compressed_model(seed=1)


def test_label_loss_is_the_cross_entropy(student: PreTrainedModel) -> None:
    feeds = toy_batch()
    terms = _terms(_objective(), student, feeds, LABELS)
    probabilities = _outputs(student, feeds).logits.softmax(-1)
    expected = torch.stack([-probabilities[i, LABELS[i]].log() for i in range(4)])
    torch.testing.assert_close(terms["labels"], expected)


def test_logit_loss_is_the_divergence_at_a_temperature(student: PreTrainedModel) -> None:
    feeds = toy_batch()
    terms = _terms(_objective(), student, feeds, LABELS)
    ours = (_outputs(student, feeds).logits / 2).softmax(-1)
    theirs = (_outputs(tiny_model(), feeds).logits / 2).softmax(-1)
    expected = torch.stack(
        [
            sum(t * (t / s).log() for s, t in zip(*rows, strict=True)) * 4
            for rows in zip(ours, theirs, strict=True)
        ]
    )
    torch.testing.assert_close(terms["logits"], expected)


def test_hidden_loss_compares_real_tokens_of_every_block(student: PreTrainedModel) -> None:
    feeds = toy_batch()
    terms = _terms(_objective(), student, feeds, LABELS)
    ours, theirs = _outputs(student, feeds), _outputs(tiny_model(), feeds)
    assert len(theirs.hidden_states) == 3
    for example, mask in enumerate(feeds["attention_mask"].bool()):
        losses = []
        for block in (1, 2):
            s, t = (out.hidden_states[block][example][mask] for out in (ours, theirs))
            losses.append((s - t).square().mean() / t.var(unbiased=False))
        torch.testing.assert_close(terms["hidden"][example], torch.stack(losses).mean())


def test_attention_loss_compares_real_queries_and_keys(student: PreTrainedModel) -> None:
    feeds = toy_batch()
    terms = _terms(_objective(), student, feeds, LABELS)
    ours, theirs = _outputs(student, feeds), _outputs(tiny_model(), feeds)
    for example, mask in enumerate(feeds["attention_mask"].bool()):
        rows = []
        for block in (0, 1):
            for head in range(4):
                s, t = (
                    out.attentions[block][example, head][mask][:, mask] + HALF_STEP
                    for out in (ours, theirs)
                )
                s, t = s / s.sum(-1, keepdim=True), t / t.sum(-1, keepdim=True)
                rows.append((t * (t / s).log()).sum(-1))
        expected = torch.stack(rows).mean()
        torch.testing.assert_close(terms["attention"][example], expected, rtol=1e-4, atol=1e-6)


def test_a_regression_compares_scores_by_their_squared_differences() -> None:
    student, feeds = tiny_model(num_labels=1, seed=1), toy_batch()
    labels = torch.tensor([0.0, 5.0, 2.5, 1.0])
    terms = _terms(_objective(is_regression=True), student, feeds, labels)
    ours = _outputs(student, feeds).logits[:, 0]
    theirs = _outputs(tiny_model(num_labels=1), feeds).logits[:, 0]
    torch.testing.assert_close(terms["labels"], (ours - labels) ** 2)
    torch.testing.assert_close(terms["logits"], (ours - theirs) ** 2)


def test_the_teacher_itself_is_no_distance_away() -> None:
    terms = _terms(_objective(), tiny_model(), toy_batch(), LABELS)
    for name in ("logits", "hidden", "attention"):
        torch.testing.assert_close(terms[name], torch.zeros(4), rtol=0, atol=1e-6)
        assert _terms(_objective(), tiny_model(seed=1), toy_batch(), LABELS)[name].sum() > 1e-3


@pytest.mark.parametrize("is_regression", [False, True])
def test_terms_do_not_depend_on_the_padding(is_regression: bool) -> None:
    student = tiny_model(seed=1, num_labels=1 if is_regression else 2)
    objective = _objective(is_regression=is_regression)
    data, labels = toy_data(4), LABELS.float() if is_regression else LABELS
    tight, wide = (
        _terms(
            objective,
            student,
            {
                name: torch.from_numpy(array)
                for name, array in data.padded(range(4), pad_to=to).items()
            },
            labels,
        )
        for to in (int(data.lengths.max()), POSITION_LIMIT)
    )
    for name in ("labels", "logits", "hidden", "attention"):
        torch.testing.assert_close(tight[name], wide[name], rtol=1e-4, atol=1e-6)


def test_terms_of_a_batch_are_those_of_its_examples(student: PreTrainedModel) -> None:
    objective, feeds = _objective(), toy_batch()
    whole = _terms(objective, student, feeds, LABELS)
    for part in (slice(0, 1), slice(1, 4)):
        feeds_of_part = {name: tensor[part] for name, tensor in feeds.items()}
        terms = _terms(objective, student, feeds_of_part, LABELS[part])
        for name, term in terms.items():
            # another batch size sums in another order, which may cross a rounding tie
            torch.testing.assert_close(term, whole[name][part], rtol=0.05, atol=1e-5)


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch() -> None:
    feeds, objective = toy_batch(), _objective()

    def gradient(parts: list[slice]) -> Tensor:
        student = tiny_model(seed=1)
        for part in parts:
            own = {name: tensor[part] for name, tensor in feeds.items()}
            terms = _terms(objective, student, own, LABELS[part])
            loss = objective.total(terms).sum() / 4
            loss.backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])

    whole = gradient([slice(0, 4)])
    assert whole.abs().max() > 1e-3
    parts = gradient([slice(0, 1), slice(1, 4)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_an_example_of_padding_alone_is_finite() -> None:
    feeds = toy_batch()
    feeds["attention_mask"][2] = 0
    terms = _terms(_objective(), tiny_model(seed=1), feeds, LABELS)
    assert all(term.isfinite().all() for term in terms.values())
    assert terms["hidden"][2] == terms["attention"][2] == 0


class _Recorded(nn.Module):
    """A teacher that gives a fixed output and remembers nothing."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def set_attn_implementation(self, name: str) -> None:
        assert name == "eager"

    def forward(self, **_: Any) -> Any:
        return self.output


def _attention_only(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The attention term of given probabilities, one block."""
    settings = DistillationSettings(labels=0, logits=0, hidden=0, attention=1)
    output = SimpleNamespace(logits=torch.zeros(1, 2), attentions=(teacher,))
    objective = Objective(settings, _Recorded(output), False)  # type: ignore[arg-type]
    own = SimpleNamespace(logits=torch.zeros(1, 2), attentions=(student,))
    return objective.terms(own, {"attention_mask": mask}, LABELS[:1])["attention"]


def test_divergence_is_finite_where_the_student_has_zeros() -> None:
    teacher = torch.tensor([[[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]]]])
    student = torch.tensor([[[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]])
    student.requires_grad_()
    loss = _attention_only(student, teacher, torch.ones(1, 3, dtype=torch.int64))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite().all()
    assert loss > 0
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad[0, 0, 0, 0] < 0  # a missing probability is asked to grow


def test_probabilities_below_half_a_step_do_not_dominate_the_gradient() -> None:
    teacher = torch.tensor([[[[0.003, 0.997]]]])
    student = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)  # what INT8 makes of it
    loss = _attention_only(student, teacher.expand(1, 1, 2, 2), torch.ones(1, 2, dtype=torch.int64))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().max() < 1


def test_quantized_attention_gives_finite_gradients(student: PreTrainedModel) -> None:
    student = copy.deepcopy(student)
    feeds = toy_batch()
    # long sequences of a wide softmax are mostly zeros after INT8
    assert any(bool((layer == 0).any()) for layer in _outputs(student, feeds).attentions)
    objective = _objective(DistillationSettings(labels=0, logits=0, hidden=0, attention=1))
    loss = objective.total(_terms(objective, student, feeds, LABELS)).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("make", [tiny_model, compressed_model], ids=["dense", "compressed"])
def test_terms_are_float32_under_bf16_autocast(make: Callable[..., PreTrainedModel]) -> None:
    student, feeds, objective = make(seed=1), toy_batch(), _objective()
    expected = _terms(objective, student, feeds, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        terms = _terms(objective, student, feeds, LABELS)
        total = objective.total(terms)
    assert total.dtype == torch.float32
    for name, term in terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, expected[name], rtol=0.25, atol=0.02)
    total.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


def test_the_total_is_the_weighted_sum() -> None:
    objective = _objective()
    terms = {
        "labels": torch.tensor([1.0, 2.0]),
        "logits": torch.tensor([10.0, 20.0]),
        "hidden": torch.tensor([4.0, 0.0]),
        "attention": torch.tensor([8.0, 0.0]),
    }
    assert objective.total(terms).tolist() == [1 + 5 + 1 + 1, 2 + 10]


@pytest.mark.parametrize(
    ("settings", "options", "names"),
    [
        (DistillationSettings(logits=0, hidden=0), set(), {"labels"}),
        (DistillationSettings(hidden=0), set(), {"labels", "logits"}),
        (DistillationSettings(labels=0), {"output_hidden_states"}, {"logits", "hidden"}),
        (
            DistillationSettings(hidden=0, attention=1),
            {"output_attentions"},
            {"labels", "logits", "attention"},
        ),
    ],
)
def test_only_what_has_a_weight_is_asked_for_and_computed(
    settings: DistillationSettings, options: set[str], names: set[str]
) -> None:
    objective = _objective(settings)
    assert objective.forward_options() == dict.fromkeys(options, True)
    assert set(_terms(objective, tiny_model(seed=1), toy_batch(), LABELS)) == names


def test_the_teacher_is_frozen_and_gets_no_gradient() -> None:
    teacher, student = tiny_model(hidden_dropout_prob=0.5), tiny_model(seed=1)
    teacher.train()
    objective, feeds = Objective(ALL, teacher, False), toy_batch()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    student.train()
    loss = objective.total(_terms(objective, student, feeds, LABELS)).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())


def test_a_teacher_without_use_never_runs() -> None:
    broken = _Recorded(None)
    settings = DistillationSettings(logits=0, hidden=0)
    objective = Objective(settings, broken, False)  # type: ignore[arg-type]
    assert set(_terms(objective, tiny_model(), toy_batch(), LABELS)) == {"labels"}


def test_a_teacher_that_hides_its_attention_is_asked_to_tell() -> None:
    teacher = tiny_model()
    teacher.set_attn_implementation("sdpa")
    told = _terms(Objective(ALL, teacher, False), tiny_model(seed=1), toy_batch(), LABELS)
    expected = _terms(_objective(), tiny_model(seed=1), toy_batch(), LABELS)
    torch.testing.assert_close(told["attention"], expected["attention"])


@pytest.mark.parametrize("attentions", [None, (), (None, None)])
def test_a_student_that_hides_its_attention_is_refused(attentions: object) -> None:
    objective, feeds = _objective(), toy_batch()
    output = _outputs(tiny_model(), feeds)
    output.attentions = attentions
    with pytest.raises(UnsupportedModel) as refusal:
        objective.terms(output, feeds, LABELS)
    assert str(refusal.value) == (
        "distillation of attention: expected the attention probabilities of every block, found "
        "none; write attention: 0 under distillation in the recipe"
    )


def test_distillation_without_a_teacher_is_refused() -> None:
    with pytest.raises(InternalError) as refusal:
        Objective(ALL, None, False)
    assert str(refusal.value) == (
        "distillation: expected the dense model as a teacher, found none; "
        "please report it with the recipe"
    )


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_can_be_distilled(model_type: str) -> None:
    student = compressed_model(model_type=model_type)
    objective, feeds = Objective(ALL, tiny_model(model_type), False), toy_batch(model_type)
    student.train()
    terms = _terms(objective, student, feeds, LABELS)
    assert set(terms) == {"labels", "logits", "hidden", "attention"}
    assert all(term.shape == (4,) and (term > 0).all() for term in terms.values())
    objective.total(terms).mean().backward()  # type: ignore[no-untyped-call]
