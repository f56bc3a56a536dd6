"""The two spellings of shapes, and the command line of NVIDIA's own tool."""

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    HardwareCompatibility,
    Library,
    ShapeProfile,
    TrtexecShapes,
)
from nxmi_export.backends.tensorrt_engine.trtexec import TrtexecFiles, trtexec_command
from nxmi_export.errors import ShapeError
from tests.backends.fake_builder_library import fake_library

INPUTS = ("input_ids", "attention_mask")
FILES = TrtexecFiles("model.onnx", "model.plan", "layers_model.json")
NARROW = ShapeProfile.parse("min=1x1,opt=1x8,max=1x16", position_limit=16)
WIDE = ShapeProfile.parse("min=8x1,opt=8x16,max=16x16", position_limit=16)
EVERYTHING = EngineOptions(
    compute_capabilities=("sm86", "sm89"),
    workspace_bytes=3 << 20,
    optimization_level=4,
    sparse_weights=False,
    tf32=False,
    version_compatible=True,
    hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
    refit=True,
    strip_weights=True,
)
LEAST = (
    "--onnx=model.onnx",
    "--saveEngine=model.plan",
    "--minShapes=input_ids:1x1,attention_mask:1x1",
    "--optShapes=input_ids:1x8,attention_mask:1x8",
    "--maxShapes=input_ids:1x16,attention_mask:1x16",
)
LAST = (
    "--profilingVerbosity=detailed",
    "--exportLayerInfo=layers_model.json",
    "--verbose",
    "--skipInference",
)


def test_defaults_of_tensorrt_10() -> None:
    library, _ = fake_library(creation_flags={"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
    command = trtexec_command(FILES, [NARROW], INPUTS, EngineOptions(), library)
    assert command == ("trtexec", *LEAST, "--stronglyTyped", "--sparsity=enable", *LAST)


def test_tensorrt_11_is_strongly_typed_without_being_told() -> None:
    library, _ = fake_library("11.0.0", creation_flags={})
    command = trtexec_command(FILES, [NARROW], INPUTS, EngineOptions(), library)
    assert command == ("trtexec", *LEAST, "--sparsity=enable", *LAST)


def test_every_option_of_tensorrt() -> None:
    library, _ = fake_library(creation_flags={})
    files = TrtexecFiles("model.onnx", "model.plan", "layers_model.json", "timing.cache")
    assert trtexec_command(files, [NARROW], INPUTS, EVERYTHING, library) == (
        "trtexec",
        *LEAST,
        "--noTF32",
        "--sparsity=disable",
        "--builderOptimizationLevel=4",
        "--timingCacheFile=timing.cache",
        "--hardwareCompatibilityLevel=ampere+",
        "--memPoolSize=workspace:3",
        "--versionCompatible",
        "--refit",
        "--stripWeights",
        *LAST,
    )


def test_rtx_is_asked_by_its_own_tool_without_what_it_ignores() -> None:
    library, _ = fake_library(creation_flags={"STRONGLY_TYPED": 1})
    rtx = Library(library.module, "tensorrt_rtx", "1.7.1")
    assert trtexec_command(FILES, [NARROW], INPUTS, EVERYTHING, rtx) == (
        "tensorrt_rtx",
        *LEAST,
        "--noTF32",
        "--computeCapabilities=86,89",
        "--memPoolSize=workspace:3",
        "--versionCompatible",
        "--refit",
        "--stripWeights",
        *LAST,
    )


def test_a_graph_whose_shapes_are_fixed_is_given_none() -> None:
    library, _ = fake_library(creation_flags={})
    command = trtexec_command(FILES, [], INPUTS, EngineOptions(), library)
    assert command[:4] == ("trtexec", *LEAST[:2], "--sparsity=enable")


def test_several_profiles_are_numbered() -> None:
    library, _ = fake_library(creation_flags={})
    command = trtexec_command(FILES, [NARROW, WIDE], ("x",), EngineOptions(), library)
    assert command[3:11] == (
        "--profile=0",
        "--minShapes=x:1x1",
        "--optShapes=x:1x8",
        "--maxShapes=x:1x16",
        "--profile=1",
        "--minShapes=x:8x1",
        "--optShapes=x:8x16",
        "--maxShapes=x:16x16",
    )


def test_what_is_printed_is_read_back() -> None:
    library, _ = fake_library()
    command = trtexec_command(FILES, [NARROW, WIDE], INPUTS, EngineOptions(), library)

    def values(option: str) -> list[str]:
        return [each.partition("=")[2] for each in command if each.startswith(f"--{option}=")]

    shapes = TrtexecShapes(values("minShapes"), values("optShapes"), values("maxShapes"))
    assert shapes.profiles(INPUTS, position_limit=16) == (NARROW, WIDE)


def test_names_with_a_colon_are_quoted_and_read_back() -> None:
    library, _ = fake_library()
    names = ("input_ids:0", "mask")
    command = trtexec_command(FILES, [NARROW], names, EngineOptions(), library)
    (usual,) = [each for each in command if each.startswith("--optShapes=")]
    assert usual == "--optShapes='input_ids:0':1x8,mask:1x8"
    shapes = TrtexecShapes(opt=[usual.removeprefix("--optShapes=")])
    (profile,) = shapes.profiles(names, position_limit=16)
    assert str(profile) == "min=1x8,opt=1x8,max=1x8"


@pytest.mark.parametrize(
    "text", ["input_ids:1x8,attention_mask:1x8", "'input_ids':1x8,'attention_mask':1x8", "*:1x8"]
)
def test_the_shape_to_tune_for_stands_for_all_three(text: str) -> None:
    [profile] = TrtexecShapes(opt=[text]).profiles(INPUTS, position_limit=16)
    assert str(profile) == "min=1x8,opt=1x8,max=1x8"


def test_the_position_table_caps_this_spelling_too() -> None:
    with pytest.raises(ShapeError) as caught:
        TrtexecShapes(opt=["*:1x17"]).profiles(INPUTS, position_limit=16)
    assert str(caught.value) == (
        "shapes min=1x17,opt=1x17,max=1x17: expected at most 16 tokens, the model's position "
        "table, found a maximum of 17; lower the maximum sequence to 16 or less"
    )


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (
            TrtexecShapes(min=["*:1x8"], max=["*:1x8"]),
            "--minShapes, --optShapes and --maxShapes: expected each of the three once for every "
            "profile, or --optShapes alone, found 1 and 0 and 1; give the missing ones",
        ),
        (
            TrtexecShapes(opt=["input_ids=1x8"]),
            "--optShapes: expected inputs with batch x sequence, as in "
            "input_ids:1x8,attention_mask:1x8, found 'input_ids=1x8'; "
            "write each input as NAME:BATCHxSEQUENCE",
        ),
        (
            TrtexecShapes(opt=["input_ids:1x8x3"]),
            "--optShapes: expected inputs with batch x sequence, as in "
            "input_ids:1x8,attention_mask:1x8, found 'input_ids:1x8x3'; "
            "write each input as NAME:BATCHxSEQUENCE",
        ),
        (
            TrtexecShapes(opt=["ids:1x8"]),
            "--optShapes: expected the inputs input_ids, attention_mask, found 'ids'; "
            "use the names of the model",
        ),
        (
            TrtexecShapes(opt=["input_ids:1x8"]),
            "--optShapes: expected a shape for each of input_ids, attention_mask, "
            "found none for attention_mask; name every input",
        ),
        (
            TrtexecShapes(opt=["input_ids:1x8,attention_mask:1x16"]),
            "--optShapes: expected one batch and sequence, which the inputs of an encoder share, "
            "found input_ids:1x8, attention_mask:1x16; give every input the same",
        ),
    ],
)
def test_other_shapes_are_refused(shapes: TrtexecShapes, sentence: str) -> None:
    with pytest.raises(ShapeError) as caught:
        shapes.profiles(INPUTS, position_limit=16)
    assert str(caught.value) == sentence
