"""Stage of a pipeline, as a worker process has it: tensors from the stage before, and on to the one after."""

import time
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from clusteradm.node.edgetpu.engine import Engine
from clusteradm.node.job import handing
from clusteradm.node.job.activations import Head, Layout, Reader, Writer, address, read_head
from clusteradm.node.job.feeder import Decoded, Source
from clusteradm.node.spec.wire.job import Assignment
from clusteradm.node.spec.wire.manifest import Tensor


class Handed(Source):
    """What the stage before hands on, as a source of inputs for the inference thread.

    The tensors of an input are in the memory of both until the next is asked for: those that are carried past this
    stage are copied.
    """

    def __init__(self, name: str, layout: Layout, takes: Sequence[str], carries: Sequence[str]) -> None:
        self._reader = Reader(name, layout)
        self._layout, self._takes, self._carries = layout, takes, carries
        self._held: Optional[int] = None
        self._begun = False

    def get(self) -> Optional[Decoded]:
        """The next input, waited for; None after `end`. Raises Gone, WireError."""
        if self._held is not None:
            self._reader.free(self._held)
            self._held = None
        found = self._reader.read()
        if found is None:
            return None
        self._held, data, memory = found
        self._begun = True
        head = read_head(data)
        views = dict(zip(self._layout.names, self._layout.views(memory)))
        tensor = tuple(views[name] for name in self._takes)
        carried = {name: views[name].copy() for name in self._carries}
        return Decoded(
            head.chunk, head.input, tensor, head.error, head.clipped, head.size, head.of, carried, time.perf_counter()
        )

    def idle(self) -> bool:
        """Whether nothing has come yet."""
        return not self._begun

    def empty(self) -> bool:
        """Whether `get` would wait."""
        return not self._reader.is_ready()

    def end(self) -> None:
        """Have `get` return None."""
        self._reader.end()


class Stage:
    """One stage. `outputs`, `input`: of the whole model, as an interpreter would tell of them."""

    def __init__(self, mine: Assignment, engine: Engine) -> None:
        stage, pipeline = mine.stage, mine.model.pipeline
        if stage is None or pipeline is None:
            raise ValueError("rank %d is no stage of a pipeline" % mine.place.rank)
        takes, gives = handing.layouts(pipeline, stage)
        self.outputs = [details(tensor) for tensor in pipeline.outputs]
        self._names = [tensor.name for tensor in pipeline.outputs]
        self._given = [str(each["name"]) for each in engine.outputs]
        self.is_last = gives is None
        self.source: Optional[Handed] = None
        if takes is not None:
            needed = self._names if gives is None else gives.names
            carries = [name for name in takes.names if name in needed]
            wanted = [str(each["name"]) for each in engine.inputs]
            self.source = Handed(address(stage.link, mine.place.rank), takes, wanted, carries)
        self._writer: Optional[Writer] = None
        if gives is not None and stage.after is not None:
            self._gives = gives.names
            self._writer = Writer(address(stage.link, stage.after, outward=stage.after not in stage.near), gives)

    def hand_on(self, item: Decoded, of: int, outputs: Optional[List[Any]], error: Optional[str]) -> None:
        """Give what came of an input, of a chunk of so many, to the next stage. Waits for room. Raises Gone."""
        assert self._writer is not None  # noqa: S101 - not of the last stage
        tensors: Sequence[Any] = ()
        if outputs is not None:
            every = self._every(item, outputs)
            tensors = [every[name] for name in self._gives]
        self._writer.write(Head(item.chunk, of, item.input, error, item.clipped, item.size), tensors)

    def end(self) -> None:
        """Hand on no more: the next stage sees it."""
        if self._writer is not None:
            self._writer.close()

    def whole(self, item: Decoded, outputs: List[Any]) -> List[Any]:
        """The outputs of the whole model, from those of the last stage and what it was handed."""
        every = self._every(item, outputs)
        return [every[name] for name in self._names]

    def _every(self, item: Decoded, outputs: List[Any]) -> Dict[str, Any]:
        return {**item.carried, **dict(zip(self._given, outputs))}


def details(tensor: Tensor) -> Dict[str, Any]:
    """What an interpreter tells of a tensor."""
    return {
        "name": tensor.name,
        "shape": np.array(tensor.shape, np.int32),
        "dtype": np.dtype(tensor.dtype).type,
        "quantization": (tensor.scale or 0.0, tensor.zero_point),
    }
