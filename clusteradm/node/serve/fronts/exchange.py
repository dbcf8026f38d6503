"""Exchange: one request over HTTP, its body, and what is answered."""

import zlib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import parse_qsl, unquote

import orjson
from aiohttp import web

from clusteradm.node.serve.fronts.calls import Call, Desk, about
from clusteradm.node.serve.fronts.connections import Connection, Late
from clusteradm.node.serve.fronts.limits import MOST_BRACKETS, MOST_JSON, MOST_VALUES
from clusteradm.node.serve.plane import INVALID, TOO_LARGE, Answer, Refusal

JSON, BINARY, TEXT, HTML = "application/json", "application/octet-stream", "text/plain", "text/html"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIECE = 1 << 16
_DUMP = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_MOST_FIELDS = 64


class HttpError(Exception):
    """What HTTP itself has a status for, and no protocol above it."""

    def __init__(self, status: int, text: str, headers: Sequence[Tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.status, self.headers = status, list(headers)


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


class Exchange:
    """One request. `parts`: the path's, without the first slash."""

    def __init__(self, desk: Desk, request: web.BaseRequest, call: Call) -> None:
        self.desk, self.request, self.call = desk, request, call
        self.method = request.method
        target = call.operation
        if not target.startswith("/"):  # as a proxy is asked: http://HOST/PATH (RFC 9112 section 3.2.2)
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, self._query = target.partition("?")
        self.parts = [unquote(each) for each in path.split("/")[1:]]
        self._held = 0

    @property
    def query(self) -> Dict[str, str]:
        """Fields of the query."""
        try:
            return dict(parse_qsl(self._query, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise Refusal(INVALID, "more than %d fields in the query" % _MOST_FIELDS) from None

    def header(self, name: str) -> Optional[str]:
        """A header of the request."""
        value: Optional[str] = self.request.headers.get(name)
        return value

    async def version(self, model: str, version: Optional[int], label: Optional[str]) -> Optional[int]:
        """The version for a request that names these."""
        return await self.desk.version(model, self.request.headers, version, label)

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
        request = self.request
        length = request.content_length
        if length is not None and length > most:
            raise Refusal(TOO_LARGE, "a body of %d bytes, more than %d" % (length, most))
        unpack = self._unpacker()
        if (self.header("Expect") or "").lower() == "100-continue":
            await request.writer.write(_CONTINUE)
            request.writer.output_size = 0
        pieces: List[bytes] = []
        size = 0
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.reading(request.content)
        try:
            while True:
                piece = await request.content.readany()
                if not piece:
                    break
                self.call.received += len(piece)
                for part in [piece] if unpack is None else unpack.parts(piece):
                    size += len(part)
                    if size > most:
                        raise Refusal(TOO_LARGE, "a body of more than %d bytes" % most)
                    self._hold(len(part))
                    pieces.append(part)
            if unpack is not None:
                unpack.end()
        except Late:
            raise HttpError(408, "the body of the request did not come in time", [("Connection", "close")]) from None
        except web.RequestPayloadError:
            raise Refusal(INVALID, "the body of the request is damaged, or ended early") from None
        finally:
            if isinstance(connection, Connection):
                connection.busy()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, size: int) -> None:
        self.desk.hold(size)
        self._held += size

    def end(self) -> None:
        """Let go of the body."""
        self.desk.release(self._held)
        self._held = 0

    def _unpacker(self) -> Optional["_Unpacker"]:
        coding = (self.header("Content-Encoding") or "identity").strip().lower()
        if coding == "identity":
            return None
        if coding not in ("gzip", "x-gzip", "deflate"):
            text = "the Content-Encoding %s is none of gzip, deflate" % ascii(coding[:60])
            raise HttpError(415, text, [("Accept-Encoding", "gzip, deflate")])
        return _Unpacker(coding)


class _Unpacker:
    """A packed body, unpacked in pieces, so that a small one that unfolds to gigabytes is noticed."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._zlib: Any = None

    def parts(self, data: bytes) -> Any:
        """Generator of the unpacked pieces. Raises Refusal for what is damaged."""
        try:
            if self._zlib is None:
                # deflate is zlib's format (RFC 9110 section 8.4.1.2); some send it without that header.
                bare = self._coding == "deflate" and data[0] & 15 != 8
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            while data:
                yield self._zlib.decompress(data, _PIECE)
                data = self._zlib.unconsumed_tail
                if self._zlib.eof and self._zlib.unused_data:
                    raise Refusal(INVALID, "there is more behind the end of the %s body" % self._coding)
        except zlib.error as error:
            raise Refusal(INVALID, "the body is no %s: %s" % (self._coding, str(error)[:100])) from None

    def end(self) -> None:
        """Raise Refusal where the end is missing."""
        if self._zlib is None or not self._zlib.eof:
            raise Refusal(INVALID, "the %s body is cut short" % self._coding)
