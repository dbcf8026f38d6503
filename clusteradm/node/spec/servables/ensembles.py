"""Types of ensembles: what flows from step to step, by what the models of the steps take and return.

A picture is UINT8 in the shape [pictures, height, width, channels], boxes are FP32 [boxes, 4] from 0 to 1 in the order
of TensorFlow: ymin, xmin, ymax, xmax.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from clusteradm.node.spec import feeding
from clusteradm.node.spec.datatypes import TEXT
from clusteradm.node.spec.feeding import FLOATS, INTEGERS
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.servables.tables import shown
from clusteradm.node.spec.servables.transforms import described, results
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, Feed, Tensor
from clusteradm.node.spec.wire.servables import (
    CROP,
    DECODE,
    ENSEMBLE,
    MOST_ROWS,
    RESIZE,
    TOP_K,
    Servable,
    Step,
    reference,
)

MOST_DEPTH = 4  # ensembles in each other
_MOST_PIXELS = 64 << 20  # bytes that a step makes
# How a tensor gets into a member.
AS_IT_IS, PICTURE, PIXELS, REAL = "as it is", "picture", "pixels", "real"


class Member(NamedTuple):
    """A model of an ensemble, as far as the ensemble has to know it. `servable`: None for a model; `feed`, `task`: of a
    model; `open`: whether the first dimension is one that a request may choose, whatever the shapes say."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    servable: Optional[Servable] = None
    feed: Optional[Feed] = None
    task: Optional[str] = None
    open: bool = False

    @property
    def rows(self) -> bool:
        """Whether its first dimension counts instances, of which it may be given several, one after the other."""
        tensors = (*self.inputs, *self.outputs)
        return self.servable is None and all(each.shape and each.shape[0] in (1, -1) for each in tensors)


# The member of a reference; raises Problem where there is none.
Find = Callable[[str], Member]


def ensemble(servable: Servable, inputs: Sequence[Tensor], find: Find) -> Tuple[Tensor, ...]:
    """The outputs of an ensemble. Raises Problem, which names the step."""
    known = {each.name: each for each in inputs}
    names = set()
    for step in servable.steps:
        try:
            if step.name in names:
                raise Problem("there is another step of this name")
            names.add(step.name)
            if any(each.name.startswith(step.name + ".") for each in inputs):
                raise Problem("an input of the ensemble is named as an output of this step would be")
            sources = {}
            for name, source in step.inputs.items():
                if source not in known:
                    raise Problem(
                        "its input %s comes from %s, which is not there yet; %s" % (name, shown(source), _there(known))
                    )
                sources[name] = known[source]
            made = _built_in(step, sources) if step.op is not None else _member(step, sources, find(str(step.model)))
            known.update({"%s.%s" % (step.name, each.name): each for each in made})
        except Problem as problem:
            raise Problem("step %s: %s" % (step.name, problem)) from None
    return results(servable, known)


def _there(known: Dict[str, Tensor]) -> str:
    return "there are " + ", ".join(sorted(known)[:20])


def check_circle(name: str, servable: Servable, find: Find, above: Tuple[str, ...] = ()) -> None:
    """Raise Problem for an ensemble that is a member of itself, at whatever depth, or that is nested too deeply."""
    above = (*above, name)
    if len(above) > MOST_DEPTH:
        raise Problem("ensembles in each other, more than %d deep: %s" % (MOST_DEPTH, " -> ".join(above)))
    for step in servable.steps:
        if step.model is None:
            continue
        other = reference(step.model)[0]
        if other in above:
            raise Problem("step %s: it would be a member of itself: %s" % (step.name, " -> ".join((*above, other))))
        try:
            member = find(step.model)
        except Problem as problem:
            raise Problem("step %s: %s" % (step.name, problem)) from None
        if member.servable is not None and member.servable.kind == ENSEMBLE:
            check_circle(other, member.servable, find, above)


def way(source: Tensor, wanted: Tensor, member: Member) -> str:
    """How a tensor becomes an input of a member. Raises Problem."""
    if source.dtype == wanted.dtype and (len(source.shape) != 4 or source.dtype != "uint8"):
        return AS_IT_IS
    if member.servable is None:
        form = InputForm(wanted.dtype, tuple(wanted.shape), wanted.scale, wanted.zero_point, member.feed)
        if source.dtype == TEXT and len(member.inputs) == 1 and _takes_pictures(form):
            return PICTURE
        if source.dtype == "uint8" and _takes_pictures(form) and feeding.takes_pixels(form):
            return PIXELS
        if source.dtype in FLOATS and wanted.quantised:
            return REAL
    if source.dtype == wanted.dtype:
        return AS_IT_IS
    raise Problem("its input %s is %s, and gets %s" % (wanted.name, described(wanted), described(source)))


def _takes_pictures(form: InputForm) -> bool:
    if form.feed is not None and form.feed.pictures is False:
        return False
    try:
        feeding.rule(form)
    except feeding.NoRule:
        return False
    return True


def in_rows(source: Tensor, wanted: Tensor, member: Member) -> bool:
    """Whether the member gets the tensor's rows one after the other. Raises Problem for a shape that does not fit."""
    if source.dtype == TEXT and wanted.dtype != TEXT:  # encoded pictures
        if len(source.shape) != 1:
            raise Problem("pictures are BYTES [1] or [-1], not %s" % described(source))
        if source.shape[0] > 1 and not member.rows:
            raise Problem("%s takes one picture, not %d" % (member.name, source.shape[0]))
        return source.shape[0] != 1 and member.rows
    fits = len(source.shape) == len(wanted.shape)
    several = fits and bool(wanted.shape) and member.rows and source.shape[0] != wanted.shape[0] and not member.open
    pairs = list(zip(source.shape, wanted.shape))[1 if several or member.open else 0 :]
    if not fits or not all(-1 in pair or pair[0] == pair[1] for pair in pairs):
        raise Problem("its input %s is %s, and gets %s" % (wanted.name, described(wanted), described(source)))
    return several


def real(tensor: Tensor) -> Tensor:
    """An output of a member as the next step gets it: quantised numbers as the real ones that they mean."""
    return Tensor(tensor.name, tensor.shape, "float32") if tensor.quantised else tensor


def derived(member: Member, rows: bool) -> List[Tensor]:
    """Outputs that the result of the model's task gives besides: objects of one picture, or the best class of each."""
    if member.servable is not None:
        return []
    first: Tuple[int, ...] = (-1,)
    if member.task == CLASSIFIER and not rows:
        first = (1,)
    scores = [Tensor("scores", first, "float32"), Tensor("classes", first, "int32"), Tensor("labels", first, TEXT)]
    if member.task == CLASSIFIER:
        return scores
    return [Tensor("boxes", (-1, 4), "float32"), *scores] if member.task == DETECTOR and not rows else []


def _member(step: Step, sources: Dict[str, Tensor], member: Member) -> List[Tensor]:
    wanted = {each.name: each for each in member.inputs}
    for name in sources:
        if name not in wanted:
            raise Problem("%s has no input %s; it has %s" % (step.model, shown(name), ", ".join(wanted)))
    missing = [name for name in wanted if name not in sources]
    if missing:
        raise Problem("the input %s of %s gets nothing" % (missing[0], step.model))
    several = []
    for name, source in sources.items():
        way(source, wanted[name], member)
        several.append(in_rows(source, wanted[name], member))
    rows = any(several) or member.open
    first = next((source.shape[:1] for source, one in zip(sources.values(), several) if one or member.open), (1,))
    made = []
    for output in member.outputs:
        shape = (*first, *output.shape[1:]) if rows and member.servable is None else tuple(output.shape)
        made.append(real(Tensor(output.name, shape, output.dtype, output.scale, output.zero_point)))
    own = {each.name for each in made}
    return made + [each for each in derived(member, rows) if each.name not in own]


def _built_in(step: Step, sources: Dict[str, Tensor]) -> List[Tensor]:
    if step.op == TOP_K:
        return _top_k(step, _only(step, sources, "scores"))
    if step.op not in (DECODE, RESIZE, CROP):
        return _threshold(step, sources)
    height, width = step.size or (-1, -1)
    if step.op == DECODE:
        one = _only(step, sources, "data")
        if one.dtype != TEXT or len(one.shape) != 1:
            raise Problem("decode takes pictures as BYTES [1], not %s" % described(one))
        if not step.size and one.shape[0] not in (1, -1):
            raise Problem("pictures of their own sizes are decoded one at a time, not %d: say size" % one.shape[0])
        return [Tensor("picture", (one.shape[0] if step.size else 1, height, width, step.channels), "uint8")]
    if not step.size:
        raise Problem("%s needs size: [HEIGHT, WIDTH]" % step.op)
    one = _only(step, sources, "picture", *(["boxes"] if step.op == CROP else []))
    if one.dtype != "uint8" or len(one.shape) != 4:
        raise Problem("%s takes a picture as UINT8 [1, height, width, channels], not %s" % (step.op, described(one)))
    if step.op == RESIZE:
        return [Tensor("picture", (one.shape[0], height, width, one.shape[3]), "uint8")]
    boxes = sources["boxes"]
    if boxes.dtype not in FLOATS or boxes.shape[-1:] not in ((4,), (-1,)) or len(boxes.shape) not in (2, 3):
        raise Problem("crop takes boxes as FP32 [boxes, 4], not %s" % described(boxes))
    if len(boxes.shape) == 3 and boxes.shape[0] not in (1, -1):
        raise Problem("crop takes the boxes of one picture, not %s" % described(boxes))
    if one.shape[0] not in (1, -1):
        raise Problem("crop takes one picture, not %s" % described(one))
    if not 1 <= step.most <= MOST_ROWS:
        raise Problem("crop needs most: the most boxes, from 1 to %d" % MOST_ROWS)
    if step.most * height * width * max(1, one.shape[3]) > _MOST_PIXELS:
        raise Problem("%d pictures of %dx%d are too much" % (step.most, height, width))
    return [Tensor("picture", (-1, height, width, one.shape[3]), "uint8"), Tensor("boxes", (-1, 4), "float32")]


def _only(step: Step, sources: Dict[str, Tensor], *names: str) -> Tensor:
    """The first of the inputs that the step has to have, and no other."""
    if sorted(sources) != sorted(names):
        raise Problem(
            "%s has the inputs %s, not %s" % (step.op, ", ".join(names), ", ".join(sorted(sources)) or "none")
        )
    return sources[names[0]]


def _top_k(step: Step, scores: Tensor) -> List[Tensor]:
    if not scores.shape or (scores.dtype not in FLOATS and scores.dtype not in INTEGERS):
        raise Problem("top_k takes rows of numbers, not %s" % described(scores))
    last = scores.shape[-1]
    if step.most < 1 or (last > 0 and step.most > last):
        raise Problem("top_k needs most: how many, from 1%s" % (" to %d" % last if last > 0 else ""))
    shape = (*scores.shape[:-1], step.most if last > 0 else -1)
    return [Tensor("scores", shape, scores.dtype), Tensor("indices", shape, "int32")]


def _threshold(step: Step, sources: Dict[str, Tensor]) -> List[Tensor]:
    scores = sources.get("scores")
    if scores is None or scores.dtype not in FLOATS or not _is_list(scores.shape, 1):
        raise Problem("threshold takes scores as FP32 [rows], and besides what else is to be kept of these rows")
    if step.least is None:
        raise Problem("threshold needs least: the least score")
    made = []
    for name, each in sources.items():
        extra = len(each.shape) - len(scores.shape)
        if extra < 0 or not all(-1 in pair or pair[0] == pair[1] for pair in zip(each.shape, scores.shape)):
            raise Problem("%s is %s, and has other rows than scores, %s" % (name, described(each), described(scores)))
        made.append(Tensor(name, (-1, *each.shape[len(scores.shape) :]), each.dtype))
    return made


def _is_list(shape: Tuple[int, ...], most: int) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[0] in (most, -1))
