"""The part of Triton's model_config.proto that a config.pbtxt of ours may use, as a parser.

Field names, numbers and types are the published ones; whatever is not in it does not parse.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_TYPES = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}

# Message → field → (number, type); a type of another name is a message or an enumeration, "[]"
# marks repeated fields, and a map is a repeated message of key and value.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelConfig": {
        "name": (1, "string"),
        "platform": (2, "string"),
        "backend": (17, "string"),
        "max_batch_size": (4, "int32"),
        "input": (5, "ModelInput[]"),
        "output": (6, "ModelOutput[]"),
        "optimization": (12, "ModelOptimizationPolicy"),
        "dynamic_batching": (11, "ModelDynamicBatching"),
        "instance_group": (7, "ModelInstanceGroup[]"),
        "default_model_filename": (8, "string"),
        "model_warmup": (16, "ModelWarmup[]"),
    },
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "int64[]")},
    "ModelOutput": {
        "name": (1, "string"),
        "data_type": (2, "DataType"),
        "dims": (3, "int64[]"),
        "label_filename": (4, "string"),
    },
    "ModelInstanceGroup": {
        "name": (1, "string"),
        "kind": (4, "Kind"),
        "count": (2, "int32"),
        "gpus": (3, "int32[]"),
        "profile": (5, "string[]"),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, "int32[]"),
        "max_queue_delay_microseconds": (2, "uint64"),
    },
    "ModelOptimizationPolicy": {"cuda": (3, "Cuda")},
    "Cuda": {
        "graphs": (1, "bool"),
        "busy_wait_events": (2, "bool"),
        "graph_spec": (3, "GraphSpec[]"),
    },
    "GraphSpec": {"batch_size": (1, "int32"), "input": (2, "GraphInput[]")},
    "GraphInput": {"key": (1, "string"), "value": (2, "GraphShape")},
    "GraphShape": {"dim": (1, "int64[]")},
    "ModelWarmup": {
        "name": (1, "string"),
        "batch_size": (2, "uint32"),
        "inputs": (3, "WarmupInput[]"),
        "count": (4, "uint32"),
    },
    "WarmupInput": {"key": (1, "string"), "value": (2, "WarmupValue")},
    "WarmupValue": {
        "data_type": (1, "DataType"),
        "dims": (2, "int64[]"),
        "zero_data": (3, "bool"),
        "random_data": (4, "bool"),
        "input_data_file": (5, "string"),
    },
}
ENUMERATIONS = {
    "DataType": {
        "TYPE_INVALID": 0,
        "TYPE_INT32": 8,
        "TYPE_INT64": 9,
        "TYPE_FP16": 10,
        "TYPE_FP32": 11,
    },
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}


def parse_config(text: str) -> Any:
    """The ModelConfig that `text` is; raises ParseError for anything else."""
    return text_format.Parse(text, _model_config()())


def name_of(enumeration: str, number: int) -> str:
    """The name of a value."""
    (name,) = (name for name, each in ENUMERATIONS[enumeration].items() if each == number)
    return name


def _model_config() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind)
    for name, values in ENUMERATIONS.items():
        enumeration = file.enum_type.add(name=name)
        for value, number in values.items():
            enumeration.value.add(name=value, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelConfig"))


def _add(message: Any, name: str, number: int, kind: str) -> None:
    label = descriptor_pb2.FieldDescriptorProto
    base = kind.removesuffix("[]")
    field = message.field.add(
        name=name,
        number=number,
        label=label.LABEL_REPEATED if kind.endswith("[]") else label.LABEL_OPTIONAL,
    )
    if base in _TYPES:
        field.type = _TYPES[base]
        return
    field.type = label.TYPE_ENUM if base in ENUMERATIONS else label.TYPE_MESSAGE
    field.type_name = f".{base}"
