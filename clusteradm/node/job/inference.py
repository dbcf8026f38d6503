"""Inference thread of a rank: it does nothing but set, invoke and copy, so that the Edge TPU waits for nothing else."""

import threading
import time
from queue import SimpleQueue
from typing import Any, List, NamedTuple, Optional

import numpy as np

from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.job.feeder import AHEAD, Decoded, Source
from clusteradm.node.job.pulse import Pulse

# Answers are handed on together, a part of those that may lie ready, or in so many seconds: to wake a thread for each
# costs more than it has to do. But those of a chunk at its end: rank 0 gives no other before.
_TOGETHER = 4  # of them are all
_HAND_ON_SECONDS = 0.1


class Answer(NamedTuple):
    """What came of an input: the model's outputs, or why there are none. `ended`: by time.perf_counter()."""

    item: Decoded
    outputs: Optional[List[Any]]
    error: Optional[str]
    ended: float


class Inference:
    """The thread. Lists of its answers, in any order of inputs, and what ends it, an exception, go to `into`.

    `batch`: how many inputs the model takes at once; `ahead`: of how many the outputs may lie ready to be made results
    of: more would only cost memory, where a share is slow to take them.
    """

    def __init__(
        self,
        engine: Engine,
        feeder: Source,
        pulse: Pulse,
        into: "SimpleQueue[Any]",
        batch: int = 1,
        ahead: int = AHEAD,
    ) -> None:
        self._engine, self._feeder, self._pulse, self._into = engine, feeder, pulse, into
        self._batch = batch
        self._lot = ahead // _TOGETHER
        self._room: "SimpleQueue[None]" = SimpleQueue()
        self.taken(max(ahead, 2 * batch))
        self.busy = self.wait = self.idle = 0.0  # seconds: of inferences; waiting for input; for another chunk
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def taken(self, count: int) -> None:
        """Say that so many answers have been dealt with."""
        for _ in range(count):
            self._room.put(None)

    def end(self, seconds: float) -> None:
        """End the thread after the inference that is at work, and wait for that for so many seconds at most."""
        self._feeder.end()
        self._room.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            if self._batch > 1:
                self._work_together()
            else:
                self._work()
        except BaseException as error:
            self._into.put(error)

    def _work(self) -> None:
        """Infer until the feeder has ended. Raises TpuError, and what the feeder raises."""
        clock, lot, begun = time.perf_counter, self._lot, False
        answers: List[Answer] = []
        while True:
            if answers and self._feeder.empty():
                self._into.put(answers)
                answers = []
            before = clock()
            idle = self._feeder.idle()
            items = self._feeder.take()
            if items is None:
                return
            waited = clock() - before
            if not idle:  # else it is rank 0 that is waited for
                self.wait += waited
            elif begun:
                self.idle += waited
            begun = True
            for item in items:
                if answers and (
                    len(answers) >= lot
                    or answers[-1].item.chunk != item.chunk
                    or answers[-1].ended - answers[0].ended > _HAND_ON_SECONDS
                ):
                    self._into.put(answers)
                    answers = []
                self._room.get()
                answers.append(self._answer(item))

    def _answer(self, item: Decoded) -> Answer:
        """The answer of an input. Raises TpuError."""
        started = time.perf_counter()
        if item.error is not None:
            return Answer(item, None, item.error, started)
        outputs, error = None, None
        self._pulse.begin(item.input)
        try:
            outputs = self._engine.invoke(*item.tensor if type(item.tensor) is tuple else (item.tensor,))
        except InferenceError as failure:
            error = "the model fails on it: %s" % failure
        finally:
            ended = time.perf_counter()
            self._pulse.end(ended - started)
            self.busy += ended - started
        return Answer(item.done(), outputs, error, ended)

    def _work_together(self) -> None:
        """Infer as `_work` does, several inputs at once: as many as there are, up to the model's number."""
        clock, begun = time.perf_counter, False
        while True:
            before = clock()
            idle = self._feeder.idle()
            items: List[Decoded] = []
            # Those that are on their way are waited for, more from rank 0 are not.
            while not items or (len(items) < self._batch and not self._feeder.idle()):
                item = self._feeder.get()
                if item is None:
                    return
                self._room.get()
                if item.error is not None:
                    self._into.put([Answer(item, None, item.error, clock())])
                else:
                    items.append(item)
            if not idle:
                self.wait += clock() - before
            elif begun:
                self.idle += clock() - before
            begun = True
            self._into.put(self._together(items))

    def _together(self, items: List[Decoded]) -> List[Answer]:
        """The answers of some inputs; where the model fails on them together, each is tried alone. Raises TpuError."""
        started = time.perf_counter()
        tensor = np.zeros((self._batch, *items[0].tensor.shape[1:]), items[0].tensor.dtype)
        for number, item in enumerate(items):
            tensor[number] = item.tensor[0]
        self._pulse.begin(items[0].input)
        try:
            outputs = self._engine.invoke(tensor)
        except InferenceError as failure:
            if len(items) == 1:
                return [Answer(items[0], None, "the model fails on it: %s" % failure, time.perf_counter())]
            outputs = None
        finally:
            ended = time.perf_counter()
            self._pulse.end(ended - started)
            self.busy += ended - started
        if outputs is None:
            return [answer for item in items for answer in self._together([item])]
        return [
            Answer(item.done(), [output[number : number + 1] for output in outputs], None, ended)
            for number, item in enumerate(items)
        ]
