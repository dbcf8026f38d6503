"""KServe's protocol, version 2 (Open Inference Protocol), over HTTP: JSON, and Triton's binary tensor extension."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

import clusteradm
from clusteradm.node.serve.fronts import kserve, numbers
from clusteradm.node.serve.fronts.calls import about, version_or_label
from clusteradm.node.serve.fronts.exchange import BINARY, Exchange, HttpError, Reply, dumps, json_reply, loads
from clusteradm.node.serve.fronts.known import Known
from clusteradm.node.serve.fronts.kserve import parameters_of
from clusteradm.node.serve.fronts.limits import MOST_BODY, MOST_JSON, MOST_TENSORS
from clusteradm.node.serve.plane import BYTES, DATATYPES, INVALID, Answer, Refusal, Request, Tensor

HEADER = "Inference-Header-Content-Length"


class _Wanted(NamedTuple):
    """A requested output. `classes`: the best ones instead of the tensor (Triton's classification extension)."""

    name: str
    binary: bool
    classes: int


async def answer(exchange: Exchange) -> Reply:
    """Any request below /v2."""
    parts = exchange.parts[1:]
    if parts and parts[-1] == "":  # a slash at the end
        parts = parts[:-1]
    if not parts:
        exchange.allow("GET", "HEAD")
        server = {"name": kserve.NAME, "version": clusteradm.__version__, "extensions": list(kserve.EXTENSIONS)}
        return json_reply(server)
    if parts[0] == "health" and len(parts) == 2:
        return await _health(exchange, parts[1])
    if parts == ["models"]:
        exchange.allow("GET", "HEAD")
        index = await kserve.index(exchange.desk.plane, True)
        return json_reply({"models": sorted({each["name"] for each in index})})
    if parts[0] == "models" and len(parts) > 1:
        return await _model(exchange, parts[1:])
    if parts[0] == "repository":
        return await _repository(exchange, parts[1:])
    raise HttpError(404, "nothing is served at %s" % ascii(exchange.call.operation[:200]))


async def _health(exchange: Exchange, what: str) -> Reply:
    exchange.allow("GET", "HEAD")
    if what == "live":
        return json_reply({"live": True})
    if what == "ready":
        ready = await kserve.ready(exchange.desk.plane)
        return json_reply({"ready": ready}, status=200 if ready else 503)
    raise HttpError(404, "health is live or ready, not %s" % ascii(what[:60]))


async def _model(exchange: Exchange, parts: List[str]) -> Reply:
    """NAME[/versions/VERSION][/infer|ready|config|stats]"""
    plane, name, version, label = exchange.desk.plane, parts[0], None, None
    rest = parts[1:]
    if rest[:1] == ["versions"] and len(rest) > 1:
        version, label = version_or_label(rest[1])
        rest = rest[2:]
    exchange.call.model = name
    if name == "stats" and not rest and version is None:
        return json_reply({"model_stats": await kserve.statistics(exchange.desk, None, None)})
    if rest == ["infer"]:
        exchange.allow("POST")
        return await _infer(exchange, name, version, label)
    if rest not in ([], ["ready"], ["config"], ["stats"]):
        text = "a model has infer, ready, config and stats, not %s"
        raise HttpError(404, text % ascii("/".join(rest)[:100]))
    exchange.allow("GET", "HEAD")
    if not rest:
        return json_reply(kserve.metadata(await plane.info(name, version, label)))
    if rest in (["ready"], ["stats"]) and label is not None:
        version = (await plane.info(name, None, label)).version
    if rest == ["ready"]:
        ready = await plane.ready(name, version)
        return json_reply({"name": name, "ready": ready}, status=200 if ready else 503)
    if rest == ["config"]:
        return json_reply(kserve.config(await plane.info(name, version, label)))
    return json_reply({"model_stats": await kserve.statistics(exchange.desk, name, version)})


async def _repository(exchange: Exchange, parts: List[str]) -> Reply:
    exchange.allow("POST")
    if parts == ["index"]:
        body = await exchange.body(MOST_JSON)
        wish = loads(body) if body else {}
        only_ready = isinstance(wish, dict) and wish.get("ready") is True
        return json_reply(await kserve.index(exchange.desk.plane, only_ready))
    if len(parts) == 3 and parts[0] == "models" and parts[2] in ("load", "unload"):
        exchange.call.model = parts[1]
        body = await exchange.body(MOST_JSON)
        wish = loads(body) if body else {}
        kserve.check_load(wish.get("parameters") if isinstance(wish, dict) else None)
        await exchange.desk.plane.load(parts[1], parts[2] == "unload")
        return json_reply({})
    raise HttpError(404, "a repository has index, and models/NAME/load and unload")


async def _infer(exchange: Exchange, name: str, version: Optional[int], label: Optional[str]) -> Reply:
    text = exchange.header(HEADER.lower())
    if text is None:
        header, rest = await exchange.body(MOST_JSON), memoryview(b"")
    else:
        body = await exchange.view(MOST_BODY)
        size = int(text) if text.isdigit() and len(text) < 10 else -1
        if not 0 < size <= len(body):
            raise Refusal(INVALID, "%s: %s, and the body has %d bytes" % (HEADER, ascii(text[:30]), len(body)))
        header, rest = bytes(body[:size]), body[size:]
    # Now that all of it has come, which may take long.
    version = await exchange.version(name, version, label)
    document = loads(header)
    if not isinstance(document, dict):
        raise Refusal(INVALID, "a request is a JSON object with inputs")
    given = parameters_of(document.get("parameters"))
    id = document.get("id", "")
    if not isinstance(id, str) or len(id) > 1000:
        raise Refusal(INVALID, "the id is no text of at most 1000 characters")
    inputs = await _inputs(exchange, document.get("inputs"), rest, name, version, label)
    wanted = _wanted(document.get("outputs"), given.get("binary_data_output") is True)
    deadline, priority = kserve.patience(given, exchange.headers)
    request = Request(
        name,
        inputs,
        version,
        label,
        [each.name for each in wanted],
        id,
        deadline,
        priority,
        given,
        kserve.wants_result(inputs, given),
    )
    found = await exchange.desk.infer(exchange.call, request)
    names = (await exchange.desk.plane.info(name, found.version)).class_names if any(e.classes for e in wanted) else ()
    binary = given.get("binary_data_output") is True
    if exchange.key is not None and _all_bytes(document["inputs"], wanted, binary):
        again = exchange.desk.plane.again(request)
        if again is not None:
            outputs = [_output(each, True)[0] for each in found.outputs]
            exchange.desk.known.keep(exchange.key, Known(name, again, outputs))
    return _reply(found, wanted, binary, names)


def repeated(found: Answer, outputs: List[Dict[str, Any]]) -> Reply:
    """The answer to a known request. `outputs`: as they were described in the first one, all of them as bytes."""
    return _written(found, outputs, [each.data for each in found.outputs])


def _all_bytes(inputs: List[Any], wanted: List[_Wanted], binary: bool) -> bool:
    """Whether all numbers of a request and of its answer are bytes behind the JSON."""
    asked = all("binary_data_size" in parameters_of(each.get("parameters")) for each in inputs)
    return asked and all(each.binary and not each.classes for each in wanted) and (binary or bool(wanted))


async def _inputs(
    exchange: Exchange, given: Any, rest: memoryview, model: str, version: Optional[int], label: Optional[str]
) -> List[Tensor]:
    """The tensors of a request; `rest`: what is behind the JSON. Raises Refusal."""
    if not isinstance(given, list) or not 0 < len(given) <= MOST_TENSORS:
        raise Refusal(INVALID, "inputs is no list of 1 to %d tensors" % MOST_TENSORS)
    found, at = [], 0
    for each in given:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise Refusal(INVALID, "an input is an object with name, shape, datatype and data")
        name, datatype = each["name"][:200], each.get("datatype")
        if datatype != BYTES and datatype not in DATATYPES:
            kinds = ", ".join([*DATATYPES, BYTES])
            raise Refusal(INVALID, "input %s: the datatype %s is none of %s" % (name, ascii(datatype)[:30], kinds))
        sizes = numbers.shape(each.get("shape"), name)
        given_parameters = parameters_of(each.get("parameters"))
        kserve.check_shared(given_parameters, name)
        size = given_parameters.get("binary_data_size")
        if size is not None:
            if type(size) is not int or size < 0 or at + size > len(rest):
                raise Refusal(INVALID, "input %s: binary_data_size is more than there is behind the JSON" % name)
            found.append(kserve.tensor(name, datatype, sizes, rest[at : at + size]))
            at += size
        elif "data" not in each:
            raise Refusal(INVALID, "input %s has neither data nor binary_data_size" % name)
        elif datatype == BYTES:
            picture = (await exchange.desk.plane.info(model, version, label)).picture
            values = _texts(each["data"], name, picture)
            if len(values) != numbers.elements(sizes, name):
                raise Refusal(INVALID, "input %s: %d elements, and not as many in its shape" % (name, len(values)))
            found.append(Tensor(name, BYTES, sizes, values))
        else:
            values = numbers.fit(numbers.array(each["data"], datatype, name), sizes, name)
            found.append(Tensor(name, datatype, sizes, values))
    if at != len(rest):
        raise Refusal(INVALID, "%d bytes behind the JSON belong to no input" % (len(rest) - at))
    return found


def _texts(data: Any, name: str, picture: bool) -> List[bytes]:
    """Elements of a BYTES tensor in JSON: text, or {"b64": ...}; of a model that takes pictures, base64 in any case."""
    found: List[bytes] = []
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(reversed(each))
        elif isinstance(each, dict) and set(each) == {"b64"}:
            found.append(numbers.decoded(each["b64"], name))
        elif isinstance(each, str):
            found.append(numbers.decoded(each, name) if picture else each.encode("utf-8"))
        else:
            raise Refusal(INVALID, "input %s is BYTES: texts, or objects with b64" % name)
    return found


def _wanted(given: Any, binary: bool) -> List[_Wanted]:
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > MOST_TENSORS:
        raise Refusal(INVALID, "outputs is no list of at most %d objects" % MOST_TENSORS)
    found = []
    for each in given:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise Refusal(INVALID, "an output is an object with a name")
        wish = parameters_of(each.get("parameters"))
        classes = kserve.classes_of(wish, each["name"])
        found.append(_Wanted(each["name"], wish.get("binary_data", binary) is True, classes))
    return found


def _reply(found: Answer, wanted: List[_Wanted], binary: bool, class_names: Any) -> Reply:
    by_name = {each.name: each for each in wanted}
    outputs: List[Dict[str, Any]] = []
    raw: List[bytes] = []
    for tensor in found.outputs:
        wish = by_name.get(tensor.name, _Wanted(tensor.name, binary, 0))
        one, data = _output(kserve.best(tensor, wish.classes, class_names) if wish.classes else tensor, wish.binary)
        outputs.append(one)
        raw += data
    return _written(found, outputs, raw)


def _written(found: Answer, outputs: List[Dict[str, Any]], raw: List[bytes]) -> Reply:
    document: Dict[str, Any] = {"model_name": found.model, "model_version": str(found.version)}
    if found.id:
        document["id"] = found.id
    document["parameters"] = kserve.answer_parameters(found)
    if found.result is not None:
        document["parameters"]["result"] = found.result
    document["outputs"] = outputs
    if not raw:
        return json_reply(document, found)
    header = dumps(document)
    return Reply(b"".join([header, *raw]), BINARY, 200, [*about(found), (HEADER, str(len(header)))])


def _output(tensor: Tensor, binary: bool) -> Tuple[Dict[str, Any], List[bytes]]:
    """An output in the JSON of an answer, and its bytes behind that."""
    found: Dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if binary:
        data = kserve.raw(tensor)
        found["parameters"] = {"binary_data_size": len(data)}
        return found, [data]
    if tensor.datatype == BYTES:
        found["data"] = [each.decode("utf-8", "replace") for each in tensor.data]
    else:
        values = np.ascontiguousarray(tensor.data).reshape(-1)
        found["data"] = values.astype(np.float32) if values.dtype == np.float16 else values
    return found, []
