"""Made-up inputs: what they reach of a model, and what the gate makes of them."""

from dataclasses import replace

import numpy as np
import pytest
from parity_models import rung
from parity_results import LOGITS, probes_of, result_of

from nxmi_export.encoding import EncodedDataset
from nxmi_export.glue import task_named
from nxmi_export.parity import (
    CodeAgreement,
    Gate,
    Probes,
    Sizes,
    SpecialTokens,
    Stage,
    Step,
    compare,
    probe_inputs,
    reach_of,
    verdict,
)

NAMES = ("input_ids", "attention_mask", "token_type_ids")
NAME = "probes beyond the dev set"
SIZES = Sizes(48, 64, 2)
SPECIAL = SpecialTokens(opening=2, closing=3, padding={0})
REFUSED = (
    "gives other logits than pytorch for 1 of 5 probes, made-up inputs of up to 64 tokens, 90 "
    "different ids and token types 0, 1, which no rounding tie explains; the dev set reaches 20 "
    "tokens, 30 different ids and token type 0. Probe 1: The mask leaks."
)


def probes(
    sizes: Sizes = SIZES, names: tuple[str, ...] = NAMES, longest: int = 512
) -> EncodedDataset:
    return probe_inputs(task_named("sst2"), names, sizes, SPECIAL, longest=longest)


def failures(probes: Probes | None, gate: Gate | None = None) -> tuple[str, ...]:
    result = replace(result_of(rung(LOGITS, name="written")), probes=probes)
    return verdict(result, gate or Gate()).failures


def test_every_position_meets_every_token_type() -> None:
    rows = probes().rows
    seen = {
        (position, int(kind)) for row in rows for position, kind in enumerate(row["token_type_ids"])
    }
    assert seen == {(position, kind) for position in range(48) for kind in (0, 1)}


@pytest.mark.parametrize("vocabulary", [64, 30522, 250002])
def test_words_reach_from_the_first_to_the_last_of_the_vocabulary(vocabulary: int) -> None:
    data = probes(Sizes(512, vocabulary, 2))
    ids = np.unique(data.rows.ids["input_ids"])
    assert (ids[0], ids[-1]) == (1, vocabulary - 1)
    widest = int(np.diff(ids).max())
    assert widest <= 2 * vocabulary / len(ids)


def test_padding_is_no_word() -> None:
    special = SpecialTokens(None, None, padding={0, 1})
    data = probe_inputs(task_named("sst2"), NAMES, Sizes(16, 8, 2), special, longest=16)
    assert set(np.unique(data.rows.ids["input_ids"])) == {2, 3, 4, 5, 6, 7}
    assert data.padding == {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0}


def test_a_vocabulary_of_padding_alone_has_no_probe() -> None:
    with pytest.raises(ValueError, match=r"^no words among 1 ids that are all padding$"):
        probes(Sizes(16, 1, 2))


def test_inputs_are_those_of_a_tokenizer() -> None:
    """Opening and closing tokens, and one of them an empty text."""
    rows = probes().rows
    assert [len(row["input_ids"]) for row in rows] == [48, 48, 24, 12, 2]
    assert {(int(row["input_ids"][0]), int(row["input_ids"][-1])) for row in rows} == {(2, 3)}
    assert all((row["attention_mask"] == 1).all() for row in rows)


def test_a_model_without_token_types_has_none() -> None:
    data = probes(Sizes(48, 64, 0), NAMES[:2])
    assert set(data.rows.ids) == set(NAMES[:2])
    assert str(reach_of(data)) == "48 tokens and 63 different ids"


def test_probes_are_no_longer_than_asked() -> None:
    assert reach_of(probes(Sizes(8192, 64, 2), longest=32)).tokens == 32


def test_probes_are_the_same_every_time() -> None:
    one, other = probes(), probes()
    assert one.dataset.sha256 == other.dataset.sha256
    assert one.dataset.sha256 != probes(Sizes(47, 64, 2)).dataset.sha256


def test_probes_that_agree_pass() -> None:
    assert failures(probes_of()) == ()


def test_a_probe_that_pytorch_does_not_replay_fails_and_says_how_far_the_dev_set_reaches() -> None:
    assert failures(probes_of(refused="The mask leaks.")) == (
        f"written {REFUSED}",
        f"optimized {REFUSED}",
    )


def test_no_probes_fail_unless_the_gate_allows_it() -> None:
    sentence = "No probe was run: what the dev set does not reach is unknown."
    assert failures(None) == (sentence,)
    result = replace(result_of(rung(LOGITS, name="written")), probes=None)
    allowed = verdict(result, Gate(require_probes=False))
    assert allowed.ok
    assert NAME not in {check.name for check in allowed.checks}


@pytest.mark.parametrize("stage", [Stage.WRITTEN, Stage.SHIFTED, Stage.OPTIMIZED])
def test_a_rung_that_ran_no_probe_fails(stage: Stage) -> None:
    whole = probes_of()
    steps = tuple(step for step in whole.steps if step.candidate is not stage)
    assert failures(replace(whole, steps=steps)) == (
        f"The rung {stage.value!r} was not run on the probes.",
    )


def test_probes_of_which_not_all_were_replayed_fail() -> None:
    whole = probes_of()
    steps = (replace(whole.steps[0], replayed=whole.steps[0].replayed[:3]), *whole.steps[1:])
    assert failures(replace(whole, steps=steps)) == ("written: 3 of 5 probes were replayed.",)


def test_other_bits_in_the_file_for_the_cpu_fail() -> None:
    whole = probes_of()
    one = rung(LOGITS[:5], name="written")
    other = rung(np.nextafter(LOGITS[:5], np.float32(2)), name="shifted")
    step = Step(Stage.WRITTEN, Stage.SHIFTED, compare(one, other))
    assert failures(replace(whole, steps=(*whole.steps[:2], step))) == (
        "shifted gave other logits than written for 5 of 5 probes, where all must be equal bit for "
        "bit.",
    )


def test_logits_that_are_no_numbers_fail() -> None:
    whole = probes_of()
    one = rung(LOGITS[:5], name="pytorch")
    other = rung(np.full((5, 2), np.nan), name="written")
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(one, other))
    assert failures(replace(whole, steps=(step, *whole.steps[1:]))) == (
        "written gave NaN or infinite logits on the probes.",
    )


def test_codes_of_the_float16_file_may_be_one_step_away_and_no_more() -> None:
    near, far = CodeAgreement("embeddings", 90, 10, 0), CodeAgreement("embeddings", 90, 9, 1)
    assert failures(replace(probes_of(), float16=near)) == ()
    assert failures(replace(probes_of(), float16=far)) == (
        "The float16 file gives 1 of 100 codes of embeddings more than one step away from "
        "PyTorch's on the probes, where rounding to float16 accounts for one.",
    )


def test_a_float16_file_whose_codes_were_not_compared_fails() -> None:
    assert failures(replace(_halved(), float16=None)) == (
        "No code of the float16 file was compared on the probes, because its weights or its "
        "quantizers are not those of the model.",
    )


def test_a_float16_file_without_quantizers_is_held_to_the_rounding_of_float16() -> None:
    assert failures(replace(_halved(0.02), float16_gap=0.03)) == ()
    assert failures(replace(_halved(0.02), float16_gap=0.01)) == (
        "The float16 file gives logits on the probes that lie 0.02 from those of written, where "
        "rounding to float16 accounts for 0.01.",
    )


def _halved(gap: float = 0.0) -> Probes:
    """Of an artefact with a float16 file, whose logits lie `gap` away."""
    whole = probes_of()
    written, other = (
        rung([[moved, 1.0]] * 5, name=name) for moved, name in ((0.0, "written"), (gap, "float16"))
    )
    step = Step(Stage.WRITTEN, Stage.FLOAT16, compare(written, other))
    return replace(whole, steps=(*whole.steps, step))


def test_positions_that_no_probe_reaches_are_not_decided_and_fail_a_strict_gate() -> None:
    doubt = "Probes reach 32 of the model's 64 positions; nothing is known of the others."
    result = replace(result_of(rung(LOGITS, name="written")), probes=probes_of(reached=32))
    lenient = verdict(result, Gate())
    (check,) = (each for each in lenient.checks if each.name == NAME)
    assert (lenient.ok, check.undecided) == (True, doubt)
    assert doubt in verdict(result, Gate(strict=True)).failures
