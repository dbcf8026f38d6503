"""KServe's protocol, version 2, over gRPC: inference.GRPCInferenceService, with Triton's extensions."""

import json
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
from google.protobuf.message import DecodeError

import clusteradm
from clusteradm.node.serve.fronts import grpc_direct, kserve, numbers
from clusteradm.node.serve.fronts.calls import Desk, version_or_label
from clusteradm.node.serve.fronts.grpc_calls import Inquiry, Service, check
from clusteradm.node.serve.fronts.known import Key
from clusteradm.node.serve.fronts.limits import MOST_TENSORS
from clusteradm.node.serve.fronts.proto import kserve_pb2 as pb
from clusteradm.node.serve.plane import (
    BYTES,
    DATATYPES,
    INTERNAL,
    INVALID,
    NOT_FOUND,
    UNAVAILABLE,
    Answer,
    Refusal,
    Request,
    Tensor,
)

# Which field of an input's contents has the elements of a data type; FP16 has none.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}

SERVICES = (
    "inference.GRPCInferenceService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)
_FINAL = "triton_final_response"
_SERVING, _NOT_SERVING = 1, 2  # grpc.health.v1.HealthCheckResponse.ServingStatus


async def _live(inquiry: Inquiry, request: Any) -> Any:
    return pb.Live(live=True)


async def _ready(inquiry: Inquiry, request: Any) -> Any:
    return pb.Ready(ready=await kserve.ready(inquiry.desk.plane))


async def _server(inquiry: Inquiry, request: Any) -> Any:
    return pb.ServerMetadata(name=kserve.NAME, version=clusteradm.__version__, extensions=kserve.EXTENSIONS)


async def _model_ready(inquiry: Inquiry, request: Any) -> Any:
    """As Triton says it: what nobody serves is not ready, which is no error."""
    inquiry.call.model = request.name
    version, label = version_or_label(request.version)
    try:
        if label is not None:
            version = (await inquiry.desk.plane.info(request.name, None, label)).version
        return pb.Ready(ready=await inquiry.desk.plane.ready(request.name, version))
    except Refusal as refusal:
        if refusal.kind not in (NOT_FOUND, UNAVAILABLE):
            raise
        return pb.Ready(ready=False)


async def _metadata(inquiry: Inquiry, request: Any) -> Any:
    inquiry.call.model = request.name
    found = kserve.metadata(await inquiry.desk.plane.info(request.name, *version_or_label(request.version)))
    return pb.ModelMetadata(
        name=found["name"],
        versions=found["versions"],
        platform=found["platform"],
        inputs=[pb.ModelMetadata.Tensor(**each) for each in found["inputs"]],
        outputs=[pb.ModelMetadata.Tensor(**each) for each in found["outputs"]],
    )


async def _config(inquiry: Inquiry, request: Any) -> Any:
    inquiry.call.model = request.name
    info = await inquiry.desk.plane.info(request.name, *version_or_label(request.version))
    config = kserve.config(info)
    found = pb.ModelConfig(name=info.name, platform=config["platform"], backend=config["backend"])
    for into, tensors in ((found.input, info.inputs), (found.output, info.outputs)):
        for each in tensors:
            into.add(name=each.name, data_type=kserve.type_number(each.datatype), dims=each.shape)
    return pb.ModelConfigResponse(config=found)


async def _statistics(inquiry: Inquiry, request: Any) -> Any:
    version, label = version_or_label(request.version)
    if label is not None:
        version = (await inquiry.desk.plane.info(request.name, None, label)).version
    reply = pb.ModelStatisticsResponse()
    for each in await kserve.statistics(inquiry.desk, request.name or None, version):
        one = reply.model_stats.add(
            name=each["name"],
            version=each["version"],
            inference_count=each["inference_count"],
            execution_count=each["execution_count"],
        )
        for name, spent in each["inference_stats"].items():
            into = getattr(one.inference_stats, name)
            into.count, into.ns = spent["count"], spent["ns"]
    return reply


async def _index(inquiry: Inquiry, request: Any) -> Any:
    found = await kserve.index(inquiry.desk.plane, request.ready)
    return pb.IndexResponse(models=[pb.IndexResponse.Model(**each) for each in found])


async def _load(inquiry: Inquiry, request: Any) -> Any:
    return await _change(inquiry, request, False)


async def _unload(inquiry: Inquiry, request: Any) -> Any:
    return await _change(inquiry, request, True)


async def _change(inquiry: Inquiry, request: Any, unload: bool) -> Any:
    inquiry.call.model = request.model_name
    kserve.check_load(dict.fromkeys(request.parameters))
    await inquiry.desk.plane.load(request.model_name, unload)
    return pb.Empty()


async def _infer_bytes(inquiry: Inquiry, data: bytes) -> bytes:
    """The same, from a message that nobody has read to the bytes of its answer."""
    found = grpc_direct.parts(data)
    key = grpc_direct.key(inquiry, data, found[0]) if found is not None else None
    known = inquiry.desk.known.get(key) if key is not None else None
    if found is not None and known is not None:
        inquiry.call.model = known.model
        answer = await grpc_direct.again(known, found[1])
        if answer is not None:
            inquiry.call.answer = answer
            return _repeated(answer)
    try:
        request = pb.InferRequest.FromString(data)
    except DecodeError as error:
        raise Refusal(INVALID, "the message is damaged: %s" % " ".join(str(error).split())[:200]) from None
    check(inquiry, request)
    reply: bytes = (await _infer(inquiry, request, key)).SerializeToString()
    return reply


async def _infer(inquiry: Inquiry, request: Any, key: Optional[Key] = None) -> Any:
    inquiry.call.model = request.model_name
    version, label = version_or_label(request.model_version)
    version = await inquiry.desk.version(request.model_name, inquiry.metadata, version, label)
    given = _parameters(request.parameters)
    inputs = _inputs(request)
    if len(request.outputs) > MOST_TENSORS:
        raise Refusal(INVALID, "more than %d outputs are asked for" % MOST_TENSORS)
    classes = {each.name: kserve.classes_of(_parameters(each.parameters), each.name) for each in request.outputs}
    deadline, priority = kserve.patience(given, inquiry.metadata)
    if inquiry.deadline is not None:
        deadline = min(inquiry.deadline, deadline) if deadline is not None else inquiry.deadline
    wish = Request(
        request.model_name,
        inputs,
        version,
        label,
        list(classes),
        request.id[:1000],
        deadline,
        priority,
        given,
        kserve.wants_result(inputs, given),
    )
    found = await inquiry.desk.infer(inquiry.call, wish)
    if key is not None and not any(classes.values()):
        grpc_direct.keep(inquiry, key, wish.model, inquiry.desk.plane.again(wish))
    return await _reply(inquiry.desk, found, classes)


async def _reply(desk: Desk, found: Answer, classes: Mapping[str, int]) -> Any:
    reply = _head(found)
    if found.result is not None:
        reply.parameters["result"].string_param = json.dumps(found.result)
    for each in found.outputs:
        most = classes.get(each.name, 0)
        if most:
            names = (await desk.plane.info(found.model, found.version)).class_names
            each = kserve.best(each, most, names)
        reply.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        reply.raw_output_contents.append(kserve.raw(each))
    return reply


def _head(found: Answer) -> Any:
    """An answer without its tensors."""
    reply = pb.InferResponse(model_name=found.model, model_version=str(found.version), id=found.id)
    for name, value in kserve.answer_parameters(found).items():
        kind = {bool: "bool_param", int: "int64_param"}.get(type(value), "string_param")
        setattr(reply.parameters[name], kind, value)
    return reply


def _repeated(found: Answer) -> bytes:
    """The answer to a known request: what it says each time, and the numbers. Two messages in a row are one."""
    outputs = tuple(each._replace(data=None) for each in found.outputs)
    reply = pb.InferResponse(raw_output_contents=[each.data for each in found.outputs])
    for name, value in kserve.times(found).items():
        reply.parameters[name].int64_param = value
    same: bytes = _same(found._replace(outputs=outputs, queued_seconds=0.0, seconds=0.0, batch=1))
    numbers_too: bytes = reply.SerializeToString()
    return same + numbers_too


@lru_cache(maxsize=256)
def _same(found: Answer) -> bytes:
    """What the answers to a known request have in common: all but the numbers."""
    reply = _head(found)
    for name in kserve.times(found):
        del reply.parameters[name]
    for each in found.outputs:
        reply.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
    data: bytes = reply.SerializeToString()
    return data


def _parameters(given: Any) -> Dict[str, Any]:
    found = {}
    for name, value in given.items():
        kind = value.WhichOneof("choice")
        if kind:
            found[name] = getattr(value, kind)
    return kserve.parameters_of(found)


def _inputs(request: Any) -> List[Tensor]:
    if not 0 < len(request.inputs) <= MOST_TENSORS:
        raise Refusal(INVALID, "a request has 1 to %d inputs" % MOST_TENSORS)
    contents = request.raw_input_contents
    if contents and len(contents) != len(request.inputs):
        raise Refusal(INVALID, "%d raw_input_contents for %d inputs" % (len(contents), len(request.inputs)))
    found = []
    for number, each in enumerate(request.inputs):
        name, datatype = each.name[:200], each.datatype
        if datatype not in _FIELDS and datatype not in DATATYPES:
            raise Refusal(INVALID, "input %s: no datatype %s" % (name, ascii(datatype)[:30]))
        shape = numbers.shape(list(each.shape), name)
        kserve.check_shared(_parameters(each.parameters), name)
        if contents:
            if each.HasField("contents"):
                raise Refusal(INVALID, "input %s has contents and raw_input_contents" % name)
            found.append(kserve.tensor(name, datatype, shape, contents[number]))
        else:
            found.append(_typed(each, name, datatype, shape))
    return found


def _typed(each: Any, name: str, datatype: str, shape: Any) -> Tensor:
    """A tensor in the field of its type."""
    field = _FIELDS.get(datatype)
    if field is None:
        raise Refusal(INVALID, "input %s: %s comes in raw_input_contents alone" % (name, datatype))
    others = [other.name for other, _ in each.contents.ListFields() if other.name != field]
    if others:
        raise Refusal(
            INVALID, "input %s is %s, whose elements are in %s, not in %s" % (name, datatype, field, others[0])
        )
    values = getattr(each.contents, field)
    if datatype == BYTES:
        if len(values) != numbers.elements(shape, name):
            raise Refusal(INVALID, "input %s: %d elements, and not as many in its shape" % (name, len(values)))
        return Tensor(name, BYTES, shape, list(values))
    wanted = np.dtype(DATATYPES[datatype])
    array = np.array(values, np.float64 if wanted.kind == "f" else None)
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise Refusal(INVALID, "input %s is %s: from %d to %d" % (name, datatype, limits.min, limits.max))
    return Tensor(name, datatype, shape, numbers.fit(array.astype(wanted), shape, name))


async def _stream_infer(inquiry: Inquiry, request: Any) -> Any:
    """An answer of a stream; an error is its text. Each is the last one to its request, as Triton's clients ask."""
    try:
        inquiry.desk.rates.take(inquiry.metadata)
        answer = await _infer(inquiry, request)
        answer.parameters[_FINAL].bool_param = True
        return pb.StreamResponse(infer_response=answer)
    except Refusal as refusal:
        inquiry.call.kind, inquiry.call.text = refusal.kind, str(refusal)
    except Exception as error:
        inquiry.call.kind, inquiry.call.text = INTERNAL, repr(error)[:1000]
    reply = pb.StreamResponse(error_message=inquiry.call.text)
    reply.infer_response.id = request.id
    reply.infer_response.parameters[_FINAL].bool_param = True
    return reply


async def _health(inquiry: Inquiry, request: Any) -> Any:
    """Of the whole server, or of one of its services: they are ready together."""
    if request.service not in ("", *SERVICES):
        raise Refusal(NOT_FOUND, "no service %s" % ascii(request.service)[:60])
    return pb.HealthResponse(status=_SERVING if await kserve.ready(inquiry.desk.plane) else _NOT_SERVING)


def health() -> Service:
    """gRPC's own health checking protocol."""
    return Service("grpc.health.v1.Health", "grpc-health", {"Check": (_health, pb.HealthRequest, pb.HealthResponse)})


def service() -> Service:
    """The service."""
    return Service(
        "inference.GRPCInferenceService",
        "kserve-grpc",
        {
            "ServerLive": (_live, pb.Empty, pb.Live),
            "ServerReady": (_ready, pb.Empty, pb.Ready),
            "ServerMetadata": (_server, pb.Empty, pb.ServerMetadata),
            "ModelReady": (_model_ready, pb.ModelRequest, pb.Ready),
            "ModelMetadata": (_metadata, pb.ModelRequest, pb.ModelMetadata),
            "ModelConfig": (_config, pb.ModelRequest, pb.ModelConfigResponse),
            "ModelStatistics": (_statistics, pb.ModelRequest, pb.ModelStatisticsResponse),
            "ModelInfer": (_infer, pb.InferRequest, pb.InferResponse),
            "RepositoryIndex": (_index, pb.IndexRequest, pb.IndexResponse),
            "RepositoryModelLoad": (_load, pb.LoadRequest, pb.Empty),
            "RepositoryModelUnload": (_unload, pb.LoadRequest, pb.Empty),
        },
        {"ModelStreamInfer": (_stream_infer, pb.InferRequest, pb.StreamResponse)},
        {"ModelInfer": _infer_bytes},
    )
