"""Bounds that Paramiko lacks on what a peer sends: its identification, packets, and data beyond a channel's window."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.packet import Packetizer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

# Bytes before the key exchange: the lines before "SSH-2.0-..." and that line.
MOST_BANNER = 1 << 16
# Bytes of a packet. The standard asks for 35,000; OpenSSH takes 256 KiB.
MOST_PACKET = 1 << 18
# Longest time that one packet may take to be written; a host that takes it no faster is as good as gone.
_WRITE_SECONDS = 45.0
_MOST_REFUSED = 10
# Characters that are kept of what a host says before it is trusted.
_MOST_WORDS = 200


class BoundedPacketizer(Packetizer):
    """Packets of a connection, none of which is larger or slower than the bounds above."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sock = sock
        self._banner_bytes = 0
        self.preamble = b""
        self._banner_deadline: float | None = None

    def _read_timeout(self, timeout: float) -> bytes:
        """Some bytes of the peer's identification. `timeout`: of a line; the first one's is that of all."""
        if self._banner_deadline is None:
            self._banner_deadline = time.monotonic() + timeout
        left = self._banner_deadline - time.monotonic()
        if self.closed or left <= 0:
            raise TimeoutError
        data: bytes = super()._read_timeout(min(timeout, left))  # type: ignore[misc]  # not in its stubs
        self._banner_bytes += len(data)
        self.preamble = (self.preamble + data)[: 4 * _MOST_WORDS]
        if self._banner_bytes > MOST_BANNER:
            raise paramiko.SSHException(f"more than {MOST_BANNER} bytes before the key exchange")
        return data

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Exactly `n` bytes."""
        if n > MOST_PACKET:
            raise paramiko.SSHException(f"a packet of {n} bytes")
        data: bytes = super().read_all(n, check_rekey)
        return data

    def write_all(self, out: Buffer) -> None:
        """Write all of the bytes. Raises EOFError where the peer does not take them."""
        left, refused = bytes(out), 0
        deadline = time.monotonic() + _WRITE_SECONDS
        while left:
            try:
                sent = self._sock.send(left)
            except (TimeoutError, BlockingIOError):
                pass
            except OSError:
                raise EOFError from None
            else:
                left = left[sent:]
                refused += not sent  # a gateway's channel that is closed takes nothing
            if left and (self.closed or refused > _MOST_REFUSED or time.monotonic() >= deadline):
                raise EOFError


class _BoundedPipe(BufferedPipe):  # type: ignore[type-arg]  # generic in its stubs alone
    """Data of a channel that was not read yet. `most`: its limit, in bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def feed(self, data: bytes) -> None:
        """Add data. Raises SSHException beyond the limit, which ends the connection: Paramiko does not check."""
        if len(self) + len(data) > self._most:
            raise paramiko.SSHException("the host sends more than the channel's window")
        super().feed(data)


@dataclass(frozen=True)
class Heard:
    """What a host said before a login succeeded, each in one bounded line.

    `goodbye`: the reason of its disconnection; `banner`: the last one of its login, which is a notice to everybody
    (sshd's `Banner`), or what PAM says of the account; `preamble`: what came before, or instead of, its identification;
    `at_login`: whether the connection came to the login.
    """

    goodbye: str = ""
    banner: str = ""
    preamble: str = ""
    at_login: bool = False


class Transport(paramiko.Transport):
    """A Transport of Paramiko with these bounds, which keeps what the host says of a login: Paramiko only logs it."""

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, packetizer_class=BoundedPacketizer, **options)
        self._goodbye = b""

    def _parse_disconnect(self, m: paramiko.Message) -> None:
        m.get_int()
        self._goodbye = m.get_string()

    @property
    def heard(self) -> Heard:
        """What the host has said so far."""
        handler = self.auth_handler
        banner = handler.banner if handler is not None else None
        packetizer = self.packetizer
        preamble = packetizer.preamble if isinstance(packetizer, BoundedPacketizer) else b""
        before = preamble if preamble.startswith(b"SSH-") else preamble.partition(b"\nSSH-")[0]
        return Heard(
            goodbye=_line(self._goodbye),
            banner=_line(banner),
            preamble="" if before.startswith(b"SSH-") else _line(before),
            at_login=handler is not None,
        )


def _line(data: bytes | str | None) -> str:
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""
    return " ".join(text.replace('"', "'").split())[:_MOST_WORDS]


def open_session(connection: paramiko.Transport, command: str, timeout: float) -> paramiko.Channel:
    """A channel that runs the command. Raises what Paramiko raises, of any kind: the peer's bytes decide."""
    channel = connection.open_session(timeout=timeout)
    most = 2 * connection.default_window_size
    channel.in_buffer, channel.in_stderr_buffer = _BoundedPipe(most), _BoundedPipe(most)
    answered = threading.Timer(timeout, channel.close)  # exec_command itself waits for ever
    answered.daemon = True
    answered.start()
    try:
        channel.exec_command(os.fsencode(command))  # it may name a file in another encoding
    except BaseException:
        channel.close()
        raise
    finally:
        answered.cancel()
    return channel
