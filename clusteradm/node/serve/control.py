"""Control of serving on the head: boards ask it over HTTP to change what is served (KServe's repository extension).

`python3 -m clusteradm.node.serve.control FILE`, which clusteradm-serve-control.service runs as root, who alone can
write the desired state. POST /load and /unload with {"model": NAME} answer {"revision": N}. GET /followed?revision=N
answers {"done": true} when all boards that answer have followed, or {"done": false, "waits": [...]} after ten seconds.
GET /index answers the index of the whole cluster's models (index.py).
"""

import json
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node import locks, served
from clusteradm.node.models import store
from clusteradm.node.serve import balancer, desired, index, placing
from clusteradm.node.serve.status import ask
from clusteradm.node.spec.wire.decode import Record, WireError, decode, limits, loads
from clusteradm.node.spec.wire.manifest import NAME
from clusteradm.node.spec.wire.serving import DesiredState, ServedModel, VersionPolicy
from clusteradm.node.spec.wire.serving_requests import BoardSaid

_MOST_BYTES = 1 << 16
_FOLLOW_SECONDS, _LOOK_SECONDS, _ASK_SECONDS = 10.0, 0.3, 2.0
_PLACE_SECONDS, _AGAIN_SECONDS = (
    2.0,
    5.0,
)  # between two looks at where models are; after one that HAProxy did not follow
_MOST_REQUESTS = 64  # at a time, each in a thread; the next ones wait in the listener's queue


@dataclass(eq=False, repr=False)
class ControlConfig(Record):
    """/etc/clusteradm/serve-control.json. `boards`: ADDRESS:PORT of the servers' HTTP, by host."""

    address: str
    port: int
    shared: str
    boards: Dict[str, str]


@dataclass(eq=False, repr=False)
class Wish(Record):
    """The body of a request: a model."""

    model: str = field(metadata=limits(NAME, most=200))


class Refused(Exception):
    """A request that changes nothing, with its status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def change(shared: str, name: str, unload: bool) -> DesiredState:
    """Serve a model, or serve it no more; the state after that. Raises Refused.

    What is served already is looked at anew: its labels or its versions may be others. HAProxy follows, as it does when
    an administrator changes the state; why it does not is in the journal.
    """
    with locks.held(desired.LOCK):
        state = served.read(shared)
        there = [model for model in state.models if model.name == name]
        if unload and not there:
            raise Refused(404, "model %s is not served" % name)
        if not unload and not store.versions(store.model_folder(shared, name)):
            raise Refused(404, "no model %s is in the repository" % name)
        others = tuple(model for model in state.models if model.name != name)
        mine = () if unload else tuple(there) or (ServedModel(name, VersionPolicy()),)
        models = tuple(sorted(others + mine, key=lambda model: model.name))
        new = replace(state, models=models)
        new = desired.write(shared, replace(new, placement=placing.carried(shared, state, new)))
        trouble = balancer.follow(new, placing.models(shared, new))
    if trouble:
        sys.stderr.write("%s\n" % ascii(trouble)[1:-1])
    return new


def said_by(boards: Dict[str, str]) -> Dict[str, BoardSaid]:
    """What the boards say of themselves, by host."""
    with ThreadPoolExecutor(max(1, len(boards))) as pool:
        return dict(zip(boards, pool.map(lambda item: ask(item[0], item[1], _ASK_SECONDS), boards.items())))


def waits(said: Dict[str, BoardSaid], revision: int) -> List[str]:
    """The boards that answer and have not followed to the revision, each with its words."""
    return [
        "%s is at revision %d of %d" % (host, about.state.revision, revision)
        for host, about in said.items()
        if about.state is not None
        and about.state.revision < revision
        and any(not engine.servables for engine in about.state.engines)
    ]


class Handler(BaseHTTPRequestHandler):
    """One request of a board."""

    protocol_version = "HTTP/1.1"
    timeout = 15.0
    server: "Server"

    def do_GET(self) -> None:
        """Whether the boards have followed, or what they have."""
        self._answer(self._index if self.path == "/index" else self._followed)

    def do_POST(self) -> None:
        """Change what is served."""
        self._answer(self._change)

    def _followed(self) -> Dict[str, Any]:
        place = urllib.parse.urlsplit(self.path)
        text = urllib.parse.parse_qs(place.query).get("revision", [""])[0]
        if place.path != "/followed" or not text.isdigit() or len(text) > 18:
            raise Refused(404, "there are /followed?revision=N and /index")
        end = time.monotonic() + _FOLLOW_SECONDS
        while True:
            lacking = waits(self.server.said(), int(text))
            if not lacking:
                return {"done": True}
            if time.monotonic() > end:
                return {"done": False, "waits": lacking}
            time.sleep(_LOOK_SECONDS)

    def _index(self) -> Dict[str, Any]:
        shared = self.server.config.shared
        boards = [about.state for about in self.server.said().values() if about.state is not None]
        models = served.read(shared).models
        found = index.whole(models, store.names(shared), boards)
        return vars(replace(found, detectors=index.detectors(shared, models, found.versions)))

    def _change(self) -> Dict[str, Any]:
        size = self.headers.get("Content-Length") or ""
        if not size.isdigit() or int(size) > _MOST_BYTES:
            raise Refused(400, "a body of at most %d bytes is needed, and its length" % _MOST_BYTES)
        body = self.rfile.read(int(size))
        if self.path not in ("/load", "/unload"):
            raise Refused(404, "there are /load and /unload")
        try:
            wish = decode(Wish, loads(body))
        except WireError as error:
            raise Refused(400, "no model: %s" % error) from None
        return {"revision": change(self.server.config.shared, wish.model, self.path == "/unload").revision}

    def _answer(self, work: Any) -> None:
        try:
            status, document = 200, work()
        except Refused as error:
            status, document = error.status, {"error": str(error)}
        except (OSError, ValueError) as error:
            status, document = 500, {"error": str(error)[:1000]}
        data = json.dumps(document, default=vars).encode("ascii")
        self.close_connection = status != 200  # its body may not have been read
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """A line for the journal; what a peer sent is in it as ASCII."""
        sys.stderr.write("%s %s\n" % (self.client_address[0], ascii(format % args)))


class Server(ThreadingHTTPServer):
    """The server on the head's address in the cluster's network."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, config: ControlConfig) -> None:
        self.config = config
        self.addresses = {place.rpartition(":")[0] for place in config.boards.values()}
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        self._looking = threading.Lock()
        self._said: Dict[str, BoardSaid] = {}
        self._said_at = -_LOOK_SECONDS
        super().__init__((config.address, config.port), Handler)

    def said(self) -> Dict[str, BoardSaid]:
        """What the boards say now. All requests share one look."""
        with self._looking:
            if time.monotonic() - self._said_at >= _LOOK_SECONDS:
                self._said = said_by(self.config.boards)
                self._said_at = time.monotonic()
            return self._said

    def verify_request(self, request: Any, client_address: Tuple[str, int]) -> bool:
        """Whether a connection is a board's; nothing of another one is read, and it gets no thread."""
        return client_address[0] in self.addresses

    def process_request(self, request: Any, client_address: Tuple[str, int]) -> None:
        """Answer a connection in a thread of its own, as soon as one may be had."""
        self._free.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Tuple[str, int]) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Tuple[str, int]) -> None:
        """A peer that is gone is no news."""


def place(config: ControlConfig, placer: placing.Placer) -> str:
    """Look at the boards once, and say where models are to be, if that is elsewhere than now; why HAProxy does not
    follow, or ""."""
    state = served.read(config.shared)
    if not state.models:
        return ""
    placed = placer.next(state, said_by(config.boards))
    if placed == state.placement:
        return ""
    for each in placed:
        if each not in state.placement:
            sys.stderr.write("model %s is to be on %s\n" % (each.name, ascii(", ".join(each.tpus) or "all")[1:-1]))
    return desired.place(config.shared, state.revision, placed)


class Keeper:
    """Keeps models placed, and HAProxy at what is desired: it is told at the start, when it may have other boards,
    after each change by whomever, and again where it did not follow."""

    def __init__(self, config: ControlConfig) -> None:
        self._config, self._placer = config, placing.Placer(config.shared)
        self._told: Optional[int] = None  # the revision that HAProxy follows

    def look(self) -> str:
        """Look once; what is wrong, or ""."""
        shared = self._config.shared
        try:
            if served.read(shared).revision != self._told:
                with locks.held(desired.LOCK):
                    state = served.read(shared)
                    trouble = balancer.follow(state, placing.models(shared, state))
                    self._told = None if trouble else state.revision
                if trouble:
                    return trouble
            trouble = place(self._config, self._placer)
            if trouble:
                self._told = None
            return trouble
        except (OSError, ValueError) as error:  # a damaged state says so to whoever asks
            return "models stay where they are: %s" % error

    def run(self) -> None:
        """Do so for ever."""
        while True:
            trouble = self.look()
            if trouble:
                sys.stderr.write("%s\n" % ascii(trouble[:500])[1:-1])
            time.sleep(_AGAIN_SECONDS if trouble else _PLACE_SECONDS)


def main() -> None:
    """The program."""
    with open(sys.argv[1], "rb") as file:
        config = decode(ControlConfig, loads(file.read(1 << 20)))
    threading.Thread(target=Keeper(config).run, daemon=True).start()
    Server(config).serve_forever()


if __name__ == "__main__":
    main()
