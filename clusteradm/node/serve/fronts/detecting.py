"""Detection for the cameras' programs: which model, and its objects, whatever protocol asks."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.index import Detector
from clusteradm.node.serve.plane import (
    BYTES,
    INVALID,
    NOT_FOUND,
    UNAVAILABLE,
    Answer,
    ModelInfo,
    Refusal,
    Request,
    Tensor,
)
from clusteradm.node.spec.wire.manifest import DETECTOR
from clusteradm.node.spec.wire.serving import LOADING, START


class Found(NamedTuple):
    """An object: its class and the name of that, the score, the box in pixels (xmin, ymin, xmax, ymax)."""

    number: int
    label: str
    score: float
    box: Tuple[float, float, float, float]


class Detection(NamedTuple):
    """Objects of one picture, the best first; `size`: its width and height."""

    answer: Answer
    objects: List[Found]
    size: Tuple[int, int]


async def detectors(desk: Desk) -> List[ModelInfo]:
    """The models that find objects, by name."""
    return [info for info in await desk.models() if info.task == DETECTOR]


async def everywhere(desk: Desk) -> List[Detector]:
    """The same of the whole cluster, as far as the head says what other boards have."""
    found = {each.name: each for each in (await desk.plane.index()).detectors}
    for info in await detectors(desk):
        shape = tuple(info.inputs[0].shape) if info.inputs else ()
        found[info.name] = Detector(info.name, info.version, tuple(info.class_names), shape)
    return [found[name] for name in sorted(found)]


async def choose(desk: Desk, shape: Optional[Sequence[int]] = None) -> ModelInfo:
    """The detector for a request that names none: the first one by its name, of those whose input has this shape where
    one is given. Raises Refusal."""
    known = await detectors(desk)
    if not known:
        raise await none(
            desk, "no model that finds objects is served here (deploy-model --task detector, serve deploy)"
        )
    for info in known:
        if shape is None:
            if info.picture:
                return info
        elif len(info.inputs) == 1 and _fits(info.inputs[0].shape, shape):
            return info
    if shape is None:
        raise await none(desk, "no detector here takes pictures")
    sizes = "; ".join("%s takes %s" % (info.name, list(info.inputs[0].shape)) for info in known[:10] if info.inputs)
    raise Refusal(INVALID, "no detector here takes the shape %s: %s" % (list(shape), sizes))


async def none(desk: Desk, text: str) -> Refusal:
    """Why no model was found for a request that names none: one that is being loaded may be it."""
    for each in await desk.plane.states():
        if each.state in (START, LOADING):
            text = "model %s version %d is not loaded yet, and no other is for this" % (each.name, each.version)
            return Refusal(UNAVAILABLE, text, 1.0)
    return Refusal(NOT_FOUND, text)


def _fits(wanted: Sequence[int], shape: Sequence[int]) -> bool:
    return len(wanted) == len(shape) and all(one in (-1, other) for one, other in zip(wanted, shape))


async def picture(
    desk: Desk,
    call: Call,
    info: ModelInfo,
    data: bytes,
    deadline: Optional[float] = None,
    version: Optional[int] = None,
) -> Detection:
    """The objects in an encoded picture. Raises Refusal."""
    tensor = Tensor(info.inputs[0].name, BYTES, (1,), [data])
    return await ask(desk, call, info, tensor, deadline, version)


async def ask(
    desk: Desk, call: Call, info: ModelInfo, tensor: Tensor, deadline: Optional[float], version: Optional[int] = None
) -> Detection:
    """The objects in a picture, encoded or as the model takes it. Raises Refusal."""
    request = Request(info.name, [tensor], version, None, (), call.id, deadline, answer=True)
    answer = await desk.infer(call, request)
    result: Dict[str, Any] = answer.result or {}
    if "objects" not in result:
        raise Refusal(INVALID, "model %s finds no objects: its task is %s" % (info.name, info.task))
    objects = []
    for each in result["objects"]:
        number = int(each["class"])
        left, top, right, bottom = each["box"]
        label = each.get("label") or str(number)
        objects.append(Found(number, label, float(each["score"] or 0.0), (left, top, right, bottom)))
    objects.sort(key=lambda each: -each.score)
    width, height = result.get("size") or (0, 0)
    return Detection(answer, objects, (int(width), int(height)))
