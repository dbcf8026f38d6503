"""What KServe's protocol says, over HTTP and over gRPC alike."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from clusteradm.node.serve.fronts import calls, numbers
from clusteradm.node.serve.fronts.calls import Desk
from clusteradm.node.serve.plane import BYTES, INVALID, Answer, ModelInfo, Plane, Refusal, Tensor, TensorInfo
from clusteradm.node.spec.wire.serving import AVAILABLE

NAME = "clusteradm"
PLATFORM, BACKEND = "tensorflowlite_edgetpu", "tensorflowlite"
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
# Triton's numbers of data types, in the order of its DataType.
_TYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
_MOST_PARAMETERS = 64
_MOST_CLASSES = 10000


def parameters_of(given: Any) -> Dict[str, Any]:
    """Parameters of a request, an input or an output. Raises Refusal."""
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > _MOST_PARAMETERS:
        raise Refusal(INVALID, "parameters are an object of at most %d" % _MOST_PARAMETERS)
    return given


def patience(parameters: Mapping[str, Any], headers: Mapping[str, str]) -> Tuple[Optional[float], int]:
    """The deadline and the priority: by Triton's parameters (microseconds), or by our own headers. Raises Refusal."""
    deadline, priority = calls.patience(headers)
    if parameters.get("timeout"):
        deadline = calls.deadline_of(calls.number(parameters["timeout"], "timeout") / 1e6)
    if parameters.get("priority"):
        priority = calls.priority_of(calls.number(parameters["priority"], "priority"))
    return deadline, priority


def wants_result(inputs: Sequence[Tensor], parameters: Mapping[str, Any]) -> bool:
    """Whether the result of the model's task is wanted: for pictures, unless the client says no."""
    wish = parameters.get("result")
    return bool(wish) if wish is not None else any(each.datatype == BYTES for each in inputs)


def answer_parameters(found: Answer) -> Dict[str, Any]:
    """Parameters of an answer: where it comes from, and how long it took."""
    origin: Dict[str, Any] = {"board": found.board, "tpu": found.device}
    if found.simulated:
        origin["simulated"] = True
    return {**origin, **times(found)}


def times(found: Answer) -> Dict[str, int]:
    """Those that differ from one answer to the next."""
    return {"queue_us": int(found.queued_seconds * 1e6), "inference_us": int(found.seconds * 1e6)}


def tensor(name: str, datatype: str, shape: Tuple[int, ...], data: Union[bytes, memoryview]) -> Tensor:
    """A tensor whose bytes came. Raises Refusal."""
    if datatype == BYTES:
        return Tensor(name, datatype, shape, numbers.split(bytes(data), numbers.elements(shape, name), name))
    return Tensor(name, datatype, shape, numbers.raw(data, datatype, shape, name))


def raw(tensor: Tensor) -> bytes:
    """The bytes of a tensor, little endian and in row order."""
    if tensor.datatype == BYTES:
        return numbers.join(tensor.data)
    if isinstance(tensor.data, bytes):
        return tensor.data
    values = np.asarray(tensor.data)
    data: bytes = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return data


def check_shared(parameters: Mapping[str, Any], name: str) -> None:
    """Raise Refusal for a tensor in memory that a client shares with its server."""
    if "shared_memory_region" in parameters:
        raise Refusal(INVALID, "tensor %s: a client shares no memory with the boards: send its bytes" % name[:200])


def classes_of(parameters: Mapping[str, Any], name: str) -> int:
    """How many classes a client wants of an output; 0 for the output itself. Raises Refusal."""
    check_shared(parameters, name)
    value = parameters.get("classification")
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= _MOST_CLASSES:
        raise Refusal(INVALID, "classification is a number of classes up to %d" % _MOST_CLASSES)
    return value


def best(tensor: Tensor, most: int, names: Sequence[str]) -> Tensor:
    """The best classes of each row of an output, as Triton writes them: "SCORE:CLASS:NAME"."""
    if tensor.datatype == BYTES or not tensor.shape:
        raise Refusal(INVALID, "output %s has no classes" % tensor.name)
    rows = np.asarray(tensor.data).reshape(-1, tensor.shape[-1]) if len(tensor.shape) > 1 else [tensor.data]
    found: List[bytes] = []
    for row in rows:
        # Of equal scores the lower class first.
        order = np.argsort(-np.asarray(row, np.float64), kind="stable")[:most]
        for number in order.tolist():
            name = ":" + names[number] if number < len(names) and names[number] else ""
            score = np.asarray(row[number], np.float64)
            found.append(("%f:%d%s" % (score, number, name)).encode("utf-8"))
    return Tensor(tensor.name, BYTES, (*tensor.shape[:-1], min(most, tensor.shape[-1])), found)


async def ready(plane: Plane) -> bool:
    """Whether this board would take a request for any of its models: those that are to be served have come, and an
    engine is ready."""
    state = await plane.board()
    engines = [each for each in state.engines if not each.servables]
    return not state.error and (any(each.state == "ready" for each in engines) or not engines)


def metadata(info: ModelInfo) -> Dict[str, Any]:
    """A model's metadata."""
    return {
        "name": info.name,
        "versions": [str(version) for version in info.versions],
        "platform": info.kind or PLATFORM,
        "inputs": [_described(each) for each in info.inputs],
        "outputs": [_described(each) for each in info.outputs],
        "parameters": {
            "version": str(info.version),
            "labels": {label: str(version) for label, version in info.labels.items()},
            "task": info.task,
            "takes_pictures": info.picture,
            "classes": len(info.class_names),
        },
    }


def _described(tensor: TensorInfo) -> Dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def type_number(datatype: str) -> int:
    """Triton's number of a data type."""
    return _TYPES.index(datatype) + 1 if datatype in _TYPES else 13  # TYPE_STRING


def config(info: ModelInfo) -> Dict[str, Any]:
    """What Triton calls a model's configuration, as far as there is such a thing here."""
    names = [
        "TYPE_" + (each.datatype if each.datatype != BYTES else "STRING") for each in (*info.inputs, *info.outputs)
    ]
    tensors = [
        {"name": each.name, "data_type": name, "dims": list(each.shape)}
        for name, each in zip(names, (*info.inputs, *info.outputs))
    ]
    return {
        "name": info.name,
        "platform": info.kind or PLATFORM,
        "backend": info.kind or BACKEND,
        "max_batch_size": 0,  # the first dimension is in the dims
        "input": tensors[: len(info.inputs)],
        "output": tensors[len(info.inputs) :],
    }


async def index(plane: Plane, only_ready: bool) -> List[Dict[str, str]]:
    """The repository's index: every version that the cluster serves or is to serve; and as of Triton, by its name
    alone, what it could."""
    found, whole = [], await plane.index()
    for each in whole.versions:
        ready = each.state == AVAILABLE
        if ready or not only_ready:
            state = (
                "READY" if ready else {"LOADING": "LOADING", "UNLOADING": "UNLOADING"}.get(each.state, "UNAVAILABLE")
            )
            reason = each.reason
            found.append({"name": each.name, "version": str(each.version), "state": state, "reason": reason})
    if not only_ready:
        for name, reason in sorted(whole.others.items()):
            found.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": reason})
    return found


def check_load(parameters: Any) -> None:
    """Raise Refusal for parameters of a load or unload: a model's files come by deploy-model alone."""
    if parameters_of(parameters).keys() - {"unload_dependents"}:
        raise Refusal(INVALID, "a model is loaded as the repository has it: no parameters (config, file:) are taken")


async def statistics(desk: Desk, name: Optional[str], version: Optional[int]) -> List[Dict[str, Any]]:
    """Triton's statistics, of this board since it began to serve, of one model or of all: also of what is available
    and was not asked so far. Raises Refusal."""
    if name is not None:
        await desk.plane.info(name, version)
    counts = desk.metrics.whole()
    found: Dict[Tuple[str, str], Dict[str, List[float]]] = {
        (each.name, str(each.version)): {}
        for each in await desk.plane.states(name)
        if each.state == AVAILABLE and version in (None, each.version)
    }
    for family in ("request_seconds", "queue_seconds_total", "inference_seconds_total", "inferences_total"):
        for key, values in counts.get(family, {}).items():
            if name in (None, key[0]) and str(version or key[1]) == key[1]:
                one = found.setdefault((key[0], key[1]), {})
                one[family] = [a + b for a, b in zip(one.get(family, [0.0] * len(values)), values)]
    failed: Dict[str, float] = {}
    for (model, _, _, outcome), values in counts.get("requests_total", {}).items():
        if outcome != calls.OK:
            failed[model] = failed.get(model, 0.0) + values[0]
    return [_statistics(key, one, failed.get(key[0], 0.0)) for key, one in sorted(found.items())]


def _statistics(key: Tuple[str, str], one: Dict[str, List[float]], failed: float) -> Dict[str, Any]:
    requests = one.get("request_seconds", [0.0])
    count = int(sum(requests[:-1]))

    def spent(seconds: float, count: int = count) -> Dict[str, int]:
        return {"count": count, "ns": int(seconds * 1e9)}

    queued, computed = one.get("queue_seconds_total", [0.0])[0], one.get("inference_seconds_total", [0.0])[0]
    return {
        "name": key[0],
        "version": key[1],
        "inference_count": count,
        "execution_count": int(one.get("inferences_total", [0.0])[0]),
        "inference_stats": {
            "success": spent(requests[-1]),
            "fail": spent(0.0, int(failed)),
            "queue": spent(queued),
            "compute_input": spent(0.0),
            "compute_infer": spent(computed),
            "compute_output": spent(0.0),
        },
    }
