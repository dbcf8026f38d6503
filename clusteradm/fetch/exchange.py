"""One HTTP request, made by a thread of its own.

Whoever waits for it waits on a queue: so a limit of time holds for all of it (the name, the connection, TLS, headers
one byte at a time), and Ctrl-C ends it at once, where the interpreter would see the signal only after a blocking call.
"""

from __future__ import annotations

import http.client
import queue
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from types import TracebackType

from clusteradm.errors import TooManyOpenFiles
from clusteradm.fetch.address import Address
from clusteradm.fetch.errors import Broken, FetchFailed

_CHUNK = 1 << 16
# Chunks that wait to be taken.
_WAITING = 16
# A server that gives less than this in the time limit has stalled.
_LEAST = 1 << 10


@dataclass(frozen=True)
class Answer:
    """Status and headers of an answer."""

    status: int
    headers: Message


class Exchange:
    """A request to one address; redirections are not followed.

    `seconds`: until it is answered, and from then on for each KiB of the body. Its end closes the connection.
    """

    def __init__(self, address: Address, headers: Mapping[str, str], seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._request = urllib.request.Request(  # noqa: S310 - Address lets http and https through alone
            address.requested, headers=dict(headers)
        )
        self._said: queue.Queue[Answer | bytes | BaseException | None] = queue.Queue(_WAITING)
        self._ended = threading.Event()
        # A daemon: one that waits for a server when the program ends is not waited for.
        threading.Thread(target=self._run, name=f"fetch {address.host}", daemon=True).start()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; what still comes is dropped."""
        self._ended.set()

    def answer(self) -> Answer:
        """Wait for status and headers. Raises FetchFailed where there is no way to the server, else Broken."""
        said = self._next(time.monotonic() + self._seconds)
        if not isinstance(said, Answer):
            raise Broken("the server answered with nothing")
        return said

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes. Raises Broken where it stalls or is cut; not if it is shorter than Content-Length."""
        deadline, came = time.monotonic() + self._seconds, 0
        while True:
            said = self._next(deadline)
            if not isinstance(said, bytes):
                return
            yield said
            came += len(said)
            if came >= _LEAST:
                deadline, came = time.monotonic() + self._seconds, 0

    def _next(self, deadline: float) -> Answer | bytes | None:
        try:
            said = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Broken(f"the server sent nothing for {self._seconds:.0f} s") from None
        if isinstance(said, BaseException):
            raise _judged(said, self._address) from said
        return said

    def _run(self) -> None:
        try:
            # The one who waits gives up first; this only ends the thread.
            response = _opener(self._address).open(self._request, timeout=2 * self._seconds)
            with response:
                self._put(Answer(response.status, response.headers))
                # Some versions of http.client read beyond it here.
                left = response.length
                while not self._ended.is_set():
                    chunk = response.read1(_CHUNK if left is None else min(_CHUNK, left))
                    if not chunk:
                        break
                    left = None if left is None else left - len(chunk)
                    self._put(chunk)
            self._put(None)
        # Whatever it is, it is told to the one who waits.
        except BaseException as error:
            self._put(error)

    def _put(self, said: Answer | bytes | BaseException | None) -> None:
        while not self._ended.is_set():
            try:
                self._said.put(said, timeout=0.5)
                return
            except queue.Full:
                continue


def _opener(address: Address) -> urllib.request.OpenerDirector:
    """Requests with the system's certificates and the proxies of the environment; nothing else follows or retries.

    This machine itself is asked directly: plain http to it is allowed because nobody is in between.
    """
    opener = urllib.request.OpenerDirector()
    proxies = _proxies(address)
    if not all(re.match("(https?://)?[^:/]+(:[0-9]+)?/?$|https?://", proxy) for proxy in proxies.values()):
        # urllib would speak HTTP to it.
        raise OSError(f"{address.scheme}_proxy of the environment names a proxy of no known kind")
    opener.add_handler(urllib.request.ProxyHandler(proxies))
    opener.add_handler(urllib.request.HTTPHandler())
    if address.scheme == "https":
        opener.add_handler(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    # urllib names itself otherwise.
    opener.addheaders = [("User-Agent", "clusteradm")]
    return opener


def _proxies(address: Address) -> dict[str, str]:
    """Scheme -> URL of the proxy for this address; empty without one."""
    if address.is_loopback or urllib.request.proxy_bypass(address.host):
        return {}
    found = urllib.request.getproxies()
    return {address.scheme: found[address.scheme]} if address.scheme in found else {}


def _judged(error: BaseException, address: Address) -> Exception:
    """FetchFailed where another attempt would not help, else Broken."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    by_hand = "or fetch the file on another machine, and name its path"
    # Its URL may have a password.
    through = f" through {address.scheme}_proxy of the environment" if _proxies(address) else ""
    if TooManyOpenFiles.is_cause(error):
        return TooManyOpenFiles(where=address.shown)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return FetchFailed(
            f"the certificate of {address.host} is not believed: {reason.verify_message}",
            where=address.shown,
            next_step=f"see that this machine's clock is right (date) and ca-certificates is installed, {by_hand}",
        )
    if isinstance(reason, socket.gaierror):
        return FetchFailed(
            f"the name {address.host} cannot be resolved{through} ({reason.strerror}): no such name, or no network",
            where=address.shown,
            next_step=f"try again with a network, {by_hand}",
        )
    if isinstance(reason, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError)):
        return Broken(reason.strerror or str(reason) or "no answer in time")
    if isinstance(reason, http.client.IncompleteRead):
        return Broken("the connection ended early")
    if isinstance(reason, http.client.HTTPException):
        return Broken(f"the answer is no HTTP: {type(reason).__name__}")
    if isinstance(reason, ssl.SSLError):
        return Broken(f"TLS failed: {reason.reason or reason}")
    if isinstance(reason, UnicodeError):
        return FetchFailed(f"{address.host} is no name of a host", where=address.shown)
    if isinstance(reason, OSError):
        return FetchFailed(
            f"cannot connect to {address.host}{through}: {reason.strerror or reason}",
            where=address.shown,
            next_step=f"see that this machine has a way there, {by_hand}",
        )
    return reason if isinstance(reason, Exception) else Broken(str(reason))
