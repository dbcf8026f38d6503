"""Link to an engine: what the data plane calls, whatever is between."""

from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import Refusal

Bytes = Union[bytes, memoryview]

CPU = "cpu"  # a device that is no TPU


class Reply(NamedTuple):
    """Outputs of an inference; `queued` and `seconds`: before it and in it; `batch`: requests that it answered."""

    outputs: List[Any]
    queued: float
    seconds: float
    batch: int = 1


class EngineGone(Exception):
    """The engine has ended, or hangs, before it answered: another one may."""


# Whoever waits for an inference on bytes: the outputs of its reply are bytes.
Done = Callable[[Union[Reply, Refusal, EngineGone]], None]


class Link:
    """One engine, seen from a front process. `device`: its PCI address, or "cpu"; `models`: whether it runs these."""

    models = True
    number: int
    device: str
    simulated: bool

    @property
    def ready(self) -> bool:
        """Whether it takes requests now."""
        raise NotImplementedError

    def load(self, key: int) -> float:
        """Seconds until a request for this version would be answered, by what is known here."""
        raise NotImplementedError

    def ran_on(self, version: Loaded) -> Tuple[str, bool]:
        """The device that an inference of this version ran on, and whether that is simulated: what has no operation of
        an Edge TPU runs on the CPU, whatever the engine has."""
        return (self.device, self.simulated) if version.on_tpu else (CPU, False)

    async def call(self, version: Loaded, inputs: Sequence[Any], deadline: Optional[float], priority: int) -> Reply:
        """One inference. Raises Refusal, EngineGone."""
        raise NotImplementedError

    def begin(
        self, version: Loaded, rows: int, inputs: Sequence[Sequence[Bytes]], priority: int, done: Done
    ) -> Callable[[], None]:
        """Begin one inference without a task; `done` is called when it has ended. `rows`: 0 for the model's own shape;
        `inputs`: the bytes of each, in pieces, as many as its tensor has; what is returned has nobody wait for the end
        any more. Raises Refusal, EngineGone."""
        raise NotImplementedError
