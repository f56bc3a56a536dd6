"""What an ONNX model reads besides itself, found without a library that reads ONNX."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nxmi_export import artefact_files
from nxmi_export.artefact_files import facts_sha256, tensor_files
from nxmi_export.errors import ArtefactError

PATH = Path("model.onnx")


def _tensor(location: str, name: str = "location") -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def _graph(*tensors: onnx.TensorProto) -> onnx.GraphProto:
    """One whose values have names that could be taken for something else."""
    output = helper.make_tensor_value_info("location", onnx.TensorProto.FLOAT, [4])
    return helper.make_graph([], "location", [], [output], tensors, value_info=[output])


def _saved(graph: onnx.GraphProto) -> bytes:
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    "locations",
    [
        ("model.onnx.data",),
        ("model.onnx.data", "model.fp16.onnx.data", "model.onnx.data"),
        ("../elsewhere/weights", "gewichte-ü"),
        ("a" * 127, "b" * 128, "c" * 300),  # whose lengths take one and two bytes
    ],
)
def test_every_file_of_tensors_is_found(locations: tuple[str, ...]) -> None:
    assert tensor_files(_saved(_graph(*map(_tensor, locations))), PATH) == set(locations)


def test_a_model_that_holds_its_tensors_reads_no_file() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "location")
    assert tensor_files(_saved(_graph(tensor)), PATH) == set()


def test_tensors_of_nodes_branches_and_functions_are_found() -> None:
    sparse = onnx.SparseTensorProto(values=_tensor("values"), indices=_tensor("indices"))
    graph = _graph()
    branch = _graph(_tensor("branch"))
    branch.node.append(helper.make_node("Constant", [], ["inner"], value=_tensor("inner")))
    graph.node.extend(
        [
            helper.make_node("Constant", [], ["outer"], value=_tensor("outer")),
            helper.make_node("If", ["outer"], ["either"], then_branch=branch),
            helper.make_node("Constant", [], ["few"], sparse_value=sparse),
            helper.make_node("Own", [], ["own"], domain="own", several=[_tensor("several")]),
        ]
    )
    graph.sparse_initializer.append(sparse)
    model = helper.make_model(graph)
    function = model.functions.add(name="own", domain="own")
    function.node.append(helper.make_node("Constant", [], ["c"], value=_tensor("function")))
    function.attribute_proto.append(helper.make_attribute("default", _tensor("default")))
    assert tensor_files(model.SerializeToString(), PATH) == {
        *("branch", "inner", "outer", "values", "indices", "several", "function", "default")
    }


def test_every_field_of_onnx_that_can_hold_a_tensor_is_looked_into() -> None:
    """But for those of training, which nothing here runs."""
    messages = {
        "model": onnx.ModelProto,
        "graph": onnx.GraphProto,
        "function": onnx.FunctionProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "sparse tensor": onnx.SparseTensorProto,
        "tensor": onnx.TensorProto,
    }
    names = {each.DESCRIPTOR.name: name for name, each in messages.items()}
    for name, message in messages.items():
        expected = {
            field.number: names[field.message_type.name]
            for field in message.DESCRIPTOR.fields
            if field.message_type is not None and field.message_type.name in names
        }
        if name == "tensor":
            expected = {message.DESCRIPTOR.fields_by_name["external_data"].number: "entry"}
        assert artefact_files._LEADING[name] == expected


@pytest.mark.parametrize(
    "before",
    [
        b"\xa3\x06\xa4\x06",  # an empty group of an unknown field
        b"\xa3\x06\xa3\x06\x3a\x02ab\xa4\x06\xa4\x06",  # with what looks like a graph
        b"\x9d\x06abcd\x99\x06abcdefgh\x98\x06\xff\x01",  # unknown numbers
    ],
)
def test_unknown_fields_hide_nothing(before: bytes) -> None:
    model = before + _saved(_graph(_tensor("weights")))
    assert onnx.load_from_string(model).graph.initializer  # others read it too
    assert tensor_files(model, PATH) == {"weights"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"no graph", "no protobuf"),
        (b"\xba\x80\x80\x80\x10\x00", "no protobuf"),  # field 7 in bits that others cut off
        (b"\xff" * 9, "one that is cut off"),
        (b"\x0a\xff", "one that is cut off"),
        (b"\x3a\x7f\x01", "one that is cut off"),
        (b"\x9d\x06abc", "one that is cut off"),
        (b"\xa3\x06", "one that is cut off"),
        (b"\xa4\x06", "one that is cut off"),
    ],
)
def test_what_cannot_be_read_is_refused(content: bytes, found: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        tensor_files(content, PATH)
    assert str(caught.value) == (
        f"model.onnx: expected a readable ONNX model, found {found}; export the model again, or "
        "restore the file"
    )


def test_a_fact_that_says_nothing_is_as_one_that_is_left_out() -> None:
    facts = {"labels": ["a"], "packed": {}, "tuning": None, "source": {"path": "m", "base": None}}
    assert facts_sha256(facts) == facts_sha256({"labels": ["a"], "source": {"path": "m"}})
    assert facts_sha256({"labels": [""]}) != facts_sha256({"labels": []})


def test_facts_are_all_but_files_and_when_they_were_written() -> None:
    facts = {"labels": ["a", "b"], "files": {"model.onnx": "ab"}, "created": "today"}
    other = {"created": "tomorrow", "labels": ["a", "b"], "files": {}}
    assert facts_sha256(facts) == facts_sha256(other)
    assert facts_sha256(facts) != facts_sha256({**facts, "labels": ["b", "a"]})
