import pytest

from nxmi_export.compression.training.timeline import Timeline
from nxmi_export.recipe import SparsitySettings, TrainingSettings, preset

TEN_STEPS = TrainingSettings(epochs=2, batch_size=10, warmup=0.2)


def test_a_short_last_batch_is_a_step() -> None:
    assert Timeline.of(41, TEN_STEPS).total == 10


def _rates(timeline: Timeline) -> list[float]:
    return [timeline.rate(step) for step in range(1, timeline.total + 1)]


FALLING = [0.5, 1.0, *(left / 8 for left in range(8, 0, -1))]


@pytest.mark.parametrize(
    ("cooldown", "rates"),
    [
        (1.0, FALLING),  # less the warm-up's part of it
        (0.8, FALLING),
        (0.4, [0.5, *[1.0] * 6, 0.75, 0.5, 0.25]),
        (0.05, [0.5, *[1.0] * 9]),  # of ten steps, none
        (0.0, [0.5, *[1.0] * 9]),
    ],
)
def test_the_rate_rises_holds_and_falls_and_is_never_zero(
    cooldown: float, rates: list[float]
) -> None:
    training = TEN_STEPS.model_copy(update={"cooldown": cooldown})
    assert _rates(Timeline.of(50, training)) == rates


def test_the_rate_is_the_same_whatever_is_pruned_by_whichever_method() -> None:
    settings = [
        None,
        SparsitySettings(recovery=0.0),
        SparsitySettings(recovery=0.6),
        SparsitySettings(method="magnitude"),
    ]
    first, *others = [_rates(Timeline.of(50, TEN_STEPS, each)) for each in settings]
    assert others == [first] * 3


def test_a_warmup_of_all_steps_leaves_nothing_to_fall() -> None:
    training = TEN_STEPS.model_copy(update={"warmup": 1.0})
    assert _rates(Timeline.of(50, training)) == [step / 10 for step in range(1, 11)]


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    timeline = Timeline.of(50, TEN_STEPS.model_copy(update={"warmup": 0.0}))
    assert timeline.rate(1) == 1


@pytest.mark.parametrize(("recovery", "completed"), [(0.0, 10), (0.3, 7), (1.0, 0)])
def test_admm_projects_before_the_share_of_recovery(recovery: float, completed: int) -> None:
    timeline = Timeline.of(50, TEN_STEPS, SparsitySettings(recovery=recovery))
    assert timeline.project_at == completed


def test_a_magnitude_mask_is_not_projected_again() -> None:
    timeline = Timeline.of(50, TEN_STEPS, SparsitySettings(method="magnitude"))
    assert (timeline.project_at, timeline.updates_per_epoch) == (None, 0)
    assert not any(timeline.updates_after(step) for step in range(1, 11))


@pytest.mark.parametrize(
    ("updates", "steps"),
    [(1, [5, 10]), (2, [3, 5, 8, 10]), (5, list(range(1, 11))), (9, list(range(1, 11)))],
)
def test_updates_lie_evenly_in_every_epoch(updates: int, steps: list[int]) -> None:
    settings = SparsitySettings(updates_per_epoch=updates, recovery=0.0)
    timeline = Timeline.of(50, TEN_STEPS, settings)
    assert [step for step in range(1, 11) if timeline.updates_after(step)] == steps


@pytest.mark.parametrize(
    ("epochs", "recovery", "steps"),
    [(1, 0.3, [3]), (2, 0.6, [4]), (1, 0.8, [1]), (2, 0.5, [10]), (1, 1.0, [])],
)
def test_there_is_an_update_before_the_projection_however_short_the_run(
    epochs: int, recovery: float, steps: list[int]
) -> None:
    training = TrainingSettings(epochs=epochs, batch_size=10)
    timeline = Timeline.of(100, training, SparsitySettings(recovery=recovery))
    assert [step for step in range(1, 21) if timeline.updates_after(step)] == steps


@pytest.mark.parametrize("name", ["deploy", "w4", "paper", "admm"])
@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_presets_of_admm_update_however_few_the_epochs(name: str, epochs: int) -> None:
    recipe = preset(name)
    training = recipe.training.model_copy(update={"epochs": epochs})
    timeline = Timeline.of(3668, training, recipe.sparsity)
    assert any(timeline.updates_after(step) for step in range(1, timeline.total + 1))


def test_nothing_is_updated_after_the_projection() -> None:
    timeline = Timeline.of(50, TEN_STEPS, SparsitySettings(updates_per_epoch=5, recovery=0.3))
    assert [step for step in range(1, 11) if timeline.updates_after(step)] == list(range(1, 8))


def test_the_progress_of_admm_counts_its_own_steps() -> None:
    timeline = Timeline.of(50, TEN_STEPS, SparsitySettings(recovery=0.2))
    assert [timeline.sparsity_progress(done) for done in (0, 4, 8, 10)] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("updates", "steps"), [(1, 5), (2, 2), (5, 1), (9, 1)])
def test_updates_have_whole_steps_between_them(updates: int, steps: int) -> None:
    timeline = Timeline.of(50, TEN_STEPS, SparsitySettings(updates_per_epoch=updates))
    assert timeline.steps_per_update == steps


def test_quantizers_begin_where_the_recipe_says() -> None:
    training = TEN_STEPS.model_copy(update={"quantize_after": 0.5})
    assert Timeline.of(50, training, quantizes=True).quantize_at == 5
    assert Timeline.of(50, training).quantize_at is None
