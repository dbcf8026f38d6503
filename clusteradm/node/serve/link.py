"""Link to an engine: what the data plane calls, whatever is between."""

from typing import Any, List, NamedTuple, Optional, Sequence

from clusteradm.node.serve.loaded import Loaded


class Reply(NamedTuple):
    """Outputs of an inference; `queued` and `seconds`: before it and in it; `batch`: requests that it answered."""

    outputs: List[Any]
    queued: float
    seconds: float
    batch: int = 1


class EngineGone(Exception):
    """The engine has ended, or hangs, before it answered: another one may."""


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

    async def call(self, version: Loaded, inputs: Sequence[Any], deadline: Optional[float], priority: int) -> Reply:
        """One inference. Raises Refusal, EngineGone."""
        raise NotImplementedError
