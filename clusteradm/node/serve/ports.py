"""Ports of a board's server: bound by the supervisor, shared with nobody else, and who has one that is taken."""

import contextlib
import errno
import os
import socket
from typing import Optional, Set

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"


class PortTaken(Exception):
    """Another program listens there; the text says which, as far as it can be seen."""


def listen(address: str, port: int, backlog: int = 4096) -> socket.socket:
    """A listening socket. Raises PortTaken, and OSError for an address that is not this host's."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # For the connections of the program that was here before; it does not let two of them listen.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise OSError(error.errno, "cannot listen on %s port %d: %s" % (address, port, error.strerror)) from None
        text = "port %d of %s is taken by %s: end it, or change the port in serve.json"
        raise PortTaken(text % (port, address, owner(port) or "another program")) from None
    return listener


def check_free(address: str, port: int) -> None:
    """Raise PortTaken for a port that a process of ours is to have later."""
    if port:
        listen(address, port, 1).close()


def owner(port: int, root: str = "/proc") -> Optional[str]:
    """The program that listens on a port, "haproxy (process 123)"; None where this user may not see it."""
    inodes = {inode for table in _TABLES for inode in _listening(table, port)}
    for pid in filter(str.isdigit, os.listdir(root)):
        with contextlib.suppress(OSError):
            folder = os.path.join(root, pid, "fd")
            for fd in os.listdir(folder):
                with contextlib.suppress(OSError):
                    if os.readlink(os.path.join(folder, fd)) in inodes:
                        with open(os.path.join(root, pid, "comm"), encoding="utf-8", errors="replace") as file:
                            return "%s (process %s)" % (ascii(file.read().strip())[1:-1], pid)
    return None


def _listening(table: str, port: int) -> Set[str]:
    found = set()
    with contextlib.suppress(OSError), open(table, encoding="ascii", errors="replace") as file:
        for line in file:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(":%04X" % port):
                found.add("socket:[%s]" % fields[9])
    return found
