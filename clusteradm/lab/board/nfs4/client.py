"""NFSv4.0 (RFC 7530): the operations that a file system needs, on file handles.

Reads and writes use the anonymous stateid; only the creation of a file opens it, as the protocol wants it. What a
process keeps open is protected from removal by this host in filesystem (as NFS clients do), not by state on the server.
"""

import errno
import os
import struct
import threading
import time

from . import xdr
from .attributes import WANTED, attributes, settings

# Operations
ACCESS, CLOSE, COMMIT, CREATE, GETATTR, GETFH, LINK, LOOKUP, OPEN, OPEN_CONFIRM = 3, 4, 5, 6, 9, 10, 11, 15, 18, 20
PUTFH, PUTROOTFH, READ, READDIR, READLINK, REMOVE, RENAME, SAVEFH, SETATTR = 22, 24, 25, 26, 27, 28, 29, 32, 34
SETCLIENTID, SETCLIENTID_CONFIRM, WRITE = 35, 36, 38
# Errors that the client handles
DELAY, GRACE, EXPIRED, STALE_CLIENTID = 10008, 10013, 10011, 10022
# The server has forgotten an open-owner or its state (STALE_STATEID, BAD_STATEID, BAD_SEQID, the last two above).
_FORGOTTEN = (EXPIRED, STALE_CLIENTID, 10023, 10025, 10026)
_ERRNO = {
    10001: errno.EBADF,
    10003: errno.EINVAL,
    10004: errno.ENOTSUP,
    10005: errno.ENOSPC,
    10006: errno.EIO,
    10010: errno.EACCES,
    10014: errno.ESTALE,
    10016: errno.EACCES,
    10018: errno.ENOSPC,
    10020: errno.ESTALE,
    10029: errno.ELOOP,
    10032: errno.ENOTSUP,
}
READABLE, LOOKABLE, WRITABLE, EXECUTABLE = 1, 2, 4, 32
_ANONYMOUS = b"\0" * 16
ROOT = (0, 0, ())
_GETATTR = xdr.u32(GETATTR) + WANTED
_SPACE = xdr.u32(GETATTR) + xdr.bitmap([21, 22, 23, 42, 43, 44])


class NfsError(OSError):
    """Error status of the server. `status`: nfsstat4."""

    def __init__(self, status):
        # Below 10000 the numbers are those of Unix, where Linux has kept them.
        number = (
            _ERRNO.get(status, errno.EIO)
            if status > 100
            else {63: errno.ENAMETOOLONG, 66: errno.ENOTEMPTY, 69: errno.EDQUOT, 70: errno.ESTALE}.get(status, status)
        )
        OSError.__init__(self, number, os.strerror(number))
        self.status = status


class Client:
    """One mount of one server. Every method takes the caller: (credentials, pid)."""

    def __init__(self, server):
        self._server = server
        self._lock = threading.Lock()
        self._verifier = struct.pack(">Q", time.time_ns())
        self._clientid = None
        self._owners = []
        self._made = 0

    # ---- one compound ----

    def run(self, caller, *operations):
        """Send operations; returns (reader, sent twice). Each operation is bytes that begin with its number."""
        body = [xdr.u32(0, 0, len(operations)), *operations]
        while True:
            reader, again = self._server.call(body, caller[0], caller[1])
            status = reader.u32()
            reader.opaque()
            reader.u32()
            if status not in (DELAY, GRACE):
                break
            time.sleep(0.5)
        if status:
            error = NfsError(status)
            error.again = again
            raise error
        return reader, again

    @staticmethod
    def _skip(reader, count=1):
        """Step over results that are only (operation, status)."""
        reader.place += 8 * count

    def on(self, caller, handle, *operations):
        """`run` on one file; the reader stands at the first operation's result."""
        reader, _ = self.run(caller, _put(handle), *operations)
        self._skip(reader)
        return reader

    # ---- looking ----

    def root(self, path):
        """The handle of an exported path; NfsError as the server says."""
        names = [xdr.u32(LOOKUP) + xdr.opaque(part.encode()) for part in path.split("/") if part]
        reader, _ = self.run((ROOT, 0), xdr.u32(PUTROOTFH), *names, xdr.u32(GETFH))
        self._skip(reader, len(names) + 2)
        return bytes(reader.opaque())

    def lookup(self, caller, folder, name):
        reader = self.on(caller, folder, xdr.u32(LOOKUP) + xdr.opaque(name), _GETATTR)
        self._skip(reader, 2)
        return attributes(reader)

    def getattr(self, caller, handle):
        reader = self.on(caller, handle, _GETATTR)
        self._skip(reader)
        return attributes(reader)

    def access(self, caller, handle, wanted):
        """(what of `wanted` is allowed, attributes)."""
        reader = self.on(caller, handle, xdr.u32(ACCESS, wanted), _GETATTR)
        self._skip(reader)
        reader.u32()
        allowed = reader.u32()
        self._skip(reader)
        return allowed, attributes(reader)

    def readlink(self, caller, handle):
        reader = self.on(caller, handle, xdr.u32(READLINK))
        self._skip(reader)
        return bytes(reader.opaque())

    def readdir(self, caller, handle, cookie, verifier):
        """(entries [(cookie, name, attributes)], verifier, at the end)."""
        request = xdr.u32(READDIR) + xdr.u64(cookie) + verifier + xdr.u32(16384, 65536) + WANTED
        reader = self.on(caller, handle, request)
        self._skip(reader)
        verifier = bytes(reader.fixed(8))
        entries = []
        while reader.u32():
            cookie = reader.u64()
            name = bytes(reader.opaque())
            entries.append((cookie, name, attributes(reader)))
        return entries, verifier, bool(reader.u32())

    def space(self, caller, handle):
        """Files (available, free, total), then bytes (available, free, total)."""
        reader = self.on(caller, handle, _SPACE)
        self._skip(reader)
        found = reader.bits()
        reader.u32()
        values = {bit: reader.u64() for bit in found}
        return [values.get(bit, 0) for bit in (21, 22, 23, 42, 43, 44)]

    # ---- data ----

    def read(self, caller, handle, offset, size):
        """Pieces of data; fewer bytes than `size` only at the end of the file."""
        pieces = []
        while size:
            reader = self.on(caller, handle, xdr.u32(READ) + _ANONYMOUS + xdr.u64(offset) + xdr.u32(size))
            self._skip(reader)
            end = reader.u32()
            data = reader.opaque()
            pieces.append(data)
            offset += len(data)
            size -= len(data)
            if end or not len(data):
                break
        return pieces

    def write(self, caller, handle, offset, data):
        """Unstable: safe on the server's disk only after `commit`."""
        done = 0
        while done < len(data):
            rest = bytes(data[done:])
            head = xdr.u32(WRITE) + _ANONYMOUS + xdr.u64(offset + done) + xdr.u32(0)
            reader = self.on(caller, handle, head + xdr.opaque(rest))
            self._skip(reader)
            done += reader.u32()

    def commit(self, caller, handle):
        self.on(caller, handle, xdr.u32(COMMIT) + xdr.u64(0) + xdr.u32(0))

    # ---- changing ----

    def setattr(self, caller, handle, values):
        """Set a fattr4 (see settings); returns the new attributes."""
        reader = self.on(caller, handle, xdr.u32(SETATTR) + _ANONYMOUS + values, _GETATTR)
        self._skip(reader)
        reader.bits()
        self._skip(reader)
        return attributes(reader)

    def make(self, caller, folder, name, kind, values):
        """CREATE: anything but a regular file. `kind`: createtype4, encoded."""
        request = xdr.u32(CREATE) + kind + xdr.opaque(name) + values
        try:
            reader = self.on(caller, folder, request, _GETATTR)
        except NfsError as error:
            if error.errno == errno.EEXIST and error.again:  # the first sending did it
                return self.lookup(caller, folder, name)
            raise
        self._skip(reader)
        reader.place += 20
        reader.bits()
        self._skip(reader)
        return attributes(reader)

    def remove(self, caller, folder, name):
        try:
            self.on(caller, folder, xdr.u32(REMOVE) + xdr.opaque(name))
        except NfsError as error:
            if not (error.errno == errno.ENOENT and error.again):
                raise

    def rename(self, caller, folder, name, new_folder, new_name):
        rename = xdr.u32(RENAME) + xdr.opaque(name) + xdr.opaque(new_name)
        try:
            self.on(caller, folder, xdr.u32(SAVEFH), _put(new_folder), rename)
        except NfsError as error:
            if not (error.errno == errno.ENOENT and error.again):
                raise

    def link(self, caller, handle, folder, name):
        try:
            self.on(caller, handle, xdr.u32(SAVEFH), _put(folder), xdr.u32(LINK) + xdr.opaque(name))
        except NfsError as error:
            if not (error.errno == errno.EEXIST and error.again):
                raise
        return self.lookup(caller, folder, name)

    def create(self, caller, folder, name, mode, exclusive, truncate):
        """Create a regular file, or find it if it is there and that is allowed; returns its attributes."""
        while True:
            clientid = self._identity()
            owner = self._take_owner()
            values = settings(mode=mode, size=0 if truncate else None)
            request = (
                xdr.u32(OPEN, owner.sequence, 3, 0)
                + xdr.u64(clientid)
                + xdr.opaque(owner.name)
                + xdr.u32(1, 1 if exclusive else 0)
                + values
                + xdr.u32(0)
                + xdr.opaque(name)
            )
            try:
                reader = self.on(caller, folder, request, _GETATTR)
                owner.sequence += 1
                self._skip(reader)
                state = bytes(reader.fixed(16))
                reader.place += 20
                flags = reader.u32()
                reader.bits()
                if reader.u32():
                    raise OSError(errno.EPROTO, "the server gave a delegation that nobody asked for")
                self._skip(reader)
                found = attributes(reader)
                if flags & 2:
                    reader = self.on(caller, found.handle, xdr.u32(OPEN_CONFIRM) + state + xdr.u32(owner.sequence))
                    owner.sequence += 1
                    self._skip(reader)
                    state = bytes(reader.fixed(16))
                self.on(caller, found.handle, xdr.u32(CLOSE, owner.sequence) + state)
                owner.sequence += 1
            except NfsError as error:
                if error.status in _FORGOTTEN:
                    with self._lock:
                        self._owners.clear()
                        if error.status in (STALE_CLIENTID, EXPIRED) and self._clientid == clientid:
                            self._clientid = None
                    continue
                # The owner's sequence is in doubt after a failure: the next creation takes another.
                raise
            with self._lock:
                self._owners.append(owner)
            return found

    def _identity(self):
        """The client id, asked for once and again when the server has forgotten it."""
        with self._lock:
            if self._clientid is None:
                name = "clusteradm-lab %s %d %d" % (
                    os.uname().nodename,
                    os.getpid(),
                    struct.unpack(">Q", self._verifier)[0],
                )
                request = (
                    xdr.u32(SETCLIENTID)
                    + self._verifier
                    + xdr.opaque(name.encode())
                    # No way back for the server's calls: then it gives no delegations.
                    + xdr.u32(0x40000000)
                    + xdr.opaque(b"tcp")
                    + xdr.opaque(b"0.0.0.0.0.0")
                    + xdr.u32(1)
                )
                reader, _ = self.run((ROOT, 0), request)
                self._skip(reader)
                clientid = reader.u64()
                confirmation = bytes(reader.fixed(8))
                self.run((ROOT, 0), xdr.u32(SETCLIENTID_CONFIRM) + xdr.u64(clientid) + confirmation)
                self._clientid = clientid
            return self._clientid

    def _take_owner(self):
        with self._lock:
            if self._owners:
                return self._owners.pop()
            self._made += 1
            return _Owner(b"%d" % self._made)


class _Owner:
    """An open-owner: its calls are numbered, so one creation uses it at a time."""

    def __init__(self, name):
        self.name = name
        self.sequence = 1


def _put(handle):
    return xdr.u32(PUTFH) + xdr.opaque(handle)
