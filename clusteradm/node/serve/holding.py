"""Holding of an engine: the models on one Edge TPU, or on the CPU, of which one runs at a time."""

import contextlib
import os
import threading
import time
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu import operators
from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.serve.loaded import Loaded, about
from clusteradm.node.serve.plane import DATATYPES
from clusteradm.node.spec.wire.manifest import MODEL, Tensor

_TYPES = frozenset(DATATYPES.values())
# In the place of a version's key, while one is tried.
LOADING = 0xFFFFFFFF
_TIMED = 3  # inferences
# Bounds of a batch: rows; seconds of its inference, which whoever comes meanwhile waits for; its share of the time that
# its halves would take, above which it is not worth the wait.
_MOST_ROWS, _MOST_SECONDS, _WORTH = 32, 0.05, 0.95
_CALL_ONCE, _VAR_HANDLE = 129, 142
_VARIABLES = operators.KEEP_STATE | {_CALL_ONCE, _VAR_HANDLE}


class Holding:
    """Loaded versions by key. `load` may run in a thread beside `run`: the model that is loaded takes turns with those
    that serve, for one inference each."""

    def __init__(
        self,
        pci_address: Optional[str],
        begin: Callable[[int], None] = lambda key: None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """`begin` is called with the key before every inference, `end` after it."""
        self._pci_address = pci_address
        self._begin, self._end = begin, end
        self._engines: Dict[int, Engine] = {}
        self._turn = threading.Lock()
        self.path: Optional[str] = None
        self.version = ""

    def load(self, key: int, name: str, version: int, folder: str) -> Loaded:
        """Load the version in this folder, warm it up, and measure it. Raises TpuError, OSError."""
        with open(os.path.join(folder, MODEL), "rb") as file:
            model = file.read()
        started = time.perf_counter()
        engine = Engine(model, self._pci_address)
        inputs = _tensors(engine.inputs)
        with self._running(LOADING):
            if not engine.warm_up():
                raise TpuError("inference fails on whatever it is tried with")
        outputs = _tensors(engine.outputs, self._shapes(engine))
        seconds = min(self._timed(engine) for _ in range(_TIMED))
        batches = self._batches(engine, seconds) if engine.takes_rows else 1
        swap = 0.0
        if self._engines and self._pci_address is not None:
            swap = self._swap_seconds(engine, next(iter(self._engines.values())))
        loaded = replace(
            about(folder, key, name, version),
            inputs=inputs,
            outputs=outputs,
            load_seconds=time.perf_counter() - started,
            seconds=seconds,
            swap_seconds=swap,
            batches=batches,
            stateless=not operators.numbers(model) & _VARIABLES,
        )
        self.path, self.version = engine.path, engine.version
        self._engines[key] = engine
        return loaded

    def unload(self, key: int) -> None:
        """Let go of a version."""
        self._engines.pop(key, None)

    def run(self, key: int, inputs: Sequence[Any]) -> List[Any]:
        """One inference. Raises InferenceError, TpuError."""
        engine = self._engines[key]
        with self._turn:
            self._begin(key)
            try:
                return engine.invoke(*inputs)
            finally:
                self._end()

    @contextlib.contextmanager
    def _running(self, key: int) -> Iterator[None]:
        with self._turn:
            self._begin(key)
            try:
                yield
            finally:
                self._end()

    def _shapes(self, engine: Engine) -> List[Tuple[int, ...]]:
        """The shapes of the outputs as an inference makes them: some models leave them open until then."""
        tensors = [np.zeros(each["shape"], each["dtype"]) for each in engine.inputs]
        with self._running(LOADING):
            try:
                return [tuple(output.shape) for output in engine.invoke(*tensors)]
            except InferenceError:  # zeros may be nothing for it
                return [tuple(int(n) for n in each["shape"]) for each in engine.outputs]

    def _batches(self, engine: Engine, seconds: float) -> int:
        """The most rows of one inference: as long as more of them save time, and it takes no longer than is bearable
        for those that wait."""
        rows, took = 1, seconds
        while rows < _MOST_ROWS:
            again = min(self._timed(engine, 2 * rows) for _ in range(_TIMED))
            if again > _MOST_SECONDS or again > _WORTH * 2 * took:
                break
            rows, took = 2 * rows, again
        self._timed(engine)  # and back to one
        return rows

    def _timed(self, engine: Engine, rows: int = 0) -> float:
        """Seconds of an inference on zeros. `rows`: 0 for the model's own shape."""
        shapes = [(rows, *each["shape"][1:]) if rows else each["shape"] for each in engine.inputs]
        tensors = [np.zeros(shape, each["dtype"]) for shape, each in zip(shapes, engine.inputs)]
        with self._running(LOADING):
            return _seconds(engine, tensors)

    def _swap_seconds(self, engine: Engine, other: Engine) -> float:
        """What the first inference after another model takes more than the one after: 0 where both fit the chip."""
        tensors = [np.zeros(each["shape"], each["dtype"]) for each in engine.inputs]
        others = [np.zeros(each["shape"], each["dtype"]) for each in other.inputs]
        with self._running(LOADING):
            _seconds(other, others)
            first = _seconds(engine, tensors)
            return max(0.0, first - _seconds(engine, tensors))


def _seconds(engine: Engine, tensors: Sequence[Any]) -> float:
    started = time.perf_counter()
    with contextlib.suppress(InferenceError):  # zeros may be nothing for it
        engine.invoke(*tensors)
    return time.perf_counter() - started


def _tensors(details: Sequence[Dict[str, Any]], shapes: Sequence[Tuple[int, ...]] = ()) -> Tuple[Tensor, ...]:
    """What the engine says of its inputs or outputs; `shapes`: where it is known better. Raises TpuError for what no
    protocol can carry."""
    found: List[Tensor] = []
    for number, each in enumerate(details):
        dtype = np.dtype(each["dtype"]).name
        if dtype not in _TYPES:
            raise TpuError("the tensor %s is of %s, which no protocol here carries" % (each["name"], dtype))
        scale, zero = each["quantization"]
        name = str(each["name"]) or "tensor_%d" % number
        if any(name == other.name for other in found):
            name = "%s_%d" % (name, number)
        shape = shapes[number] if shapes else tuple(int(n) for n in each["shape"])
        found.append(Tensor(name, shape, dtype, float(scale) or None, int(zero)))
    return tuple(found)
