"""Export health metrics to Prometheus, over HTTP or as a file for node_exporter's textfile collector."""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from clusteradm import atomic
from clusteradm.cli import context, next_step, show
from clusteradm.cli.health import seconds
from clusteradm.cli.health_forms.prometheus import CONTENT_TYPE, prometheus
from clusteradm.cli.measuring import measure
from clusteradm.errors import ClusteradmError, UsageError

EXAMPLES = """\
examples:
  clusteradm exporter                           http://127.0.0.1:10089/metrics
  clusteradm exporter --listen 10.0.0.1:10089   reachable from other machines
  clusteradm exporter --cache 60                ask the hosts once a minute
  clusteradm exporter --textfile metrics.prom   write a file, as from a timer
  clusteradm exporter --alerts                  alerting rules for Prometheus

There is no access control: whoever reaches the port reads the metrics.

exit status:
  0    the file is written, or the rules are printed
  2    wrong usage or a bad inventory
  130  interrupted
"""

ALERTS = Path(__file__).with_name("health_forms") / "alerts.yml"
DEFAULT_LISTEN = "127.0.0.1:10089"
_DEFAULT_CACHE_SECONDS = 30.0
_FAILED = "the hosts could not be checked: see the messages of clusteradm exporter\n"
_INDEX = "clusteradm exporter: see /metrics\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm exporter`."""
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--listen",
        type=_place,
        default=DEFAULT_LISTEN,
        metavar="ADDRESS:PORT",
        help="serve HTTP there (default: %(default)s); a port alone means 127.0.0.1",
    )
    way.add_argument("--textfile", metavar="PATH", help="write the metrics to a file, once")
    way.add_argument("--alerts", action="store_true", help="print alerting rules for Prometheus")
    parser.add_argument(
        "--cache",
        type=seconds,
        default=_DEFAULT_CACHE_SECONDS,
        metavar="S",
        help="ask the hosts again after S seconds (default: %(default)g)",
    )
    parser.add_argument("--expect", action="store_true", help="report TPUs that the inventory does not declare")
    context.add_connection_arguments(parser, json=False, connect=context.QUICK_SECONDS)


def _place(text: str) -> tuple[str, int]:
    """Address and port of an option, the address 127.0.0.1 if there is none. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]:|([^\s:\[\]]*):)?(\d{1,5})", text)
    if not match or int(match[3]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT, such as {DEFAULT_LISTEN}")
    return match[1] or match[2] or "127.0.0.1", int(match[3])


def run(args: argparse.Namespace) -> int:
    """Write the file, or serve until interrupted."""
    if args.alerts:
        show.data(ALERTS.read_text(encoding="utf-8"))
        return 0
    password = context.ask_password("sudo password: ") if args.ask_become_pass else None

    def take() -> str:
        # The inventory is read each time: a new host needs no restart.
        cluster = context.open_cluster(args)
        with context.connect(args, cluster, password) as connections:
            return prometheus(measure(args, connections, cluster))

    if args.textfile:
        write(Path(args.textfile), take())
        return 0
    cache = Cache(take, args.cache)
    with open_server(args.listen, cache, lambda text: show.message(next_step.complete(text, args))) as server:
        # A question or an error shows at the start, not at the first request.
        cache.text()
        host, port = args.listen[0], server.server_address[1]
        show.message(f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics (Ctrl-C ends)")
        server.serve_forever()
    return 0


def write(path: Path, text: str) -> None:
    """Replace the file atomically: a reader sees the old text or the new one. Raises UsageError if that fails."""
    try:
        atomic.write(path, text, mode=0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


class Cache:
    """Text that is taken anew after `seconds`. One thread takes it; others wait for the result."""

    def __init__(self, take: Callable[[], str], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._take = take
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._text: str | None = None
        self._until = 0.0

    def text(self) -> str:
        """The text, taken anew if it is too old. Raises what taking it raises; the next call then takes it again."""
        with self._lock:
            if self._text is None or self._clock() >= self._until:
                self._text = None
                self._text = self._take()
                self._until = self._clock() + self._seconds
            return self._text


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    cache: Cache
    say: Callable[[str], None]

    def handle_error(self, request: object, client_address: object) -> None:
        """Log one line instead of a traceback when a client disconnects."""
        show.message(f"exporter: {client_address}: the connection broke")


class _Server6(_Server):
    address_family = socket.AF_INET6


def open_server(place: tuple[str, int], cache: Cache, say: Callable[[str], None] = show.message) -> ThreadingHTTPServer:
    """Server that listens but does not serve yet. `say`: gets its messages. Raises UsageError for a wrong address."""
    try:
        server = (_Server6 if ":" in place[0] else _Server)(place, _Handler)
    except OSError as error:
        raise UsageError(f"cannot listen on {place[0]} port {place[1]}: {error.strerror}") from None
    server.cache, server.say = cache, say
    return server


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # Seconds for a client that connects and sends nothing.
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/":
            self._answer(HTTPStatus.OK, _INDEX)
        else:
            self._answer(HTTPStatus.NOT_FOUND, _INDEX)

    do_HEAD = do_GET

    def _metrics(self) -> None:
        try:
            text = self.server.cache.text()
        except ClusteradmError as error:
            self.server.say(f"exporter: {error}")
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, _FAILED)
        except Exception:  # a defect: the traceback is for the operator, not for the client
            show.message(traceback.format_exc())
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, _FAILED)
        else:
            self._answer(HTTPStatus.OK, text, CONTENT_TYPE)

    def _answer(self, status: HTTPStatus, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            # Prometheus gives up after its scrape_timeout; the cache has the text for its next request.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    def version_string(self) -> str:
        """Server header without the version of Python."""
        return "clusteradm"

    def log_message(self, format: str, *args: object) -> None:
        """No log line for each request."""
