"""TensorFlow Serving's protocol over gRPC: PredictionService, and ModelService's states."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from clusteradm.node.serve.fronts import numbers, tfserving
from clusteradm.node.serve.fronts.calls import PRIORITY, patience, version_or_label
from clusteradm.node.serve.fronts.grpc_calls import Inquiry, Service
from clusteradm.node.serve.fronts.limits import MOST_DIMENSIONS, MOST_ELEMENTS, MOST_TENSORS
from clusteradm.node.serve.fronts.proto import tfserving_pb2 as pb
from clusteradm.node.serve.fronts.tfserving import Spec
from clusteradm.node.serve.plane import BYTES, DATATYPES, INVALID, NOT_FOUND, ModelInfo, Refusal, Tensor

# TensorFlow's numbers of data types.
_TYPES = {
    "FP32": 1,
    "FP64": 2,
    "INT32": 3,
    "UINT8": 4,
    "INT16": 5,
    "INT8": 6,
    BYTES: 7,
    "INT64": 9,
    "BOOL": 10,
    "UINT16": 17,
    "FP16": 19,
    "UINT32": 22,
    "UINT64": 23,
}
_NAMES = {number: name for name, number in _TYPES.items()}
# The field of a TensorProto with the elements of a type, where they are not in tensor_content.
_FIELDS = {
    "FP32": "float_val",
    "FP64": "double_val",
    "INT64": "int64_val",
    "BOOL": "bool_val",
    "UINT32": "uint32_val",
    "UINT64": "uint64_val",
    "FP16": "half_val",
    BYTES: "string_val",
}
_SMALL = "int_val"  # of the other whole numbers
_ANY = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_METADATA = "signature_def"


async def _predict(inquiry: Inquiry, request: Any) -> Any:
    spec, info = await _signed(inquiry, request)
    if len(request.inputs) > MOST_TENSORS or len(request.output_filter) > MOST_TENSORS:
        raise Refusal(INVALID, "more than %d tensors" % MOST_TENSORS)
    if len(set(request.output_filter)) != len(request.output_filter):
        raise Refusal(INVALID, "an output is asked for twice")
    # A client gets an output by the name that it asked for.
    asked = {each: tfserving.full_name(each, info.outputs, info.name) for each in request.output_filter}
    outputs = sorted(set(asked.values()))
    inputs = [_tensor(name, each) for name, each in request.inputs.items()]
    if info.picture and len(inputs) == 1 and inputs[0].datatype == BYTES:
        found, _ = await tfserving.pictures(inquiry.desk, inquiry.call, spec, info, inputs[0].data, outputs)
    else:
        named = [each._replace(name=tfserving.full_name(each.name, info.inputs, info.name)) for each in inputs]
        rows = tfserving.rows(info)
        found = await tfserving.infer(inquiry.desk, inquiry.call, spec, named, outputs, rows)
    reply = pb.PredictResponse(model_spec=_model(spec, tfserving.SIGNATURE))
    there = {each.name: each for each in found.outputs}
    for name, full in (asked or dict(zip(there, there))).items():
        _put(reply.outputs[name], there[full])
    return reply


async def _classify(inquiry: Inquiry, request: Any) -> Any:
    spec, info = await _signed(inquiry, request)
    given = _examples(request.input)
    found, results, _ = await tfserving.examples(inquiry.desk, inquiry.call, spec, info, given)
    reply = pb.ClassificationResponse(model_spec=_model(spec, request.model_spec.signature_name))
    for classes in tfserving.classes(found, results, info):
        one = reply.result.classifications.add()
        for label, score in classes:
            one.classes.add(label=label, score=score)
    return reply


async def _regress(inquiry: Inquiry, request: Any) -> Any:
    spec, info = await _signed(inquiry, request)
    found, _, _ = await tfserving.examples(inquiry.desk, inquiry.call, spec, info, _examples(request.input))
    reply = pb.RegressionResponse(model_spec=_model(spec, request.model_spec.signature_name))
    for value in tfserving.values(found, info):
        reply.result.regressions.add(value=value)
    return reply


async def _metadata(inquiry: Inquiry, request: Any) -> Any:
    spec, info = await _spec(inquiry, request)
    if list(request.metadata_field) != [_METADATA]:
        raise Refusal(INVALID, "the only metadata_field is %s" % _METADATA)
    signatures = pb.SignatureMap()
    signature = signatures.signature_def[tfserving.SIGNATURE]
    signature.method_name = tfserving.METHOD
    for into, tensors in ((signature.inputs, info.inputs), (signature.outputs, info.outputs)):
        for each in tensors:
            one = into[each.name]
            one.name, one.dtype = each.name, _TYPES[each.datatype]
            for size in each.shape:
                one.tensor_shape.dim.add(size=size)
    reply = pb.MetadataResponse(model_spec=_model(spec, ""))
    reply.metadata[_METADATA].type_url = _ANY
    reply.metadata[_METADATA].value = signatures.SerializeToString()
    return reply


async def _status(inquiry: Inquiry, request: Any) -> Any:
    name = _name(inquiry, request)
    version, label = _which(request.model_spec)
    if label is not None:
        version = (await inquiry.desk.plane.info(name, None, label)).version
    reply = pb.StatusResponse()
    for each in tfserving.states(await inquiry.desk.plane.states(name), name, version):
        code, _, text = tfserving.status(each)
        status = pb.Status(error_code=code, error_message=text)
        reply.model_version_status.add(version=each.version, state=tfserving.STATES[each.state], status=status)
    return reply


def _name(inquiry: Inquiry, request: Any) -> str:
    """The model that a request is for. Raises Refusal where it names none."""
    name: str = request.model_spec.name
    if not name:
        raise Refusal(INVALID, "the model_spec has no name of a model")
    inquiry.call.model = name
    return name


def _which(spec: Any) -> Tuple[Optional[int], Optional[str]]:
    """The version or the label that a request names. Raises Refusal."""
    kind = spec.WhichOneof("version_choice")
    if kind == "version":
        if spec.version.value < 0:
            raise Refusal(NOT_FOUND, "there is no version %d" % spec.version.value)
        return version_or_label(str(spec.version.value))
    if kind == "version_label":
        version, label = version_or_label(spec.version_label)
        if version is not None:
            raise Refusal(INVALID, "a label is no number")
        return None, label
    return None, None


async def _spec(inquiry: Inquiry, request: Any) -> Tuple[Spec, ModelInfo]:
    name = _name(inquiry, request)
    version, label = _which(request.model_spec)
    version = await inquiry.desk.version(name, inquiry.metadata, version, label)
    info = await inquiry.desk.plane.info(name, version, label)
    _, priority = patience({PRIORITY: inquiry.metadata[PRIORITY]} if PRIORITY in inquiry.metadata else {})
    return Spec(name, info.version, None, inquiry.deadline, priority), info


async def _signed(inquiry: Inquiry, request: Any) -> Tuple[Spec, ModelInfo]:
    """The same, for a request that may name a signature."""
    found = await _spec(inquiry, request)
    tfserving.check_signature(request.model_spec.signature_name)
    return found


def _model(spec: Spec, signature: str) -> Any:
    found = pb.ModelSpec(name=spec.model, signature_name=signature)
    found.version.value = spec.version or 0
    return found


def _tensor(name: str, given: Any) -> Tensor:
    """A TensorProto. Raises Refusal."""
    datatype = _NAMES.get(given.dtype)
    if datatype is None:
        raise Refusal(INVALID, "input %s: the DataType %d is none that is served" % (name[:100], given.dtype))
    sizes = [each.size for each in given.tensor_shape.dim]
    if given.tensor_shape.unknown_rank or len(sizes) > MOST_DIMENSIONS:
        raise Refusal(INVALID, "input %s has no shape of at most %d dimensions" % (name[:100], MOST_DIMENSIONS))
    shape = numbers.shape(sizes, name[:100])
    count = numbers.elements(shape, name[:100])
    if datatype == BYTES:
        if len(given.string_val) != count:
            raise Refusal(INVALID, "input %s: %d strings in its shape %s" % (name[:100], len(given.string_val), sizes))
        return Tensor(name, datatype, shape, list(given.string_val))
    if given.tensor_content:
        return Tensor(name, datatype, shape, numbers.raw(given.tensor_content, datatype, shape, name[:100]))
    values = getattr(given, _FIELDS.get(datatype, _SMALL))
    if not count <= MOST_ELEMENTS or not (len(values) <= count and (values or not count)):
        text = "input %s: %d values, and %d in its shape %s"
        raise Refusal(INVALID, text % (name[:100], len(values), count, sizes))
    wanted = np.dtype(DATATYPES[datatype])
    if datatype == "FP16":  # the bits of each
        array = np.array(values, np.int64)
        if array.size and (array.min() < 0 or array.max() >= 1 << 16):
            raise Refusal(INVALID, "input %s: half_val has more than 16 bits" % name[:100])
        array = array.astype(np.uint16).view(np.float16)
    else:
        array = np.array(values, np.float64 if wanted.kind == "f" else None)
        if wanted.kind in "iu" and array.size:
            limits = np.iinfo(wanted)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise Refusal(INVALID, "input %s: numbers from %d to %d" % (name[:100], limits.min, limits.max))
        array = array.astype(wanted)
    if len(values) < count:  # the last value stands for all that follow (tensor.proto)
        array = np.concatenate([array, np.full(count - len(values), array[-1], array.dtype)])
    return Tensor(name, datatype, shape, array.reshape(shape))


def _put(into: Any, tensor: Tensor) -> None:
    into.dtype = _TYPES[tensor.datatype]
    for size in tensor.shape:
        into.tensor_shape.dim.add(size=size)
    if tensor.datatype == BYTES:
        into.string_val.extend(tensor.data)
        return
    values = np.asarray(tensor.data)
    into.tensor_content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _examples(given: Any) -> List[Dict[str, Any]]:
    """The features of each example. Raises Refusal."""
    kind = given.WhichOneof("kind")
    if kind is None:
        raise Refusal(INVALID, "a request without examples")
    these = getattr(given, kind)
    context = _features(these.context) if kind == "example_list_with_context" else {}
    return [{**context, **_features(each)} for each in these.examples]


def _features(example: Any) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            values = list(feature.bytes_list.value)
            found[name] = values[0] if len(values) == 1 else values
        elif kind is not None:
            found[name] = list(getattr(feature, kind).value)
    return found


def services() -> List[Service]:
    """The services."""
    return [
        Service(
            "tensorflow.serving.PredictionService",
            "tensorflow-grpc",
            {
                "Predict": (_predict, pb.PredictRequest, pb.PredictResponse),
                "Classify": (_classify, pb.ExamplesRequest, pb.ClassificationResponse),
                "Regress": (_regress, pb.ExamplesRequest, pb.RegressionResponse),
                "GetModelMetadata": (_metadata, pb.MetadataRequest, pb.MetadataResponse),
            },
        ),
        Service(
            "tensorflow.serving.ModelService",
            "tensorflow-grpc",
            {"GetModelStatus": (_status, pb.StatusRequest, pb.StatusResponse)},
        ),
    ]
