"""Holding of an engine: the models on one Edge TPU, or on the CPU, of which one runs at a time."""

import os
import threading
import time
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu import operators
from clusteradm.node.edgetpu.engine import Engine
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.serve.loaded import Loaded, about
from clusteradm.node.serve.plane import DATATYPES
from clusteradm.node.spec.wire.manifest import MODEL, Tensor

_TYPES = frozenset(DATATYPES.values())
_CALL_ONCE, _VAR_HANDLE = 129, 142
_VARIABLES = operators.KEEP_STATE | {_CALL_ONCE, _VAR_HANDLE}


class Holding:
    """Loaded versions by key. `load` may run in a thread beside `run`: the model that is loaded takes turns with those
    that serve, for one inference each."""

    def __init__(self, pci_address: Optional[str]) -> None:
        self._pci_address = pci_address
        self._engines: Dict[int, Engine] = {}
        self._turn = threading.Lock()
        self._last: Optional[int] = None
        self.path: Optional[str] = None
        self.version = ""

    def load(self, key: int, name: str, version: int, folder: str) -> Loaded:
        """Load the version in this folder, warm it up, and measure it. Raises TpuError, OSError."""
        with open(os.path.join(folder, MODEL), "rb") as file:
            model = file.read()
        started = time.perf_counter()
        engine = Engine(model, self._pci_address)
        inputs, outputs = _tensors(engine.inputs), _tensors(engine.outputs)
        with self._turn:
            seconds = engine.warm_up()
            other = next(iter(self._engines.values()), None)
            swap = _swap_seconds(engine, other) if other is not None and self._pci_address is not None else 0.0
            self._last = key
        loaded = replace(
            about(folder, key, name, version),
            inputs=inputs,
            outputs=outputs,
            load_seconds=time.perf_counter() - started,
            seconds=seconds,
            swap_seconds=swap,
            stateless=not operators.numbers(model) & _VARIABLES,
        )
        self.path, self.version = engine.path, engine.version
        self._engines[key] = engine
        return loaded

    def unload(self, key: int) -> None:
        """Let go of a version."""
        self._engines.pop(key, None)

    def has(self, key: int) -> bool:
        """Whether the version is loaded."""
        return key in self._engines

    def run(self, key: int, inputs: Sequence[Any]) -> List[Any]:
        """One inference. Raises InferenceError, TpuError."""
        with self._turn:
            self._last = key
            return self._engines[key].invoke(*inputs)


def _swap_seconds(engine: Engine, other: Engine) -> float:
    """What the first inference after another model takes more than the one after: 0 where both fit the chip."""
    other.warm_up()
    tensors = [np.zeros(each["shape"], each["dtype"]) for each in engine.inputs]
    took = []
    for _ in range(2):
        started = time.perf_counter()
        engine.invoke(*tensors)
        took.append(time.perf_counter() - started)
    return max(0.0, took[0] - took[1])


def _tensors(details: Sequence[Dict[str, Any]]) -> Tuple[Tensor, ...]:
    """What the engine says of its inputs or outputs. Raises TpuError for what no protocol can carry."""
    found: List[Tensor] = []
    for number, each in enumerate(details):
        dtype = np.dtype(each["dtype"]).name
        if dtype not in _TYPES:
            raise TpuError("the tensor %s is of %s, which no protocol here carries" % (each["name"], dtype))
        scale, zero = each["quantization"]
        name = str(each["name"]) or "tensor_%d" % number
        if any(name == other.name for other in found):
            name = "%s_%d" % (name, number)
        found.append(Tensor(name, tuple(int(n) for n in each["shape"]), dtype, float(scale) or None, int(zero)))
    return tuple(found)
