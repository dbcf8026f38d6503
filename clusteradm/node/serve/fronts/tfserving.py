"""What TensorFlow Serving's protocol says, over HTTP and over gRPC alike: rows, examples, states, names of tensors."""

import asyncio
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.serve.fronts import numbers
from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.fronts.limits import MOST_PICTURES
from clusteradm.node.serve.plane import (
    BYTES,
    INVALID,
    NOT_FOUND,
    Answer,
    ModelInfo,
    Refusal,
    Request,
    Tensor,
    TensorInfo,
)
from clusteradm.node.spec.wire.serving import VersionState

# ModelVersionStatus.State; codes of google.rpc.Code.
STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
_OK, _UNKNOWN = (0, "OK"), (2, "UNKNOWN")
SIGNATURE, METHOD = "serving_default", "tensorflow/serving/predict"
_AT_ONCE = 4  # pictures of one request


class Spec(NamedTuple):
    """Which model, and how soon."""

    model: str
    version: Optional[int]
    label: Optional[str]
    deadline: Optional[float]
    priority: int


def check_signature(name: Any) -> None:
    """Raise Refusal for a signature that no model here has."""
    if name not in (None, "", SIGNATURE):
        raise Refusal(INVALID, "no signature %s: a model here has only %s" % (ascii(name)[:60], SIGNATURE))


def rows(info: ModelInfo) -> bool:
    """Whether the first dimension of every input and output counts instances."""
    return all(each.shape and each.shape[0] in (1, -1) for each in (*info.inputs, *info.outputs))


def full_name(given: str, tensors: Sequence[TensorInfo], model: str) -> str:
    """The tensor that a client means: by its name, or by that without what the converter put around it
    ("serving_default_x:0": x), as the signature of a SavedModel has it. Raises Refusal."""
    if any(each.name == given for each in tensors):
        return given
    short = [each.name for each in tensors if short_name(each.name) == given]
    if len(short) == 1:
        return short[0]
    names = ", ".join(each.name for each in tensors)
    raise Refusal(INVALID, "model %s has no tensor %s, but %s" % (model, ascii(given)[:100], names))


def short_name(name: str) -> str:
    """The name without what the converter put around it."""
    name = name[len("serving_default_") :] if name.startswith("serving_default_") else name
    head, _, tail = name.rpartition(":")
    return head if head and tail.isdigit() else name


async def infer(
    desk: Desk, call: Call, spec: Spec, inputs: Sequence[Tensor], outputs: Sequence[str], rows: bool
) -> Answer:
    """One inference; of each row where the model takes one at a time. Raises Refusal."""
    request = Request(
        spec.model,
        inputs,
        spec.version,
        spec.label,
        outputs,
        call.id,
        spec.deadline,
        spec.priority,
        rows=rows,
    )
    return await desk.infer(call, request)


async def pictures(
    desk: Desk, call: Call, spec: Spec, info: ModelInfo, given: Sequence[bytes], outputs: Sequence[str] = ()
) -> Tuple[Answer, List[Any]]:
    """The answers to encoded pictures: their outputs joined, and the result of the model's task for each.

    Raises Refusal.
    """
    if not info.picture:
        raise Refusal(INVALID, "model %s takes no encoded pictures, but %s" % (info.name, _takes(info)))
    if not 0 < len(given) <= MOST_PICTURES:
        raise Refusal(INVALID, "%d pictures; 1 to %d are a request" % (len(given), MOST_PICTURES))
    found: List[Answer] = []

    async def ask(picture: bytes) -> Answer:
        tensor = Tensor(info.inputs[0].name, BYTES, (1,), [picture])
        request = Request(
            spec.model, [tensor], info.version, None, outputs, call.id, spec.deadline, spec.priority, answer=True
        )
        return await desk.infer(call, request)

    for at in range(0, len(given), _AT_ONCE):
        found += await asyncio.gather(*(ask(each) for each in given[at : at + _AT_ONCE]))
    first = found[0]
    joined = [
        Tensor(one.name, one.datatype, (len(found) * one.shape[0], *one.shape[1:]), np.concatenate(parts))
        if one.shape
        else one
        for number, one in enumerate(first.outputs)
        for parts in [[each.outputs[number].data for each in found] if one.shape else []]
    ]
    whole = first._replace(
        outputs=joined,
        queued_seconds=max(each.queued_seconds for each in found),
        seconds=sum(each.seconds for each in found),
    )
    call.answer = whole
    return whole, [each.result for each in found]


def _takes(info: ModelInfo) -> str:
    return ", ".join("%s (%s %s)" % (each.name, each.datatype, list(each.shape)) for each in info.inputs)


Examples = Sequence[Dict[str, Any]]


async def examples(
    desk: Desk, call: Call, spec: Spec, info: ModelInfo, given: Examples
) -> Tuple[Answer, List[Any], List[TensorInfo]]:
    """The answers to examples, whose features are inputs: a list of numbers for each, in row order, or the bytes of a
    picture. Returns what `pictures` does, and what the outputs are. Raises Refusal."""
    if not given:
        raise Refusal(INVALID, "a request without examples")
    values = [value for each in given for value in each.values()]
    if (
        not info.kind
        and values
        and all(isinstance(value, bytes) for value in values)
        and all(len(each) == 1 for each in given)
    ):
        answer, results = await pictures(desk, call, spec, info, values)
        return answer, results, list(info.outputs)
    if not rows(info):
        raise Refusal(INVALID, "model %s takes no examples: its tensors have no dimension for them" % info.name)
    found: Dict[str, List[Any]] = {each.name: [] for each in info.inputs}
    for number, example in enumerate(given):
        named = {full_name(name, info.inputs, info.name): value for name, value in example.items()}
        for each in info.inputs:
            if each.name not in named:
                raise Refusal(INVALID, "example %d has no feature %s" % (number, short_name(each.name)))
            value = named[each.name]
            if each.datatype == BYTES:
                array = numbers.texts(value, each.name)
            elif isinstance(value, bytes) or (isinstance(value, list) and any(isinstance(e, bytes) for e in value)):
                raise Refusal(INVALID, "feature %s is numbers, not bytes" % short_name(each.name))
            else:
                array = numbers.array(value, each.datatype, each.name)
            sizes = tuple(1 if size < 0 else size for size in each.shape[1:])
            found[each.name].append(numbers.fit(array, sizes, each.name))
    inputs = []
    for each in info.inputs:
        whole = np.stack(found[each.name])
        data = whole.ravel().tolist() if each.datatype == BYTES else whole
        inputs.append(Tensor(each.name, each.datatype, tuple(whole.shape), data))
    return await infer(desk, call, spec, inputs, (), True), [], list(info.outputs)


def classes(answer: Answer, results: List[Any], info: ModelInfo) -> List[List[Tuple[str, float]]]:
    """The (label, score) pairs of each example, the best first; the class's number where it has no name. Scores are
    those of the model's task for a picture, else the outputs' own numbers. Raises Refusal."""
    if results and all(each and "top" in each for each in results):
        return [
            [(one.get("label") or str(one["class"]), one["score"] or 0.0) for one in each["top"]] for each in results
        ]
    if len(answer.outputs) != 1 or len(answer.outputs[0].shape) != 2:
        raise Refusal(INVALID, "model %s is no classifier: it does not have one row of scores" % info.name)
    found = []
    for row in np.asarray(answer.outputs[0].data):
        order = np.argsort(-row.astype(np.float64), kind="stable")
        names = info.class_names
        found.append([(names[n] if n < len(names) and names[n] else str(n), float(row[n])) for n in order.tolist()])
    return found


def values(answer: Answer, info: ModelInfo) -> List[float]:
    """One number for each example. Raises Refusal."""
    outputs = answer.outputs
    if len(outputs) != 1 or np.asarray(outputs[0].data).size != outputs[0].shape[0] or outputs[0].datatype[:2] != "FP":
        raise Refusal(INVALID, "model %s does no regression: its output is not one real number" % info.name)
    found: List[float] = np.asarray(outputs[0].data, np.float64).reshape(-1).tolist()
    return found


def states(found: Sequence[VersionState], model: str, version: Optional[int]) -> List[VersionState]:
    """The states of a model's versions, or of one. Raises Refusal."""
    wanted = [each for each in found if version in (None, each.version)]
    if not wanted:
        which = (
            "version %d of model %s" % (version, ascii(model[:100]))
            if version is not None
            else "model %s" % ascii(model[:100])
        )
        raise Refusal(NOT_FOUND, "no %s is served here" % which)
    return sorted(wanted, key=lambda each: -each.version)


def status(state: VersionState) -> Tuple[int, str, str]:
    """The error of a version's state: code, its name, text."""
    code, name = _UNKNOWN if state.reason else _OK
    return code, name, state.reason
