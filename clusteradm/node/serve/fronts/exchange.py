"""Exchange: one request over HTTP, its body, and what is answered."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import parse_qsl, unquote

import orjson

from clusteradm.node.serve.fronts.calls import Call, Desk, about
from clusteradm.node.serve.fronts.known import Key
from clusteradm.node.serve.fronts.limits import MOST_BRACKETS, MOST_JSON, MOST_VALUES
from clusteradm.node.serve.plane import INVALID, TOO_LARGE, Answer, Refusal

JSON, BINARY, HTML = "application/json", "application/octet-stream", "text/html; charset=utf-8"
# Instead of the versions of Python and aiohttp.
SERVER = "clusteradm"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_DUMP = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_MOST_FIELDS = 64

Piece = Union[bytes, memoryview]


class HttpError(Exception):
    """What HTTP itself has a status for, and no protocol above it."""

    def __init__(self, status: int, text: str, headers: Sequence[Tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.status, self.headers = status, list(headers)


def late() -> HttpError:
    """A body did not come."""
    return HttpError(408, "the body of the request did not come in time", [("Connection", "close")])


class Reply(NamedTuple):
    """What is answered."""

    body: bytes
    kind: str = JSON
    status: int = 200
    headers: Sequence[Tuple[str, str]] = ()


def json_reply(document: Any, answer: Optional[Answer] = None, status: int = 200) -> Reply:
    """A document as JSON: NaN and infinity are null in it. `answer`: where it comes from, for the headers."""
    return Reply(dumps(document), JSON, status, about(answer) if answer is not None else ())


def dumps(document: Any) -> bytes:
    """JSON of plain values and NumPy arrays."""
    return orjson.dumps(document, option=_DUMP)


def loads(data: bytes) -> Any:
    """A document of a client. Raises Refusal: for what is no JSON (NaN is none), or too large to be unfolded."""
    if len(data) > MOST_JSON:
        raise Refusal(
            TOO_LARGE, "a JSON document of %d bytes, more than %d: send tensors as bytes" % (len(data), MOST_JSON)
        )
    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS or data.count(b",") > MOST_VALUES:
        text = "a JSON document of more than %d lists or %d values: send tensors as bytes"
        raise Refusal(TOO_LARGE, text % (MOST_BRACKETS, MOST_VALUES))
    try:
        return orjson.loads(data)
    except (ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:200]
        raise Refusal(INVALID, "not a JSON document: %s (NaN and Infinity are no JSON)" % text) from None


class Asked:
    """A request, as it came: headers, and a body that may not have been read yet."""

    method: str
    held = 0  # bytes of the body that are counted already
    key: Optional[Key] = None  # by which it would be known, were it answered before
    headers: Mapping[str, str]  # by names in lower case

    async def pieces(self, exchange: "Exchange", most: int) -> List[Piece]:
        """The body, of this many bytes at most, and unpacked where it is packed; all of it is held by the exchange.
        Raises Refusal, HttpError."""
        raise NotImplementedError


class Exchange:
    """One request. `parts`: the path's, without the first slash."""

    def __init__(self, desk: Desk, asked: Asked, call: Call) -> None:
        self.desk, self.call, self._asked = desk, call, asked
        self.method, self.headers, self.key = asked.method, asked.headers, asked.key
        path, _, self._query = call.operation.partition("?")
        if not path.startswith("/"):  # as a proxy is asked: http://HOST/PATH (RFC 9112 section 3.2.2)
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.parts = [unquote(each) for each in path.split("/")[1:]]
        self._held = asked.held

    @property
    def query(self) -> Dict[str, str]:
        """Fields of the query."""
        try:
            return dict(parse_qsl(self._query, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise Refusal(INVALID, "more than %d fields in the query" % _MOST_FIELDS) from None

    def header(self, name: str) -> Optional[str]:
        """A header of the request, by its name in lower case."""
        return self.headers.get(name)

    async def version(self, model: str, version: Optional[int], label: Optional[str]) -> Optional[int]:
        """The version for a request that names these."""
        return await self.desk.version(model, self.headers, version, label)

    def allow(self, *methods: str) -> None:
        """Raise HttpError for another method."""
        if self.method not in methods:
            text = "%s is not for %s, but for %s" % (self.call.operation[:200], self.method, " or ".join(methods))
            raise HttpError(405, text, [("Allow", ", ".join(methods))])

    async def json(self, most: int = MOST_JSON) -> Any:
        """The body, as JSON."""
        return loads(await self.body(most))

    async def body(self, most: int) -> bytes:
        """The body, of this many bytes at most, and unpacked where it is packed. Raises Refusal, HttpError."""
        return b"".join(await self._asked.pieces(self, most))

    async def view(self, most: int) -> memoryview:
        """The same, not copied where it came at once."""
        pieces = await self._asked.pieces(self, most)
        return memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def hold(self, size: int) -> None:
        """Count bytes of the body, until the end. Raises Refusal where those of all requests are too many."""
        self.desk.hold(size)
        self._held += size

    def end(self) -> None:
        """Let go of the body."""
        self.desk.release(self._held)
        self._held = 0
