"""Section "export": whether the head's NFS server answers and exports, and only to the cluster's subnet.

NFSv4.0 (RFC 7530) by ONC RPC over TCP (RFC 5531): one COMPOUND that looks up the exported folder as a mount does.
"""

import errno
import ipaddress
import os
import re
import socket
import struct
import time
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node.probe import pace
from clusteradm.node.texts import read

# As in templates/head/etc/ganesha/ganesha.conf.j2.
PATH = "/cluster"
# A reply has about a hundred bytes.
_LARGEST = 1 << 14
_LAST = 1 << 31
_ACCESS, _GETFH, _LOOKUP, _PUTROOTFH = 3, 10, 15, 24
# Nobody: the server decides by the address, not by the user; and it maps root to nobody.
_UID = 65534

OK = "NFS4_OK"
# An export that an address may not see does not exist for it (Ganesha), or is forbidden.
_REFUSALS = {1: "NFS4ERR_PERM", 2: "NFS4ERR_NOENT", 13: "NFS4ERR_ACCESS", 10016: "NFS4ERR_WRONGSEC"}
_STATUS = {**_REFUSALS, 0: OK, 70: "NFS4ERR_STALE", 10006: "NFS4ERR_SERVERFAULT", 10008: "NFS4ERR_DELAY"}
# accept_stat of an RPC server without NFS, or without version 4.
_ACCEPTED = {1: "PROG_UNAVAIL", 2: "PROG_MISMATCH"}
# RPC refuses the caller; the number after it is auth_stat.
_AUTH = "AUTH_ERROR"
_STRANGER = "what answers is no NFS server"


class NoAnswer(Exception):
    """No reply, or not one of an NFS server; the text says which."""


def probe(root: str, options: Dict[str, Any], limit: float = 3.0, port: int = 2049) -> Optional[Dict[str, Any]]:
    """`options`: "head": null on the head (else None is returned), "address": its own, "subnet": the cluster's (CIDR).

    Within `limit` seconds: {"answers": bool, "exports": bool, null where nothing answers, "error": why one of them is
    not true, "outsider": see `outsider`, null where nobody was asked}; and where it does not export, "handles": see
    `handles`.
    """
    if options.get("head") is not None:
        return None
    end = time.monotonic() + pace.seconds(limit)
    server = (str(options.get("address")), port)
    found: Dict[str, Any] = {"answers": False, "exports": None, "error": None, "outsider": None}
    try:
        said = ask(server[0], server, end)
    except NoAnswer as error:
        found["error"] = str(error)
        found["handles"] = handles(options.get("shared"))
        return found
    found.update(answers=True, exports=said == OK)
    if said != OK:
        found["error"] = "asked for %s from %s, it says %s" % (PATH, server[0], said)
        found["handles"] = handles(options.get("shared"))
    sources = outside(read(root, "proc/net/fib_trie") or "", str(options.get("subnet")))
    found["outsider"] = outsider(sources, server, end)
    return found


def handles(path: Optional[str]) -> Optional[bool]:
    """Whether the file system of this folder has file handles (name_to_handle_at(2)), which an NFS server works with.

    None if unknown. Not every one has: overlayfs without nfs_export, ramfs, most of FUSE.
    """
    if not path or not os.path.isdir(path):
        return None
    import ctypes  # only where something is wrong

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "name_to_handle_at"):
        return None
    # struct file_handle: its size in bytes, its type, then room for the handle (MAX_HANDLE_SZ).
    handle, mount = ctypes.create_string_buffer(struct.pack("II", 128, 0), 8 + 128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount), 0) == 0:
        return True
    return False if ctypes.get_errno() == errno.EOPNOTSUPP else None


def outside(fib_trie: str, subnet: str) -> List[str]:
    """This host's own IPv4 addresses outside the subnet, from /proc/net/fib_trie; none if that is no subnet."""
    try:
        network = ipaddress.IPv4Network(subnet, strict=False)
    except ValueError:
        return []
    own = re.findall(r"\|-- ([\d.]+)\n(?:\s+/.*\n)*?\s+/32 host LOCAL", fib_trie)
    return [address for address in sorted(set(own)) if ipaddress.IPv4Address(address) not in network]


def outsider(sources: List[str], server: Tuple[str, int], end: float) -> Optional[Dict[str, Any]]:
    """{"from": address, "refused": null if the server did not answer, "said": its answer, or why there is none}.

    Of all the addresses: one that was let in, else one that was refused, else one that got no answer.
    """
    found = []
    for number, source in enumerate(sources):
        now = time.monotonic()
        refused: Optional[bool] = None
        try:
            said = ask(source, server, now + (end - now) / (len(sources) - number))
        except NoAnswer as error:
            said = str(error)
        else:
            if said == OK or said.startswith((*_REFUSALS.values(), _AUTH)):
                refused = said != OK
        found.append({"from": source, "refused": refused, "said": said})
    return min(found, key=lambda one: (False, True, None).index(one["refused"])) if found else None


def ask(source: str, server: Tuple[str, int], end: float) -> str:
    """The server's status for the exported folder, asked from this address of the host. Raises NoAnswer."""
    number = struct.unpack(">I", os.urandom(4))[0]
    request, steps = call(number, PATH)
    seconds = end - time.monotonic()
    silence = "no connection"
    try:
        # Never a name: resolving it may take long.
        socket.inet_aton(server[0])
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            # Reset on close, if given up: nothing is left behind in a server that hangs.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            _bind(connection, source)
            connection.settimeout(_left(end))
            connection.connect(server)
            silence = "it takes connections, but does not answer"
            connection.sendall(request)
            got, message = b"", None
            while message is None:
                connection.settimeout(_left(end))
                more = connection.recv(4096)
                if not more:
                    raise NoAnswer("it closes the connection without an answer")
                got += more
                message = record(got)
            # No reset after an answer: the server would log it as an error.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            return answer(message, number, steps)
    except socket.timeout:
        raise NoAnswer("%s (%.1f s)" % (silence, seconds))
    except ConnectionRefusedError:
        raise NoAnswer("connection refused: nothing listens at %s, port %d" % server)
    except OSError as error:
        raise NoAnswer("from %s: %s" % (source, error.strerror or error))


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise socket.timeout
    return left


def _bind(connection: socket.socket, source: str) -> None:
    # A privileged port if one is free, so that a refusal is about the address.
    for port in (*range(1023, 664, -1), 0):
        try:
            connection.bind((source, port))
            return
        except OSError as error:
            if port == 0 or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise


def call(number: int, path: str) -> Tuple[bytes, int]:
    """A COMPOUND, as one record, that looks up the path and asks for access; and its number of operations.

    ACCESS, because a server whose folder was replaced still finds the path.
    """
    parts = [part.encode() for part in path.split("/") if part]
    steps = [_u32(_PUTROOTFH)]
    steps += [_u32(_LOOKUP) + _opaque(part) for part in parts]
    steps += [_u32(_GETFH), _u32(_ACCESS, 1 | 2)]
    credentials = _u32(1) + _opaque(_u32(0) + _opaque(os.fsencode(os.uname().nodename)) + _u32(_UID, _UID, 0))
    message = _u32(number, 0, 2, 100003, 4, 1) + credentials + _u32(0, 0)
    message += _u32(0, 0, len(steps)) + b"".join(steps)
    return _u32(_LAST | len(message)) + message, len(steps)


def _u32(*numbers: int) -> bytes:
    return struct.pack(">%dI" % len(numbers), *numbers)


def _opaque(data: bytes) -> bytes:
    return _u32(len(data)) + data + b"\0" * (-len(data) % 4)


def record(data: bytes) -> Optional[bytes]:
    """The message of the first record (RFC 5531), its fragments joined; None if it is incomplete. Raises NoAnswer."""
    message, place = b"", 0
    while len(data) >= place + 4:
        mark = struct.unpack_from(">I", data, place)[0]
        begin, place = place + 4, place + 4 + (mark & ~_LAST)
        if place > _LARGEST:
            raise NoAnswer(_STRANGER)
        if place > len(data):
            break
        message += data[begin:place]
        if mark & _LAST:
            return message
    return None


def answer(message: bytes, number: int, steps: int) -> str:
    """Status in the reply to a call: nfsstat4's name, or why RPC refused the call. Raises NoAnswer."""
    try:
        xid, kind, denied = struct.unpack_from(">3I", message)
        if (xid, kind) != (number, 1) or denied > 1:
            raise NoAnswer(_STRANGER)
        if denied:
            why, detail = struct.unpack_from(">2I", message, 12)
            return "%s %d" % (_AUTH, detail) if why == 1 else "RPC_MISMATCH"
        place = 20 + _padded(message, 16)
        accepted = struct.unpack_from(">I", message, place)[0]
        if accepted:
            return _ACCEPTED.get(accepted, "accept_stat %d" % accepted)
        status = struct.unpack_from(">I", message, place + 4)[0]
        done = struct.unpack_from(">I", message, place + 12 + _padded(message, place + 8))[0]
    except struct.error:
        raise NoAnswer("its answer is cut short")
    if status == 0 and done != steps:
        raise NoAnswer("its answer lacks some of the operations that were asked for")
    return _STATUS.get(status, "nfsstat4 %d" % status)


def _padded(message: bytes, place: int) -> int:
    size = int(struct.unpack_from(">I", message, place)[0])
    return size + -size % 4
