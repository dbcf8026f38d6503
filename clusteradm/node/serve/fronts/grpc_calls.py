"""gRPC of a front process: statuses of errors, deadlines and metadata, for the services of both protocols."""

import time
import traceback
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Tuple

import grpc
from grpc import aio

from clusteradm.node.serve.fronts.calls import CHECKED, REQUEST_ID, Call, Desk, about
from clusteradm.node.serve.fronts.limits import MIB, MOST_BODY, MOST_RPCS, MOST_SECONDS
from clusteradm.node.serve.plane import (
    DEADLINE,
    FORBIDDEN,
    INTERNAL,
    INVALID,
    NOT_FOUND,
    OVERLOADED,
    TOO_LARGE,
    UNAVAILABLE,
    Refusal,
    Runner,
)

STATUS = {
    NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    INTERNAL: grpc.StatusCode.INTERNAL,
    FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
}
_MOST_TRACE = 4000
_OPTIONS = (
    ("grpc.max_receive_message_length", MOST_BODY + MIB),
    ("grpc.max_send_message_length", -1),
    # Two servers on one port would share its requests in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.max_metadata_size", 16384),
    # An input of 150 KB in few pieces, and without a wait for leave to send the next 64 KB.
    ("grpc.http2.lookahead_bytes", MIB),
    ("grpc.http2.max_frame_size", MIB),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.experimental.tcp_read_chunk_size", MIB // 4),
    # A client that is gone without a word, and one that asks too often whether this server is there.
    ("grpc.keepalive_time_ms", 60000),
    ("grpc.keepalive_timeout_ms", 20000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10000),
)

Work = Callable[["Inquiry", Any], Awaitable[Any]]


class Inquiry:
    """One call over gRPC, or one message of a stream."""

    def __init__(self, desk: Desk, call: Call, context: Any, metadata: Mapping[str, str]) -> None:
        self.desk, self.call = desk, call
        self.metadata: Mapping[str, str] = metadata
        left = context.time_remaining()
        self.deadline: Optional[float] = None
        if left is not None and left < MOST_SECONDS:
            self.deadline = time.monotonic() + left


class Service:
    """One gRPC service: methods by name, each with its messages, request and reply. `unread`: work from the
    bytes of the message to those of the answer."""

    def __init__(
        self,
        name: str,
        protocol: str,
        methods: Dict[str, Tuple[Work, Any, Any]],
        streams: Optional[Dict[str, Tuple[Work, Any, Any]]] = None,
        unread: Optional[Dict[str, Work]] = None,
    ) -> None:
        self.name, self.protocol, self.methods = name, protocol, methods
        self.streams, self.unread = streams or {}, unread or {}

    def handler(self, desk: Desk) -> Any:
        """What grpc.aio takes."""
        handlers = {}
        for method, (work, request, _) in self.methods.items():
            read = None if method in self.unread else request.FromString
            handlers[method] = grpc.unary_unary_rpc_method_handler(
                self._unary(desk, method, self.unread.get(method, work)),
                request_deserializer=_sized(read),
            )
        for method, (work, request, reply) in self.streams.items():
            handlers[method] = grpc.stream_stream_rpc_method_handler(
                self._stream(desk, method, work),
                request_deserializer=_sized(request.FromString),
                response_serializer=reply.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(self.name, handlers)

    # Functions of their own: of a functools.partial, Python 3.7 does not know that it is a coroutine function.
    def _unary(self, desk: Desk, method: str, work: Work) -> Any:
        async def answer(received: Any, context: Any) -> Any:
            return await _unary(desk, self, method, work, received, context)

        return answer

    def _stream(self, desk: Desk, method: str, work: Work) -> Any:
        async def answers(requests: Any, context: Any) -> Any:
            async for each in _stream(desk, self, method, work, requests, context):
                yield each

        return answers


class GrpcFront(Runner):
    """The server of all services."""

    def __init__(self, desk: Desk, services: List[Service]) -> None:
        self._server = aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MOST_RPCS)
        self._server.add_generic_rpc_handlers(tuple(each.handler(desk) for each in services))
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on "ADDRESS:PORT". Raises OSError where that cannot be."""
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError("gRPC cannot listen on %s: %s" % (address, error)) from None
        if not self.port:
            raise OSError("gRPC cannot listen on %s: something else does" % address)
        await self._server.start()

    async def close(self, seconds: float) -> None:
        """Accept nothing more, and let what runs end."""
        await self._server.stop(seconds)


async def _unary(desk: Desk, service: Service, method: str, work: Work, received: Any, context: Any) -> Any:
    """The bytes of the answer."""
    request, size = received
    inquiry = _inquiry(desk, service, method, size, context)
    call, held = inquiry.call, 0
    try:
        desk.network.admit(call.client)
        desk.hold(call.received)
        held = call.received
        if method in service.unread:
            data = await work(inquiry, request)
        else:
            check(inquiry, request)
            data = (await work(inquiry, request)).SerializeToString()
        call.sent = len(data)
        _tell(context, call)
        return data
    except Refusal as refusal:
        call.kind, call.text = refusal.kind, str(refusal)
        await context.abort(STATUS.get(refusal.kind, grpc.StatusCode.INTERNAL), call.text, _trailer(call, refusal))
    except Exception as error:
        if isinstance(error, aio.AbortError):
            raise
        call.kind, call.text = INTERNAL, traceback.format_exc()[-_MOST_TRACE:]
        text = "internal error (%s): see the log for request %s" % (type(error).__name__, call.id)
        await context.abort(grpc.StatusCode.INTERNAL, text, _trailer(call, None))
    except BaseException:
        call.kind, call.text = DEADLINE if _over(inquiry) else INVALID, "the client has gone, or its deadline was over"
        raise
    finally:
        desk.release(held)
        desk.end(call)


async def _stream(desk: Desk, service: Service, method: str, work: Work, requests: Any, context: Any) -> Any:
    """One answer to each message, in order; an error is an answer too."""
    async for request, size in requests:
        inquiry = _inquiry(desk, service, method, size, context)
        call, held = inquiry.call, 0
        try:
            desk.network.admit(call.client)
            desk.hold(call.received)
            held = call.received
            check(inquiry, request)
            yield await work(inquiry, request)
        except Refusal as refusal:
            call.kind, call.text = refusal.kind, str(refusal)
            await context.abort(STATUS[refusal.kind], call.text, _trailer(call, refusal))
        finally:
            desk.release(held)
            desk.end(call)


def check(inquiry: Inquiry, request: Any) -> None:
    """Raise Refusal for another model than the one that the head looked the client's token up for (CHECKED): a message
    may have a field twice, of which the last one counts here and the first one there, and a stream has many."""
    checked = inquiry.metadata.get(CHECKED)
    if checked is None:
        return
    fields = request.DESCRIPTOR.fields_by_name
    found = request.model_spec if "model_spec" in fields else request
    name = found.model_name if "model_name" in fields else found.name
    if name != checked:
        text = "the client's token was looked up for model %s, and this is for %s: ask for each by itself"
        raise Refusal(FORBIDDEN, text % (checked[:100], ascii(name[:100])))


def _sized(read: Optional[Callable[[bytes], Any]]) -> Callable[[bytes], Tuple[Any, int]]:
    """A reader of messages that says how large they were: a message that is asked would be written anew for that."""
    if read is None:
        return lambda data: (data, len(data))
    return lambda data: (read(data), len(data))


def _inquiry(desk: Desk, service: Service, method: str, size: int, context: Any) -> Inquiry:
    metadata = _metadata(context)
    call = Call(service.protocol, method, str(context.peer())[:100], metadata)
    call.received = size
    return Inquiry(desk, call, context, metadata)


def _metadata(context: Any) -> Dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _tell(context: Any, call: Call) -> None:
    """Say where the answer comes from."""
    found = [(REQUEST_ID, call.id)]
    if call.answer is not None:
        found += about(call.answer)
    context.set_trailing_metadata(tuple(found))


def _trailer(call: Call, refusal: Optional[Refusal]) -> Any:
    found = [(REQUEST_ID, call.id)]
    if refusal is not None and refusal.kind in (OVERLOADED, UNAVAILABLE):
        # gRFC A6: when a client may try again.
        found.append(("grpc-retry-pushback-ms", "%d" % round(1000 * (refusal.retry_after or 1.0))))
    return tuple(found)


def _over(inquiry: Inquiry) -> bool:
    return inquiry.deadline is not None and inquiry.deadline <= time.monotonic()
