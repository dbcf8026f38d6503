"""Messages of TensorFlow Serving's clients, in tests, written after its .proto files and independent of the server's.

Their names are TensorFlow's own, in a pool of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_SCALARS = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
_SCALARS["uint32"] = 13
# message: fields as "NUMBER NAME TYPE", "*" before a repeated type, "{}" before the values of a map, "?" for a oneof.
_MESSAGES = {
    "tensorflow.TensorShapeProto.Dim": ["1 size int64", "2 name string"],
    "tensorflow.TensorShapeProto": ["2 dim *tensorflow.TensorShapeProto.Dim", "3 unknown_rank bool"],
    "tensorflow.TensorProto": [
        *(
            "1 dtype int32",
            "2 tensor_shape tensorflow.TensorShapeProto",
            "3 version_number int32",
            "4 tensor_content bytes",
        ),
        *(
            "5 float_val *float",
            "6 double_val *double",
            "7 int_val *int32",
            "8 string_val *bytes",
            "10 int64_val *int64",
        ),
        *("11 bool_val *bool", "13 half_val *int32", "16 uint32_val *uint32", "17 uint64_val *uint64"),
    ],
    "tensorflow.TensorInfo": ["1 name ?string", "2 dtype int32", "3 tensor_shape tensorflow.TensorShapeProto"],
    "tensorflow.SignatureDef": [
        "1 inputs {}tensorflow.TensorInfo",
        "2 outputs {}tensorflow.TensorInfo",
        "3 method_name string",
    ],
    "tensorflow.BytesList": ["1 value *bytes"],
    "tensorflow.FloatList": ["1 value *float"],
    "tensorflow.Int64List": ["1 value *int64"],
    "tensorflow.Feature": [
        "1 bytes_list ?tensorflow.BytesList",
        "2 float_list ?tensorflow.FloatList",
        "3 int64_list ?tensorflow.Int64List",
    ],
    "tensorflow.Features": ["1 feature {}tensorflow.Feature"],
    "tensorflow.Example": ["1 features tensorflow.Features"],
    "tensorflow.serving.ModelSpec": [
        *(
            "1 name string",
            "2 version ?google.protobuf.Int64Value",
            "4 version_label ?string",
            "3 signature_name string",
        ),
    ],
    "tensorflow.serving.PredictRequest": [
        "1 model_spec tensorflow.serving.ModelSpec",
        "2 inputs {}tensorflow.TensorProto",
        "3 output_filter *string",
    ],
    "tensorflow.serving.PredictResponse": [
        "1 outputs {}tensorflow.TensorProto",
        "2 model_spec tensorflow.serving.ModelSpec",
    ],
    "tensorflow.serving.ExampleList": ["1 examples *tensorflow.Example"],
    "tensorflow.serving.Input": ["1 example_list ?tensorflow.serving.ExampleList"],
    "tensorflow.serving.ClassificationRequest": [
        "1 model_spec tensorflow.serving.ModelSpec",
        "2 input tensorflow.serving.Input",
    ],
    "tensorflow.serving.Class": ["1 label string", "2 score float"],
    "tensorflow.serving.Classifications": ["1 classes *tensorflow.serving.Class"],
    "tensorflow.serving.ClassificationResult": ["1 classifications *tensorflow.serving.Classifications"],
    "tensorflow.serving.ClassificationResponse": [
        "1 result tensorflow.serving.ClassificationResult",
        "2 model_spec tensorflow.serving.ModelSpec",
    ],
    "tensorflow.serving.GetModelMetadataRequest": [
        "1 model_spec tensorflow.serving.ModelSpec",
        "2 metadata_field *string",
    ],
    "tensorflow.serving.GetModelMetadataResponse": [
        "1 model_spec tensorflow.serving.ModelSpec",
        "2 metadata {}google.protobuf.Any",
    ],
    "tensorflow.serving.SignatureDefMap": ["1 signature_def {}tensorflow.SignatureDef"],
    "tensorflow.serving.GetModelStatusRequest": ["1 model_spec tensorflow.serving.ModelSpec"],
    "tensorflow.serving.StatusProto": ["1 error_code int32", "2 error_message string"],
    "tensorflow.serving.ModelVersionStatus": [
        *("1 version int64", "2 state int32", "3 status tensorflow.serving.StatusProto"),
    ],
    "tensorflow.serving.GetModelStatusResponse": ["1 model_version_status *tensorflow.serving.ModelVersionStatus"],
}


def _made() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        known = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(known)
        pool.Add(known)
    file = descriptor_pb2.FileDescriptorProto(name="messages.proto", package="", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/wrappers.proto"])
    packages = {name: name.rpartition(".")[0] for name in _MESSAGES}
    files = {}
    for package in ("tensorflow", "tensorflow.serving"):
        one = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        one.dependency.extend(file.dependency)
        files[package] = one
    files["tensorflow.serving"].dependency.append("tensorflow.proto")
    made: dict[str, Any] = {}
    for name, fields in sorted(_MESSAGES.items()):
        package, short = packages[name], name.rpartition(".")[2]
        message = made[package].nested_type.add() if package in made else files[package].message_type.add()
        message.name = short
        made[name] = message
        for field in fields:
            number, label, kind = field.split()
            _add(message, name, int(number), label, kind)
    for one in files.values():
        pool.Add(one)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in _MESSAGES}


def _add(message: Any, full: str, number: int, name: str, kind: str) -> None:
    repeated = kind[0] == "*" or kind.startswith("{}")
    plain = kind.lstrip("*?{}")
    if kind.startswith("{}"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add(entry, full, 1, "key", "string")
        _add(entry, full, 2, "value", plain)
        plain = f"{full}.{entry.name}"
    field = message.field.add(name=name, number=number, label=3 if repeated else 1)
    if plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        field.type, field.type_name = 11, f".{plain}"
    if kind[0] == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0


_ALL = _made()
TensorProto = _ALL["tensorflow.TensorProto"]
ModelSpec = _ALL["tensorflow.serving.ModelSpec"]
PredictRequest, PredictResponse = (_ALL[f"tensorflow.serving.Predict{each}"] for each in ("Request", "Response"))
ClassificationRequest, ClassificationResponse = (
    _ALL[f"tensorflow.serving.Classification{each}"] for each in ("Request", "Response")
)
GetModelMetadataRequest, GetModelMetadataResponse = (
    _ALL[f"tensorflow.serving.GetModelMetadata{each}"] for each in ("Request", "Response")
)
GetModelStatusRequest, GetModelStatusResponse = (
    _ALL[f"tensorflow.serving.GetModelStatus{each}"] for each in ("Request", "Response")
)
SignatureDefMap = _ALL["tensorflow.serving.SignatureDefMap"]


def tensor(dtype: int, shape: Sequence[int], **values: Any) -> Any:
    """A TensorProto; the type by TensorFlow's number."""
    found = TensorProto(dtype=dtype, **values)
    for size in shape:
        found.tensor_shape.dim.add(size=size)
    return found


def call(channel: grpc.Channel, method: str, request: Any, reply: Any) -> Any:
    """One call of tensorflow.serving."""
    ask = channel.unary_unary(
        f"/tensorflow.serving.{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reply.FromString,
    )
    return ask(request, timeout=60)
