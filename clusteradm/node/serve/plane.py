"""Data plane: what every protocol asks and gets, without a transport."""

import socket
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from clusteradm.node.serve.index import Index
from clusteradm.node.spec.datatypes import BYTES as BYTES
from clusteradm.node.spec.datatypes import DATATYPES as DATATYPES
from clusteradm.node.spec.wire.serving import BoardState, ServeConfig, VersionState

# Kinds of refusals: each protocol has a status for each.
NOT_FOUND, INVALID, TOO_LARGE = "not_found", "invalid", "too_large"
OVERLOADED, DEADLINE, UNAVAILABLE, INTERNAL = "overloaded", "deadline", "unavailable", "internal"
FORBIDDEN = "forbidden"
MOST_ROWS = 1024  # pictures, or instances, of a request


class Tensor(NamedTuple):
    """A named tensor. `data`: a NumPy array in `shape`, or for BYTES a list of bytes in row order."""

    name: str
    datatype: str
    shape: Tuple[int, ...]
    data: Any


class Request(NamedTuple):
    """One inference. `version`, `label`: at most one; `outputs`: the wanted ones, empty for all; `deadline`: by
    time.monotonic(); `priority`: lower is sooner; `parameters`: the protocol's own; `answer`: whether the result of
    the model's task is wanted besides the tensors; `rows`: whether the first dimension of every input counts
    instances, each of which the model may take alone (TensorFlow Serving); `patient`: whether to wait some seconds for
    an engine where there is none: a balancer cannot send it to another board, as it can what is refused over HTTP."""

    model: str
    inputs: Sequence[Tensor]
    version: Optional[int] = None
    label: Optional[str] = None
    outputs: Sequence[str] = ()
    id: str = ""
    deadline: Optional[float] = None
    priority: int = 0
    parameters: Dict[str, Any] = {}
    answer: bool = False
    rows: bool = False
    patient: bool = False


class Answer(NamedTuple):
    """Outputs of an inference. `result`: of the model's task, as node/edgetpu/tasks gives it, where it was wanted;
    `device`: "0000:01:00.0", or "cpu"; `seconds`: queued, and in the model; `batch`: the requests that
    the same inference answered."""

    model: str
    version: int
    outputs: Sequence[Tensor]
    id: str
    board: str
    device: str
    simulated: bool
    queued_seconds: float
    seconds: float
    result: Optional[Dict[str, Any]] = None
    batch: int = 1


class Refusal(Exception):
    """A request that gets no answer, and why. `retry_after`: seconds."""

    def __init__(self, kind: str, text: str, retry_after: Optional[float] = None) -> None:
        super().__init__(text)
        self.kind, self.retry_after = kind, retry_after


class TensorInfo(NamedTuple):
    """An input or output as a client sees it; -1 in `shape` for what a request may choose."""

    name: str
    datatype: str
    shape: Tuple[int, ...]


class ModelInfo(NamedTuple):
    """A model version: `versions` are those that are available, `labels` of this model, `picture`: whether an input of
    JPEG or PNG bytes is taken for its only input; `kind`: of a servable that is no model."""

    name: str
    version: int
    versions: Sequence[int]
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    labels: Dict[str, int]
    task: Optional[str]
    picture: bool
    class_names: Sequence[str]
    kind: str = ""


class Again:
    """An inference that was answered, to be asked for once more with other numbers in the same tensors."""

    def begin(
        self, pieces: Sequence[Union[bytes, memoryview]], done: Callable[[Union[Answer, Refusal, None]], None]
    ) -> Optional[Callable[[], None]]:
        """Begin it without a task. `pieces`: the bytes of the inputs, in the order of the request, little endian;
        `done`: gets the answer, whose outputs are bytes, or None where it is to be asked for as if for the first time.
        What is returned has nobody wait for it any more; None: ask as if for the first time."""
        raise NotImplementedError


class Plane:
    """What the front of a protocol calls. Every method may raise Refusal."""

    async def infer(self, request: Request) -> Answer:
        """Run one inference."""
        raise NotImplementedError

    def again(self, request: Request) -> Optional[Again]:
        """A request that was answered, for others of which only the numbers differ; None where there is no such way."""
        return None

    def serves(self, model: str) -> bool:
        """Whether there is, or is to be, such a model on this board or another."""
        raise NotImplementedError

    async def info(self, model: str, version: Optional[int] = None, label: Optional[str] = None) -> ModelInfo:
        """The properties of a version."""
        raise NotImplementedError

    async def ready(self, model: str, version: Optional[int] = None) -> bool:
        """Whether the version would take a request now."""
        raise NotImplementedError

    async def states(self, model: Optional[str] = None) -> List[VersionState]:
        """The states of every version, or of one model's."""
        raise NotImplementedError

    async def index(self) -> Index:
        """What there is in the whole cluster."""
        raise NotImplementedError

    async def load(self, model: str, unload: bool = False) -> None:
        """Ask the head to serve a model, or to serve it no more; returns when the boards have followed."""
        raise NotImplementedError

    async def board(self) -> BoardState:
        """What the board says of itself."""
        raise NotImplementedError

    @property
    def balance(self) -> bool:
        """Whether a balancer is to send new requests here."""
        raise NotImplementedError

    @property
    def able(self) -> bool:
        """Whether it could answer them. A balancer is to take those that wait away from a board that cannot."""
        raise NotImplementedError


class FrontConfig(NamedTuple):
    """What a front process is started with. `number`: 0 for the first, which alone has gRPC and ZeroMQ; `http`: the
    listening socket, shared by all of the board; `runtime`: a folder in memory, shared too."""

    serve: ServeConfig
    number: int
    http: socket.socket
    runtime: str


class Runner:
    """A front at work."""

    async def close(self, seconds: float) -> None:
        """Take nothing new; let what runs end within `seconds`."""
        raise NotImplementedError
