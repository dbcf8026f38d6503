"""Ensemble at work: its steps, each as soon as what it needs is there, and only those that the wanted outputs need."""

import asyncio
from concurrent.futures import Executor
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from clusteradm.node.edgetpu.tensors import BadInput, Preprocessor
from clusteradm.node.serve.link import CPU
from clusteradm.node.serve.plane import (
    BYTES,
    INTERNAL,
    INVALID,
    MOST_ROWS,
    NOT_FOUND,
    UNAVAILABLE,
    Answer,
    Refusal,
    Request,
    Tensor,
)
from clusteradm.node.serve.servables.link import Given
from clusteradm.node.serve.servables.members import member as member_of
from clusteradm.node.serve.servables.work import Arrays, texts
from clusteradm.node.spec.datatypes import TEXT, datatype_of
from clusteradm.node.spec.servables import ensembles
from clusteradm.node.spec.servables.ensembles import PICTURE, PIXELS, REAL, Member
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire import manifest
from clusteradm.node.spec.wire.manifest import CLASSIFIER
from clusteradm.node.spec.wire.servables import Step, reference

_DERIVED = ("boxes", "scores", "classes", "labels")


class Part(NamedTuple):
    """What a step, or the whole, gave, and where; times in seconds."""

    outputs: Arrays
    devices: Tuple[str, ...] = ()
    simulated: bool = False
    queued: float = 0.0
    seconds: float = 0.0


class Surroundings:
    """What an ensemble asks."""

    executor: Executor

    async def ask(self, entry: Any, step: Optional[int], inputs: Arrays, request: Request) -> Given:
        """A step that is built in. Raises Refusal."""
        raise NotImplementedError

    async def member(self, request: Request, entry: Any, above: Tuple[str, ...]) -> Answer:
        """A step that is a model. Raises Refusal."""
        raise NotImplementedError

    def find(self, name: str, version: Optional[int], label: Optional[str]) -> Any:
        """The version of a model. Raises Refusal."""
        raise NotImplementedError


class Ensemble:
    """One request. `above`: the ensembles in which this one is, itself the last."""

    def __init__(self, around: Surroundings, entry: Any, request: Request, above: Tuple[str, ...]) -> None:
        self._around, self._entry, self._request, self._above = around, entry, request, above
        self._servable = entry.loaded.servable
        self._values: Arrays = {}
        self._parts: List[Part] = []
        self._needed: Set[str] = set()

    async def run(self, inputs: Arrays) -> Part:
        """The outputs. Raises Refusal, which names the step."""
        self._values = dict(inputs)
        wanted = {name: self._servable.results[name] for name in self._request.outputs or self._servable.results}
        self._needed = set(wanted.values())
        steps: List[Tuple[int, Step]] = []
        for number, step in reversed(list(enumerate(self._servable.steps))):
            if any(source.partition(".")[0] == step.name and "." in source for source in self._needed):
                self._needed.update(step.inputs.values())
                steps.append((number, step))
        tasks: Dict[str, "asyncio.Future[None]"] = {}
        for number, step in reversed(steps):
            before = [
                tasks[name] for name in {source.partition(".")[0] for source in step.inputs.values()} if name in tasks
            ]
            tasks[step.name] = asyncio.ensure_future(self._after(before, number, step))
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
        parts = self._parts
        return Part(
            {name: self._values[source] for name, source in wanted.items()},
            tuple(device for part in parts for device in part.devices),
            any(part.simulated for part in parts),
            sum(part.queued for part in parts),
        )

    async def _after(self, before: Sequence["asyncio.Future[None]"], number: int, step: Step) -> None:
        for task in before:
            await asyncio.shield(task)
        try:
            part = await self._step(number, step)
        except Refusal as refusal:
            # What is not there is no fault of this request's name.
            kind = UNAVAILABLE if refusal.kind == NOT_FOUND else refusal.kind
            raise Refusal(kind, "step %s: %s" % (step.name, refusal), refusal.retry_after) from None
        except Problem as problem:
            raise Refusal(INVALID, "step %s: %s" % (step.name, problem)) from None
        self._parts.append(part)
        self._values.update({"%s.%s" % (step.name, name): value for name, value in part.outputs.items()})

    async def _step(self, number: int, step: Step) -> Part:
        inputs = {name: self._values[source] for name, source in step.inputs.items()}
        if step.op is not None:
            done = await self._around.ask(self._entry, number, inputs, self._request)
            return Part(done.outputs, (CPU,), False, done.queued, done.seconds)
        entry = self._around.find(*reference(str(step.model)))
        member = member_of(entry.loaded)
        given = {each.name: _tensor(each.name, inputs[each.name]) for each in member.inputs if each.name in inputs}
        if len(given) < len(member.inputs):
            raise Problem("%s has other inputs than when this was deployed" % step.model)
        rows = [ensembles.in_rows(given[each.name], each, member) for each in member.inputs]
        derived = [each.name for each in ensembles.derived(member, any(rows) or member.open)]
        derived = [name for name in derived if "%s.%s" % (step.name, name) in self._needed]
        counts = [one or member.open or each.shape[:1] == (-1,) for one, each in zip(rows, member.inputs)]
        if any(counted and not len(inputs[each.name]) for counted, each in zip(counts, member.inputs)):
            return Part(_nothing(member, derived))
        for one, each in zip(rows, member.inputs):
            if (one or member.open) and len(inputs[each.name]) > MOST_ROWS:
                raise Problem("%d instances, more than %d" % (len(inputs[each.name]), MOST_ROWS))
        tensors, picture = await self._fed(member, given, inputs)
        request = Request(
            entry.loaded.name,
            tensors,
            entry.loaded.version,
            id=self._request.id,
            deadline=self._request.deadline,
            priority=self._request.priority,
            answer=picture and bool(derived),
            rows=any(rows),
        )
        answer = await self._around.member(request, entry, self._above)
        outputs = {each.name: _array(each) for each in answer.outputs}
        made = _results(entry.signature, member, outputs, answer, derived) if derived else {}
        made.update({each.name: _real(outputs[each.name], each) for each in member.outputs})
        return Part(made, tuple(answer.device.split(",")), answer.simulated, answer.queued_seconds, answer.seconds)

    async def _fed(
        self, member: Member, given: Dict[str, manifest.Tensor], inputs: Arrays
    ) -> Tuple[List[Tensor], bool]:
        """The tensors of a member's request, and whether they are an encoded picture. Raises Problem, Refusal."""
        found: List[Tensor] = []
        picture = False
        for each in member.inputs:
            value = inputs[each.name]
            kind = ensembles.way(given[each.name], each, member)
            if kind == PICTURE:
                picture = True
            elif kind in (PIXELS, REAL):
                work = self._around.executor
                value = await asyncio.get_event_loop().run_in_executor(work, _converted, value, each, member)
            if value.dtype == object:
                found.append(Tensor(each.name, BYTES, tuple(value.shape), value.ravel().tolist()))
            else:
                found.append(Tensor(each.name, datatype_of(value.dtype.name), tuple(value.shape), value))
        return found, picture


def _tensor(name: str, value: Any) -> manifest.Tensor:
    return manifest.Tensor(name, tuple(value.shape), TEXT if value.dtype == object else value.dtype.name)


def _array(tensor: Tensor) -> Any:
    return texts(tensor.data, tensor.shape) if tensor.datatype == BYTES else np.asarray(tensor.data)


def _converted(value: Any, wanted: manifest.Tensor, member: Member) -> Any:
    """Pixels, or real numbers, as an input of a model takes them. Raises Refusal."""
    shape = (1, *wanted.shape[1:])
    details = {
        "name": wanted.name,
        "shape": shape if len(value) != wanted.shape[0] else wanted.shape,
        "dtype": wanted.dtype,
        "quantization": (wanted.scale or 0.0, wanted.zero_point),
    }
    feed = Preprocessor(details, member.feed)
    rows = [value] if value.shape == tuple(details["shape"]) else [each[None] for each in value]
    try:
        return np.concatenate([feed.tensor(each.tobytes(), [each.dtype.name, list(each.shape)]) for each in rows])
    except BadInput as error:
        raise Refusal(INVALID, "its input %s: %s" % (wanted.name, error)) from None


def _real(value: Any, tensor: manifest.Tensor) -> Any:
    """Quantised numbers as the real ones that they mean."""
    if not tensor.quantised:
        return value
    return ((value.astype(np.float64) - tensor.zero_point) * (tensor.scale or 1.0)).astype(np.float32)


def _nothing(member: Member, derived: Sequence[str]) -> Arrays:
    """The outputs of no rows."""
    found: Arrays = {}
    for each in [*map(ensembles.real, member.outputs), *ensembles.derived(member, True)]:
        if each.name not in _DERIVED or each.name in derived or each.name not in found:
            shape = (0, *(max(0, size) for size in each.shape[1:]))
            found.setdefault(each.name, np.empty(shape, object if each.dtype == TEXT else each.dtype))
    return found


def _results(signature: Any, member: Member, outputs: Arrays, answer: Answer, derived: Sequence[str]) -> Arrays:
    """What the result of the model's task says: of each row the best class, or the objects of the one picture.

    Raises Refusal.
    """
    ordered = [outputs[each.name] for each in member.outputs]
    if member.task == CLASSIFIER:
        count = len(ordered[0])
        found = [signature.result([each[n : n + 1] for each in ordered], None, {"top": 1}) for n in range(count)]
        tops = [each["top"][0] if each and each.get("top") else {"class": -1, "score": 0.0} for each in found]
        return _lists(tops, derived)
    result = answer.result if answer.result is not None else signature.result(ordered, None, {})
    if not result or "objects" not in result:
        raise Refusal(INTERNAL, "its outputs are not those of a detector")
    objects = sorted(result["objects"], key=lambda each: -(each["score"] or 0.0))
    width, height = result["size"]
    made = _lists(objects, derived)
    if "boxes" in derived:
        boxes = np.array([each["box"] for each in objects], np.float64).reshape(-1, 4)
        made["boxes"] = (boxes[:, [1, 0, 3, 2]] / [height, width, height, width]).astype(np.float32)
    return made


def _lists(found: Sequence[Dict[str, Any]], derived: Sequence[str]) -> Arrays:
    names = [str(each.get("label") or each["class"]).encode("utf-8") for each in found]
    whole: Arrays = {
        "scores": np.array([each["score"] or 0.0 for each in found], np.float32),
        "classes": np.array([each["class"] for each in found], np.int32),
        "labels": texts(names, [len(names)]),
    }
    return {name: value for name, value in whole.items() if name in derived}
