"""TensorFlow Serving's protocol over HTTP: predict in row and column format, classify, regress, metadata, states."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.serve.fronts import numbers, tfserving
from clusteradm.node.serve.fronts.calls import patience, version_or_label
from clusteradm.node.serve.fronts.exchange import Exchange, HttpError, Reply, json_reply
from clusteradm.node.serve.fronts.limits import MOST_DIMENSIONS, MOST_TENSORS
from clusteradm.node.serve.fronts.tfserving import Spec
from clusteradm.node.serve.plane import BYTES, INVALID, Answer, ModelInfo, Refusal, Tensor, TensorInfo

_TYPES = {
    "BOOL": "DT_BOOL",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    BYTES: "DT_STRING",
}


async def answer(exchange: Exchange) -> Reply:
    """v1/models/NAME[/versions/NUMBER|/labels/LABEL][:VERB|/metadata]"""
    parts = exchange.parts[2:]
    if parts and parts[-1] == "":
        parts = parts[:-1]
    if not parts:
        raise HttpError(404, "v1/models/NAME is a model")
    last, _, verb = parts[-1].partition(":")
    parts = [*parts[:-1], last]
    name, rest = parts[0], parts[1:]
    version: Optional[int] = None
    label: Optional[str] = None
    if rest[:1] == ["versions"] and len(rest) > 1:
        version, wrong = version_or_label(rest[1])
        if wrong is not None:
            raise Refusal(INVALID, "a version is a number; a label is at labels/%s" % wrong)
        rest = rest[2:]
    elif rest[:1] == ["labels"] and len(rest) > 1:
        number, label = version_or_label(rest[1])
        if number is not None:
            raise Refusal(INVALID, "a label is no number; a version is at versions/%d" % number)
        rest = rest[2:]
    exchange.call.model = name
    if not verb and not rest:
        exchange.allow("GET", "HEAD")
        return await _states(exchange, name, version, label)
    if not verb and rest == ["metadata"]:
        exchange.allow("GET", "HEAD")
        return json_reply(_metadata(await exchange.desk.plane.info(name, version, label)))
    work = {"predict": _predict, "classify": _classify, "regress": _regress}.get(verb)
    if rest or work is None:
        raise HttpError(404, "a model has :predict, :classify, :regress and /metadata")
    exchange.allow("POST")
    document = await exchange.json()
    if not isinstance(document, dict):
        raise Refusal(INVALID, "a request is a JSON object")
    deadline, priority = patience(exchange.headers)
    # Now that all of it has come, which may take long.
    version = await exchange.version(name, version, label)
    info = await exchange.desk.plane.info(name, version, label)
    tfserving.check_signature(document.get("signature_name"))
    # The version that the label is now: it may move before the inference.
    return await work(exchange, Spec(name, info.version, None, deadline, priority), info, document)


async def _predict(exchange: Exchange, spec: Spec, info: ModelInfo, document: Dict[str, Any]) -> Reply:
    if ("instances" in document) == ("inputs" in document):
        raise Refusal(INVALID, "a request has either instances (rows) or inputs (columns)")
    if "instances" in document:
        return await _rows(exchange, spec, info, document["instances"])
    return await _columns(exchange, spec, info, document["inputs"])


async def _rows(exchange: Exchange, spec: Spec, info: ModelInfo, instances: Any) -> Reply:
    if not isinstance(instances, list) or not instances:
        raise Refusal(INVALID, "instances is no list with an instance for each row")
    encoded = [_encoded(each) if not info.kind else None for each in instances]
    if any(each is not None for each in encoded):
        if not all(each is not None for each in encoded):
            raise Refusal(INVALID, "either all instances are pictures (b64), or none")
        data = [each for each in encoded if each is not None]
        found, results = await tfserving.pictures(exchange.desk, exchange.call, spec, info, data)
        document = {"predictions": _predictions(found, len(data))}
        if any(each is not None for each in results):
            document["results"] = results
        return json_reply(document, found)
    if not tfserving.rows(info):
        raise Refusal(INVALID, "model %s has no dimension for instances: use inputs" % info.name)
    columns = _turned(instances, info) if isinstance(instances[0], dict) else {_only(info).name: instances}
    found = await tfserving.infer(exchange.desk, exchange.call, spec, _tensors(columns, info), (), True)
    return json_reply({"predictions": _predictions(found, len(instances))}, found)


def _encoded(value: Any) -> Optional[bytes]:
    """The bytes of {"b64": ...}, or of an object with one such value; None for anything else."""
    if isinstance(value, dict) and len(value) == 1:
        name, inner = next(iter(value.items()))
        if name == "b64":
            return numbers.decoded(inner, "b64")
        if isinstance(inner, dict) and len(inner) == 1 and "b64" in inner:
            return numbers.decoded(inner["b64"], name[:100])
    return None


def _turned(instances: List[Any], info: ModelInfo) -> Dict[str, Any]:
    """Rows of objects as columns. Raises Refusal."""
    names = list(instances[0])
    columns: Dict[str, Any] = {tfserving.full_name(name, info.inputs, info.name): [] for name in names[:MOST_TENSORS]}
    for number, each in enumerate(instances):
        if not isinstance(each, dict) or (list(each) != names and set(each) != set(names)):
            raise Refusal(INVALID, "instance %d does not have the same names as the first" % number)
        for name in names[:MOST_TENSORS]:
            columns[tfserving.full_name(name, info.inputs, info.name)].append(each[name])
    return columns


def _only(info: ModelInfo) -> TensorInfo:
    if len(info.inputs) != 1:
        names = ", ".join(each.name for each in info.inputs)
        raise Refusal(INVALID, "model %s has several inputs: give each by its name (%s)" % (info.name, names))
    return info.inputs[0]


def _tensors(columns: Dict[str, Any], info: ModelInfo) -> List[Tensor]:
    found = []
    for each in info.inputs:
        if each.name in columns:
            given = columns[each.name]
            if each.datatype == BYTES:
                texts, sizes = _texts(given, each.name)
                found.append(Tensor(each.name, BYTES, sizes, texts))
                continue
            values = numbers.array(given, each.datatype, each.name)
            found.append(Tensor(each.name, each.datatype, tuple(values.shape), values))
    return found


def _texts(given: Any, name: str) -> Tuple[List[bytes], Tuple[int, ...]]:
    """The elements of texts or b64 objects in lists, and their shape; of one without a list, that of a list of it."""
    level = given if isinstance(given, list) else [given]
    sizes = [len(level)]
    while level and isinstance(level[0], list):
        if len(sizes) >= MOST_DIMENSIONS or not all(isinstance(e, list) and len(e) == len(level[0]) for e in level):
            raise Refusal(INVALID, "input %s: its lists have different lengths, or are too deep" % name)
        sizes.append(len(level[0]))
        level = [inner for each in level for inner in each]
    found = []
    for each in level:
        data = _encoded(each)
        if data is None and not isinstance(each, str):
            raise Refusal(INVALID, "input %s is a list of texts" % name)
        found.append(data if data is not None else each.encode("utf-8"))
    return found, tuple(sizes)


def _nested(values: List[str], shape: Sequence[int]) -> Any:
    """A list in the shape of a tensor."""
    for size in reversed(shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)] if size else []  # type: ignore[misc]
    return values if shape else values[0]


async def _columns(exchange: Exchange, spec: Spec, info: ModelInfo, inputs: Any) -> Reply:
    encoded = _pictures(inputs) if not info.kind else []
    results: List[Any] = []
    if encoded:
        found, results = await tfserving.pictures(exchange.desk, exchange.call, spec, info, encoded)
    else:
        if isinstance(inputs, dict):
            columns = {tfserving.full_name(name, info.inputs, info.name): value for name, value in inputs.items()}
        else:
            columns = {_only(info).name: inputs}
        tensors = _tensors(columns, info)
        found = await tfserving.infer(exchange.desk, exchange.call, spec, tensors, (), tfserving.rows(info))
    values = {each.name: _values(each) for each in found.outputs}
    document: Dict[str, Any] = {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if any(each is not None for each in results):
        document["results"] = results
    return json_reply(document, found)


def _pictures(inputs: Any) -> List[bytes]:
    """The pictures of inputs in column format: one, a list, or either by the name of the input; none of numbers."""
    if isinstance(inputs, dict) and len(inputs) == 1 and "b64" not in inputs:
        inputs = next(iter(inputs.values()))
    one = _encoded(inputs)
    if one is not None:
        return [one]
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        found = [_encoded(each) for each in inputs]
        return [each for each in found if each is not None] if all(each is not None for each in found) else []
    return []


def _values(tensor: Tensor) -> Any:
    """An output as nested lists, of which orjson makes JSON by itself where they are an array."""
    if tensor.datatype == BYTES:
        return _nested([each.decode("utf-8", "replace") for each in tensor.data], tensor.shape)
    values = np.ascontiguousarray(tensor.data).reshape(tensor.shape)
    values = values.astype(np.float32) if values.dtype == np.float16 else values
    return values if values.ndim else values.item()


def _predictions(found: Answer, count: int) -> Any:
    """One prediction a row: a value where the model has one output, else an object. Raises Refusal."""
    for each in found.outputs:
        if not each.shape or each.shape[0] != count:
            raise Refusal(INVALID, "output %s has no dimension for instances: use inputs" % each.name)
    if len(found.outputs) == 1:
        return _values(found.outputs[0])
    columns = {each.name: _values(each) for each in found.outputs}
    return [{name: _plain(values[row]) for name, values in columns.items()} for row in range(count)]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


async def _classify(exchange: Exchange, spec: Spec, info: ModelInfo, document: Dict[str, Any]) -> Reply:
    given = _examples(document)
    found, results, _ = await tfserving.examples(exchange.desk, exchange.call, spec, info, given)
    return json_reply({"results": tfserving.classes(found, results, info)}, found)


async def _regress(exchange: Exchange, spec: Spec, info: ModelInfo, document: Dict[str, Any]) -> Reply:
    found, _, _ = await tfserving.examples(exchange.desk, exchange.call, spec, info, _examples(document))
    return json_reply({"results": tfserving.values(found, info)}, found)


def _examples(document: Dict[str, Any]) -> List[Dict[str, Any]]:
    given, context = document.get("examples"), document.get("context", {})
    if not isinstance(given, list) or not isinstance(context, dict) or not all(isinstance(e, dict) for e in given):
        raise Refusal(INVALID, "examples is no list of objects with a feature for each input")
    return [{name: _feature(name, value) for name, value in {**context, **each}.items()} for each in given]


def _feature(name: str, value: Any) -> Any:
    data = _encoded(value) if isinstance(value, dict) else None
    if data is not None:
        return data
    if isinstance(value, (dict, str)) or value is None:
        raise Refusal(INVALID, "feature %s is neither numbers nor b64" % name[:100])
    return value


async def _states(exchange: Exchange, name: str, version: Optional[int], label: Optional[str]) -> Reply:
    if label is not None:
        version = (await exchange.desk.plane.info(name, None, label)).version
    found = tfserving.states(await exchange.desk.plane.states(name), name, version)
    states = []
    for each in found:
        _, code, text = tfserving.status(each)
        status = {"error_code": code, "error_message": text}
        states.append({"version": str(each.version), "state": each.state, "status": status})
    return json_reply({"model_version_status": states})


def _metadata(info: ModelInfo) -> Dict[str, Any]:
    signature = {
        "inputs": {each.name: _described(each) for each in info.inputs},
        "outputs": {each.name: _described(each) for each in info.outputs},
        "method_name": tfserving.METHOD,
    }
    return {
        "model_spec": {"name": info.name, "signature_name": "", "version": str(info.version)},
        "metadata": {"signature_def": {"signature_def": {tfserving.SIGNATURE: signature}}},
    }


def _described(tensor: TensorInfo) -> Dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in tensor.shape]
    return {
        "name": tensor.name,
        "dtype": _TYPES.get(tensor.datatype, "DT_" + tensor.datatype),
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
    }
