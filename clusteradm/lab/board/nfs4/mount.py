"""mount.nfs and mount.nfs4, as mount(8) calls them: mount.nfs4 HOST:/PATH DIRECTORY [-sfnvrw] [-o OPTIONS]"""

import os
import socket
import sys
import syslog
import time

from . import fuse
from .client import Client, NfsError
from .filesystem import FileSystem
from .rpc import Server

# Exit status of mount(8)
USAGE, FAILED = 1, 32
# Where the package nfs-common puts its own programs, which this one was diverted from.
REAL = "/sbin/mount.nfs.distrib"
_FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "noatime": 1024,
    "nodiratime": 2048,
}
_NUMBERS = (
    "port",
    "timeo",
    "retrans",
    "retry",
    "rsize",
    "wsize",
    "acregmin",
    "acregmax",
    "acdirmin",
    "acdirmax",
    "actimeo",
)
_WORDS = ("hard", "soft", "bg", "fg", "intr", "nointr", "lock", "nolock", "ac", "noac", "cto", "nocto", "tcp")
# Options for mount(8) and systemd, and those that every file system takes.
_IGNORED = (
    *(
        "rw",
        "suid",
        "dev",
        "exec",
        "async",
        "atime",
        "diratime",
        "relatime",
        "norelatime",
        "strictatime",
        "defaults",
        "auto",
    ),
    *("noauto", "user", "nouser", "users", "nousers", "owner", "group", "_netdev", "nofail", "silent", "loud"),
)


class Failure(Exception):
    """Failed mount: text and exit status."""

    def __init__(self, text, status=FAILED):
        Exception.__init__(self, text)
        self.status = status


def options(text):
    """Options by name. Raises Failure for one that no NFS mount has."""
    result = {}
    for word in filter(None, text.split(",")):
        key, _, value = word.partition("=")
        if key in _NUMBERS:
            if not value.isdigit():
                raise Failure("an incorrect mount option was specified: %s" % word)
            result[key] = int(value)
        elif key in ("vers", "nfsvers"):
            if value not in ("4", "4.0"):
                raise Failure("Protocol not supported (the lab's client speaks NFS 4.0 only)")
        elif key in ("proto", "sec", "clientaddr", "addr", "minorversion", "fsc", "lookupcache", "local_lock"):
            if (key, value) not in (("proto", "tcp"), ("sec", "sys"), ("minorversion", "0")) and key in (
                "proto",
                "sec",
                "minorversion",
            ):
                raise Failure("Protocol not supported: %s" % word)
        elif key in _FLAGS or key in _WORDS:
            result[key] = True
        elif key not in _IGNORED and not key.startswith(("x-", "X-", "comment")):
            raise Failure("an incorrect mount option was specified: %s" % word)
    return result


def arguments(argv):
    """(source, target, options) of the command line."""
    words, given, rest = [], [], iter(argv)
    for word in rest:
        if word == "-o":
            given.append(next(rest, ""))
        elif word.startswith("-") and set(word[1:]) <= set("sfnvrw"):
            given += ["ro"] if "r" in word else []
        else:
            words.append(word)
    if len(words) != 2:
        raise Failure("usage: mount.nfs4 HOST:/PATH DIRECTORY [-o OPTIONS]", USAGE)
    if ":/" not in words[0]:
        raise Failure("remote share not in 'host:dir' format", USAGE)
    return words[0], words[1], options(",".join(given))


def connect(source, chosen):
    """(client, handle of the exported folder); NfsError where the server refuses, OSError where it is not reached."""
    host, _, path = source.partition(":")
    address = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    server = Server(address, chosen.get("port", 2049), chosen.get("timeo", 600) / 10, chosen.get("retrans", 2), False)
    server.probe()
    client = Client(server)
    root = client.root(path)
    server.hard = "soft" not in chosen
    return client, root


def connect_patiently(source, chosen):
    """`connect`, repeated for `retry` minutes while the server cannot be reached."""
    minutes = chosen.get("retry", 10000 if "bg" in chosen and "fg" not in chosen else 2)
    deadline = time.monotonic() + 60 * minutes
    pause = 1.0
    background = "bg" in chosen and "fg" not in chosen
    while True:
        try:
            return connect(source, chosen)
        except NfsError as error:
            raise Failure("mounting %s failed, reason given by server: %s" % (source, error.strerror)) from None
        except socket.gaierror as error:
            raise Failure("Failed to resolve server %s: %s" % (source.partition(":")[0], error.strerror)) from None
        except OSError as error:
            if time.monotonic() >= deadline:
                raise Failure("%s: %s" % (source, error.strerror or error)) from None
        if background:
            sys.stderr.write('mount.nfs4: backgrounding "%s"\n' % source)
            _to_background()
            background = False
        time.sleep(pause)
        pause = min(pause * 1.5, 8.0)


def main(argv):
    try:
        source, target, chosen = arguments(argv)
        if not os.path.exists(REAL):
            raise Failure("bad option; for several filesystems (e.g. nfs, cifs) you might need nfs-common")
        if not os.path.isdir(target):
            raise Failure("mount point %s does not exist" % target)
        syslog.openlog("mount.nfs4", syslog.LOG_PID)
        client, root = connect_patiently(source, chosen)
        flags = 0
        for word, bit in _FLAGS.items():
            flags |= bit if word in chosen else 0
        try:
            connection = fuse.mount(source, os.path.realpath(target), flags)
        except OSError as error:
            raise Failure("mounting on %s failed: %s" % (target, error.strerror)) from None
    except Failure as failure:
        sys.stderr.write("mount.nfs4: %s\n" % failure)
        return failure.status
    except KeyboardInterrupt:
        return FAILED
    _to_background()
    fuse.serve(connection, FileSystem(client, root))
    return 0


def _to_background():
    """Continue in a child process; the one that mount(8) waits for ends with success."""
    sys.stderr.flush()
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
