"""Writer of segments: `python -m clusteradm.models.split.by_schema SOURCE`, by the schema that LiteRT is built with.

Asked by lines of JSON: {"times": [plan, ...]} measures parts, {"write": [[plan, path], ...]} writes them, {"compare":
[path, ...]} runs the whole model and the segments in turn. A plan: {"operations": [first, end], "inputs", "outputs"}.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from clusteradm.models.channel import Channel, words
from clusteradm.models.tflite import rewriting

_RUNS = 5  # of each prefix; the fastest counts
_SAMPLES = 3  # inputs that whole and segments are compared on
_METADATA = b"TFLITE_METADATA"


class Writer:
    """A model whose parts are written. Names of its tensors are made different, as segments are joined by them."""

    def __init__(self, source: Path) -> None:
        self.content = source.read_bytes()
        self._model = rewriting.unpacked(self.content)
        seen: set[str] = set()
        for number, tensor in enumerate(self._model.subgraphs[0].tensors):
            name = rewriting.text(tensor.name)
            if not name or name in seen:
                name = tensor.name = f"tensor_{number}"
            seen.add(name)

    def part(self, plan: dict[str, Any]) -> bytes:
        """The model of a plan: its operations, their tensors, and the constants that they read."""
        model = copy.copy(self._model)
        graph = copy.copy(self._model.subgraphs[0])
        first, end = plan["operations"]
        graph.operators = [copy.copy(one) for one in graph.operators[first:end]]
        graph.inputs, graph.outputs = list(plan["inputs"]), list(plan["outputs"])
        model.subgraphs, model.signatureDefs = [graph], None
        kept = [entry for entry in model.metadata or () if first == 0 and bytes(entry.name) == _METADATA]
        model.metadata = [copy.copy(entry) for entry in kept] or None
        rewriting.drop_tensors(model)
        self._renumber(model, graph)
        return rewriting.packed(model)

    def _renumber(self, model: Any, graph: Any) -> None:
        """Keep the buffers and the operator codes that the part uses."""
        buffers: list[Any] = [self._model.buffers[0]]
        codes: list[Any] = []
        places: dict[int, int] = {0: 0}
        graph.tensors = [copy.copy(tensor) for tensor in graph.tensors]
        for owner in (*graph.tensors, *(model.metadata or ())):
            if owner.buffer not in places:
                places[owner.buffer] = len(buffers)
                buffers.append(self._model.buffers[owner.buffer])
            owner.buffer = places[owner.buffer]
        numbers: dict[int, int] = {}
        for operation in graph.operators:
            if operation.opcodeIndex not in numbers:
                numbers[operation.opcodeIndex] = len(codes)
                codes.append(self._model.operatorCodes[operation.opcodeIndex])
            operation.opcodeIndex = numbers[operation.opcodeIndex]
        model.buffers, model.operatorCodes = buffers, codes


class Runner:
    """A model on this machine's CPU, fed and read by the names of its tensors."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """The outputs by name. `values`: what is known by name, its inputs among it."""
        self._interpreter.reset_all_variables()
        for one in self.inputs:
            self._interpreter.set_tensor(one["index"], values[one["name"]])
        self._interpreter.invoke()
        return {
            one["name"]: self._interpreter.get_tensor(one["index"]) for one in self._interpreter.get_output_details()
        }

    def sample(self, random: Any) -> dict[str, Any]:
        """Random numbers for its inputs."""
        found = {}
        for one in self.inputs:
            kind, shape = np.dtype(one["dtype"]), one["shape"]
            if kind.kind in "iu":
                limits = np.iinfo(kind)
                wide = kind.itemsize > 1  # ids, for instance, of which small ones are known
                low, high = (0, 8) if wide else (int(limits.min), int(limits.max) + 1)
                found[one["name"]] = random.integers(low, high, shape).astype(kind)
            else:
                found[one["name"]] = random.uniform(-1, 1, shape).astype(kind)
        return found


def times(writer: Writer, plans: Sequence[dict[str, Any]]) -> list[float]:
    """Milliseconds of one inference of each part, the fastest of several."""
    random = np.random.default_rng(0)
    found = []
    for plan in plans:
        runner = Runner(writer.part(plan))
        sample = runner.sample(random)
        took = []
        for _ in range(_RUNS + 1):
            started = time.perf_counter()
            runner.run(sample)
            took.append(time.perf_counter() - started)
        found.append(1000 * min(took))
    return found


def differences(writer: Writer, paths: Sequence[str]) -> list[str]:
    """The outputs in which the segments in turn differ from the whole model, on random inputs."""
    # The writer's names, by which the segments are joined.
    graph = writer._model.subgraphs[0]
    ends = {"inputs": [int(one) for one in graph.inputs], "outputs": [int(one) for one in graph.outputs]}
    whole = Runner(writer.part({"operations": [0, len(graph.operators)], **ends}))
    parts = [Runner(Path(path).read_bytes()) for path in paths]
    random = np.random.default_rng(0)
    wrong: dict[str, None] = {}
    for _ in range(_SAMPLES):
        values = whole.sample(random)
        expected = whole.run(values)
        for part in parts:
            values.update(part.run(values))
        for name, output in expected.items():
            if output.tobytes() != values[name].tobytes():
                wrong[name] = None
    return list(wrong)


def main() -> None:
    """The program."""
    channel = Channel()
    writer = Writer(Path(sys.argv[1]))
    channel.say(ready=True)
    while True:
        asked = channel.hear()
        try:
            if "times" in asked:
                channel.say(times=times(writer, asked["times"]))
            if "write" in asked:
                for plan, path in asked["write"]:
                    Path(path).write_bytes(writer.part(plan))
                channel.say(written=True)
            if "compare" in asked:
                channel.say(differ=differences(writer, asked["compare"]), samples=_SAMPLES)
        except (RuntimeError, ValueError) as error:
            channel.say(error=words(error))


if __name__ == "__main__":
    main()
