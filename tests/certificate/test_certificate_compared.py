"""Nothing compared is nothing proved: of stored numbers, and of an engine's products."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from nxmi_export.backends.tensorrt_engine import ProductNodes, Verdict, sparse_evidence
from nxmi_export.certificate.claims import Answer, Claim, answered, not_claimed
from nxmi_export.certificate.engine import Witness
from nxmi_export.certificate.engine_cells import EngineReading
from nxmi_export.certificate.products import Products
from nxmi_export.certificate.promises import LinearPromise, Promises
from nxmi_export.certificate.stored_numbers import GraphFile, integer_parity, scale_parity
from nxmi_export.certificate.whole_model import engine_claims
from nxmi_export.parity import WeightParity
from nxmi_export.parity.layer_weights import Mismatch
from nxmi_export.recipe import Scheme

LINEAR = LinearPromise("a.b", "a", Scheme(bits=8), 64, 64, int8_output=False)
ALONE = replace(LINEAR, weight_alone=True)
DENSE = LinearPromise("a.b", "a", Scheme(), 64, 64, int8_output=False)


def file_with(parity: WeightParity) -> tuple[GraphFile, ...]:
    """A file of which this was found."""
    file = GraphFile(Path("model.onnx"), nn.Identity(), nn.Identity(), float16=False)
    vars(file)["parity"] = parity
    return (file,)


def compared(*names: str, quantizers: int = 1, wrong: str = "") -> WeightParity:
    mismatches = (Mismatch(wrong, "scale", "1", "2"),) if wrong else ()
    return WeightParity(
        len(names), len(names), 0, quantizers, mismatches, compared=frozenset(names)
    )


def test_a_linear_that_was_compared_is_proved() -> None:
    cell = integer_parity(LINEAR, file_with(compared("a.b")), "")
    assert cell.answer is Answer.PROVED


def test_a_linear_that_was_not_compared_is_unproven() -> None:
    cell = integer_parity(LINEAR, file_with(compared("a.c")), "")
    assert (cell.answer, cell.why) == (
        Answer.UNPROVEN,
        "model.onnx: the module was not compared",
    )


def test_a_linear_that_one_side_lacks_is_refuted() -> None:
    cell = integer_parity(LINEAR, file_with(compared("a.c", wrong="a.b")), "")
    assert cell.answer is Answer.REFUTED


def test_scales_that_were_compared_are_proved() -> None:
    cell = scale_parity((LINEAR,), file_with(compared("a.b", quantizers=20)), "")
    assert (cell.answer, cell.why) == (Answer.PROVED, "20 scales, in model.onnx")


def test_no_scale_that_was_compared_is_unproven() -> None:
    cell = scale_parity((LINEAR,), file_with(compared("a.b", quantizers=0)), "")
    assert (cell.answer, cell.why) == (
        Answer.UNPROVEN,
        "no activation scale of model.onnx was compared",
    )


def test_scales_of_a_recipe_that_quantizes_nothing_are_not_claimed() -> None:
    cell = scale_parity((DENSE,), file_with(compared("a.b", quantizers=0)), "")
    assert cell == not_claimed("the recipe quantizes nothing")


def test_scales_of_a_recipe_that_rounds_no_activation_are_not_claimed() -> None:
    none = file_with(compared("a.b", quantizers=0))
    assert scale_parity((ALONE, DENSE), none, "") == not_claimed(
        "the recipe quantizes weights alone"
    )
    assert scale_parity((ALONE, LINEAR), none, "").answer is Answer.UNPROVEN


def test_what_differs_is_refuted_however_few_scales_there_are() -> None:
    parity = compared("a.b", quantizers=0, wrong="embeddings")
    assert scale_parity((DENSE,), file_with(parity), "").answer is Answer.REFUTED


def test_an_engine_without_products_proves_no_mapping() -> None:
    witness = Witness("build.log", (), sparse_evidence("", (), None), None, None, None)
    reading = EngineReading(witness, Products(ProductNodes({}), frozenset()), (), ())
    cells = engine_claims(Promises((), (), ()), reading, "")
    assert cells[Claim.MAPPING] == answered(Verdict.UNPROVEN, "build.log lists no product")
