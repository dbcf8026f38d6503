"""ONC RPC over TCP (RFC 5531) to one NFS server, with the retries of an NFS client.

`hard` calls wait for the server without limit, unless the caller is killed; `soft` ones give up.
"""

import contextlib
import errno
import os
import random
import socket
import struct
import syslog
import threading
import time

from . import xdr

PROGRAM, VERSION, COMPOUND, AUTH_SYS = 100003, 4, 1, 1
_LAST_FRAGMENT = 0x80000000
# The ports below 1024 from which the kernel's client sends (xprt_min_resvport, xprt_max_resvport).
_FIRST_PORT, _LAST_PORT = 665, 1023
# Interval, in seconds, at which a waiting call checks whether its caller was killed or its time is over.
TICK = 1.0


class Server:
    """The address of the server and how long to wait for it. `timeout` in seconds, `retries` for soft mounts."""

    def __init__(self, host, port=2049, timeout=60.0, retries=2, hard=True):
        self.host, self.port = host, port
        self.timeout, self.retries, self.hard = timeout, retries, hard
        self._own = threading.local()
        self._lock = threading.Lock()
        self._xid = int(time.time() * 1000) & 0xFFFFFFFF
        self._silent = False
        self._credentials = {}

    def call(self, body, credentials, caller=0):
        """Send one COMPOUND body; returns (reader placed behind the RPC header, True if it had to be sent again).

        `credentials`: (uid, gid, groups). `caller`: the process that waits for it.
        """
        with self._lock:
            self._xid = (self._xid + 1) & 0xFFFFFFFF
            xid = self._xid
        header = xdr.u32(xid, 0, 2, PROGRAM, VERSION, COMPOUND) + self._authentication(credentials)
        message = [xdr.u32(_LAST_FRAGMENT | (len(header) + sum(map(len, body)))), header, *body]
        tries = 0
        while True:
            try:
                reader = self._exchange(message, xid, caller)
            except InterruptedError:
                self._disconnect()
                raise
            except (OSError, EOFError, struct.error) as error:
                self._disconnect()
                self._log_silence(error)
                tries += 1
                if not self.hard and tries > self.retries:
                    raise OSError(errno.EIO, "the server does not answer") from error
                _let_go_if_killed(caller)
                time.sleep(min(0.2 * tries, 2.0))
            else:
                self._log_answer()
                return reader, tries > 0

    def probe(self):
        """Connect once, or raise OSError."""
        self._connect().close()

    def _exchange(self, message, xid, caller):
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect()
        sent = connection.sendmsg(message)
        if sent < sum(map(len, message)):  # a large write, more than the socket takes at once
            connection.sendall(b"".join(message)[sent:])
        while True:
            reader = xdr.Reader(self._receive(connection, caller))
            if reader.u32() == xid:
                break
        if reader.u32() != 1 or reader.u32() != 0:
            raise OSError(errno.EACCES, "the server refused the call")
        reader.u32()
        reader.opaque()
        if reader.u32() != 0:
            raise OSError(errno.EPROTO, "the server does not take the call")
        return reader

    def _receive(self, connection, caller):
        parts = []
        while True:
            (word,) = struct.unpack(">I", self._exactly(connection, 4, caller))
            parts.append(self._exactly(connection, word & ~_LAST_FRAGMENT, caller))
            if word & _LAST_FRAGMENT:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _exactly(self, connection, size, caller):
        data = bytearray(size)
        view = memoryview(data)
        deadline = None
        while view:
            try:
                got = connection.recv_into(view, 0, socket.MSG_WAITALL)
            except BlockingIOError:
                _let_go_if_killed(caller)
                now = time.monotonic()
                deadline = deadline or now + self.timeout
                if now > deadline:
                    raise OSError(errno.ETIMEDOUT, "no answer") from None
                continue
            if not got:
                raise EOFError("the server closed the connection")
            view = view[got:]
        return data

    def _connect(self):
        connection = self._from_a_privileged_port()
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A server that lost power says nothing; back again, it answers the probe of the old connection with a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in ((socket.TCP_KEEPIDLE, 3), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 10)):
            connection.setsockopt(socket.IPPROTO_TCP, option, seconds)
        # Not settimeout(), which would cost a second system call each time.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(TICK), 0))
        return connection

    def _from_a_privileged_port(self):
        """A new connection, from a port that only root may use, as the kernel's client has it; others take any port."""
        ports = list(range(_FIRST_PORT, _LAST_PORT + 1))
        random.shuffle(ports)
        while True:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                connection.settimeout(min(self.timeout, 5.0))
                with contextlib.suppress(PermissionError):
                    connection.bind(("", ports.pop()))
                connection.connect((self.host, self.port))
                return connection
            except OSError as error:
                connection.close()
                # In use, or an earlier connection from it is not forgotten yet.
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL) or not ports:
                    raise
            except BaseException:
                connection.close()
                raise

    def _disconnect(self):
        connection = getattr(self._own, "connection", None)
        self._own.connection = None
        if connection is not None:
            connection.close()

    def _authentication(self, credentials):
        known = self._credentials.get(credentials)
        if known is None:
            uid, gid, groups = credentials
            name = os.uname().nodename.encode()
            body = xdr.u32(0) + xdr.opaque(name) + xdr.u32(uid, gid, len(groups), *groups)
            known = xdr.u32(AUTH_SYS) + xdr.opaque(body) + xdr.u32(0, 0)
            self._credentials[credentials] = known
        return known

    def _log_silence(self, error):
        if not self._silent:
            self._silent = True
            waits = "still trying" if self.hard else "timed out"
            syslog.syslog(syslog.LOG_WARNING, "nfs: server %s not responding (%s), %s" % (self.host, error, waits))

    def _log_answer(self):
        if self._silent:
            self._silent = False
            syslog.syslog(syslog.LOG_NOTICE, "nfs: server %s OK" % self.host)


def _let_go_if_killed(pid):
    """Raise InterruptedError if SIGKILL waits for the process that called."""
    try:
        with open("/proc/%d/status" % pid) as status:
            for line in status:
                if line.startswith(("SigPnd:", "ShdPnd:")) and int(line.split()[1], 16) >> 8 & 1:
                    raise InterruptedError(errno.EINTR, "killed")
    except FileNotFoundError:
        return
