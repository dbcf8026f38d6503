"""Reader of one model's outputs."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from clusteradm.node.edgetpu.tasks import detect, pose, segment, tensors, yolo
from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.edgetpu.tasks.numbers import best, levels, plain, real, rounded
from clusteradm.node.edgetpu.tasks.tensors import Keep
from clusteradm.node.spec import answers, feeding, reading
from clusteradm.node.spec.wire.manifest import CLASSIFIER, EMBEDDING, RAW, SEGMENTATION, Feed

TOP = 5  # classes of a result
_FEW = 2000  # numbers: of up to 300 objects, or of the classes of a map


class Reader:
    """What one model's outputs say, by task; made once per model, for any number of threads.

    `outputs`, `input`: what an interpreter says of them (get_output_details(), and one of get_input_details()).
    `task`: one of TASKS of node/spec/wire/manifest.py, or RAW; None for a classifier if it looks like one, else RAW.
    `threshold`: the least score of an answer; `top`: classes of a classifier's result; `labels`: of the classes;
    `feed`: how pictures are fed, in which a fit of None is the usual one of the model's kind.

    Raises NoReading where the outputs are not those of a model for the task.
    """

    def __init__(
        self,
        outputs: Sequence[Dict[str, Any]],
        input: Dict[str, Any],
        task: Optional[str] = None,
        *,
        threshold: Optional[float] = None,
        top: int = TOP,
        labels: Sequence[str] = (),
        feed: Optional[Feed] = None,
    ) -> None:
        self._details = list(outputs)
        self._threshold, self._top, self._labels = threshold, top, labels
        shape = [int(size) for size in input["shape"]]
        given = [tensors.about(one) for one in outputs]
        self._reading = reading.find(task, shape, given, feed)
        # Of a classifier of 8 bits, known once for all results.
        self._levels = levels(outputs[self._reading.places[0]], threshold) if self.task == CLASSIFIER else None
        # How a picture is brought to the input's size: what the pre-processing has to do.
        self.fit = (feed.fit if feed else None) or self._reading.fit

    @property
    def task(self) -> str:
        """One of TASKS, or RAW."""
        return self._reading.task

    @property
    def numbers(self) -> int:
        """About how many numbers a result has, at most: large tensors and maps are in files of their own."""
        sizes = [max(1, feeding.size(tensors.about(one).shape)) for one in self._details]
        kind, places = self._reading.task, self._reading.places
        if kind == RAW:
            return sum(size for size in sizes if size <= tensors.INLINE_NUMBERS)
        if kind == CLASSIFIER:
            return 2 * min(self._top, sizes[places[0]])
        if kind == SEGMENTATION or self._reading.head in (reading.YOLO5, reading.YOLO8):
            return _FEW
        return sum(sizes[place] for place in places)

    def result(
        self, outputs: Sequence[Any], size: Optional[Tuple[int, int]] = None, keep: Optional[Keep] = None
    ) -> Dict[str, Any]:
        """The result that users get, in JSON form, with labels: see node/spec/answers.py.

        `outputs`: the output tensors; `size`: width and height of the picture, upright, None for an input that was none
        (places are then pixels of the input). `keep(name, data)` stores the bytes of a large tensor and returns what
        the result is to call it; without it, all numbers are in the result. Raises ValueError, TypeError or
        OverflowError for outputs that cannot be read so.
        """
        return answers.full(self.short(outputs, size, keep), self._labels)

    def short(
        self, outputs: Sequence[Any], size: Optional[Tuple[int, int]] = None, keep: Optional[Keep] = None
    ) -> Dict[str, Any]:
        """The result in the short form of node/spec/answers.py, without labels. As `result`."""
        try:
            return self._short(outputs, size, keep)
        except IndexError as error:  # an output that is not of the shape that the interpreter told
            raise ValueError(str(error)) from None

    def _short(self, outputs: Sequence[Any], size: Optional[Tuple[int, int]], keep: Optional[Keep]) -> Dict[str, Any]:
        kind = self._reading.task
        if kind == RAW:
            return {
                answers.OUTPUTS: [
                    tensors.output(number, value, self._details[number], keep) for number, value in enumerate(outputs)
                ]
            }
        values = [tensors.writable(outputs[place]) for place in self._reading.places]
        details = [self._details[place] for place in self._reading.places]
        if kind == CLASSIFIER:
            return {answers.TOP: self._classes(values[0], details[0])}
        if kind == EMBEDDING:
            return {answers.VECTOR: plain(real(values[0].reshape(-1), details[0]))}
        sides = self._reading.sides or (1, 1)
        fit = Fit(self.fit, sides, size)
        found: Dict[str, Any] = {answers.SIZE: [fit.width, fit.height]}
        if kind == SEGMENTATION:
            found.update(segment.read(self._reading.head, values[0], details[0], fit, self._threshold, keep))
        elif self._reading.head == reading.BOXES:
            found[answers.OBJECTS] = detect.read(values, details, fit, self._threshold)
        elif self._reading.head in (reading.YOLO5, reading.YOLO8):
            rows = values[0][0].T if self._reading.turned else values[0][0]
            found[answers.OBJECTS] = yolo.read(self._reading.head, rows, details[0], fit, self._threshold, sides)
        else:
            found[answers.POSES] = pose.read(self._reading.head, values, details, fit, self._threshold, sides)
        return found

    def _classes(self, values: Any, details: Dict[str, Any]) -> List[Any]:
        """[class, score] of the best classes."""
        scores = values.reshape(-1)
        order = best(scores, self._top)
        if self._levels is not None and scores.dtype == details["dtype"]:
            known = self._levels
            return [[number, known[n]] for number, n in zip(order.tolist(), scores[order].tolist()) if n in known]
        found = zip(order.tolist(), real(scores[order], details).tolist())
        least = self._threshold
        return [[number, rounded(score)] for number, score in found if least is None or score >= least]
