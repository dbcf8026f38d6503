"""The FUSE protocol on /dev/fuse (linux/fuse.h), without a library.

A file system is an object with a method per operation of OPERATIONS; this reads requests in several threads, calls, and
writes the answers. Inode numbers are the file system's own.
"""

import ctypes
import errno
import os
import stat
import struct
import syslog
import threading
import traceback

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQqqqIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTR_HEAD = struct.Struct("<QII")
_OPENED = struct.Struct("<QII")
_DATA_IN = struct.Struct("<QQIIQII")
_SETATTR = struct.Struct("<IIQQQqqqIIIIIIII")
_INIT_IN = struct.Struct("<IIII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_STATFS = struct.Struct("<QQQQQIIII24x")
_DIRENT = struct.Struct("<QQII")

MAX_WRITE = 1 << 20
_ASYNC_READ, _ATOMIC_TRUNCATE, _BIG_WRITES, _INVALIDATE = 1 << 0, 1 << 3, 1 << 5, 1 << 12
_READDIRPLUS, _READDIRPLUS_AUTO, _PARALLEL_DIROPS, _MAX_PAGES = 1 << 13, 1 << 14, 1 << 18, 1 << 22
_FLAGS = (
    _ASYNC_READ
    | _ATOMIC_TRUNCATE
    | _BIG_WRITES
    | _INVALIDATE
    | _READDIRPLUS
    | _READDIRPLUS_AUTO
    | _PARALLEL_DIROPS
    | _MAX_PAGES
)
KEEP_CACHE = 1 << 1
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW = 1, 2, 4, 8, 16, 32, 128, 256
# How long the kernel may believe attributes and the names of directories, in seconds. Names of files it asks for again
# each time, so that what another host renamed into place is seen at once.
ATTRIBUTES_VALID, FOLDERS_VALID = 1, 1

_INIT, _FORGET, _BATCH_FORGET, _DESTROY, _INTERRUPT = 26, 2, 42, 38, 36


def mount(source, target, flags):
    """Mount and return the connection to the kernel. `flags`: MS_* of mount(2)."""
    connection = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d"
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [os.fsencode(text) for text in (source, target, "fuse.nfs4")]
    if libc.mount(*arguments, ctypes.c_ulong(flags), (options % (connection, MAX_WRITE)).encode()):
        number = ctypes.get_errno()
        os.close(connection)
        raise OSError(number, os.strerror(number), target)
    return connection


def attr(node, a):
    """fuse_attr of attributes.Attributes."""
    return _ATTR.pack(
        *(a.fileid or node, a.size, (a.space + 511) // 512, a.atime[0], a.mtime[0], a.ctime[0]),
        *(a.atime[1], a.mtime[1], a.ctime[1], a.kind | a.mode, a.links, a.uid, a.gid, 0, MAX_WRITE, 0),
    )


def entry(node, a):
    """fuse_entry_out: a name that was looked up or made."""
    valid = FOLDERS_VALID if a.kind == stat.S_IFDIR else 0
    return _ENTRY.pack(node, 0, valid, ATTRIBUTES_VALID, 0, 0) + attr(node, a)


def attributes(node, a):
    return _ATTR_HEAD.pack(ATTRIBUTES_VALID, 0, 0) + attr(node, a)


def opened(handle, flags=0):
    return _OPENED.pack(handle, flags, 0)


def dirent(number, offset, name, kind, prefix=b""):
    """One directory entry; with an `entry` before it, one of readdirplus."""
    body = prefix + _DIRENT.pack(number, offset, len(name), kind >> 12) + name
    return body + b"\0" * (-len(body) % 8)


def space(files, size):
    """fuse_statfs_out; each (available, free, total)."""
    return _STATFS.pack(size[2] // 4096, size[1] // 4096, size[0] // 4096, files[2], files[1], 4096, 255, 4096, 0)


def _names(body, count):
    return [bytes(part) for part in bytes(body).split(b"\0")[:count]]


def _u32s(body, count):
    return struct.unpack_from("<%dI" % count, body)


def _u64(body):
    return struct.unpack_from("<Q", body)[0]


# Operation number -> (method, body -> its arguments after the caller and the node).
OPERATIONS = {
    1: ("lookup", lambda b: _names(b, 1)),
    3: ("getattr", lambda b: ()),
    4: ("setattr", lambda b: (_SETATTR.unpack_from(b),)),
    5: ("readlink", lambda b: ()),
    6: ("symlink", lambda b: _names(b, 2)),
    8: ("mknod", lambda b: (_u32s(b, 1)[0], *_names(b[16:], 1))),
    9: ("mkdir", lambda b: (_u32s(b, 1)[0], *_names(b[8:], 1))),
    10: ("unlink", lambda b: _names(b, 1)),
    11: ("rmdir", lambda b: _names(b, 1)),
    12: ("rename", lambda b: (_u64(b), 0, *_names(b[8:], 2))),
    13: ("link", lambda b: (_u64(b), *_names(b[8:], 1))),
    14: ("open", lambda b: (_u32s(b, 1)[0],)),
    15: ("read", lambda b: _DATA_IN.unpack_from(b)[:3]),
    16: ("write", lambda b: (*_DATA_IN.unpack_from(b)[:2], b[_DATA_IN.size :])),
    17: ("statfs", lambda b: ()),
    18: ("release", lambda b: (_u64(b),)),
    20: ("fsync", lambda b: (_u64(b),)),
    25: ("flush", lambda b: (_u64(b),)),
    27: ("opendir", lambda b: ()),
    28: ("readdir", lambda b: _DATA_IN.unpack_from(b)[:3]),
    29: ("releasedir", lambda b: (_u64(b),)),
    30: ("fsyncdir", lambda b: (_u64(b),)),
    35: ("create", lambda b: (*_u32s(b, 2), *_names(b[16:], 1))),
    44: ("readdirplus", lambda b: _DATA_IN.unpack_from(b)[:3]),
    45: ("rename", lambda b: (_u64(b), _u32s(b[8:], 1)[0], *_names(b[16:], 2))),
}


class Caller:
    """Who asks: (uid, gid) and the process, as far as a request tells."""

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, uid, gid, pid):
        self.uid, self.gid, self.pid = uid, gid, pid


def serve(connection, filesystem, threads=8):
    """Answer requests until the file system is unmounted."""
    table = {number: (getattr(filesystem, name), parse) for number, (name, parse) in OPERATIONS.items()}
    workers = [
        threading.Thread(target=_work, args=(connection, filesystem, table), daemon=True) for _ in range(threads - 1)
    ]
    for worker in workers:
        worker.start()
    _work(connection, filesystem, table)


def _work(connection, filesystem, table):
    buffer = bytearray(MAX_WRITE + 4096)
    view = memoryview(buffer)
    while True:
        try:
            size = os.readv(connection, [buffer])
        except InterruptedError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EAGAIN):
                continue  # the caller was interrupted before its request was read
            return  # ENODEV: unmounted
        _, operation, unique, node, uid, gid, pid, _, _ = _IN.unpack_from(buffer)
        body = view[_IN.size : size]
        if operation == _FORGET:
            filesystem.forget(node, _u64(body))
        elif operation == _BATCH_FORGET:
            for place in range(_u32s(body, 1)[0]):
                filesystem.forget(*struct.unpack_from("<QQ", body, 8 + 16 * place))
        elif operation == _INIT:
            _answer(connection, unique, [_initialise(body)])
        elif operation == _DESTROY:
            _answer(connection, unique, [])
        else:
            _answer(connection, unique, _call(table, operation, Caller(uid, gid, pid), node, body))


def _call(table, operation, caller, node, body):
    """The parts of the answer, or an error number."""
    method, parse = table.get(operation, (None, None))
    if method is None:
        return errno.ENOSYS  # the kernel then does without
    try:
        return method(caller, node, *parse(body)) or []
    except OSError as error:
        return error.errno or errno.EIO
    except Exception:
        _log_defect()
        return errno.EIO


def _log_defect():
    """A defect of this program: into the board's log, and on with the next request."""
    for line in traceback.format_exc().splitlines():
        syslog.syslog(syslog.LOG_ERR, "mount.nfs4: " + line)


def _answer(connection, unique, parts):
    if isinstance(parts, int):
        parts, number = [], parts
    else:
        number = 0
    size = _OUT.size + sum(map(len, parts))
    try:
        os.writev(connection, [_OUT.pack(size, -number, unique), *parts])
    except OSError as error:
        if error.errno == errno.EINVAL and parts:
            _log_defect()  # the kernel did not take the answer; without one the caller would wait for ever
            os.writev(connection, [_OUT.pack(_OUT.size, -errno.EIO, unique)])
        elif error.errno not in (errno.ENOENT, errno.ENODEV, errno.EPERM):  # the caller has gone, or the file system
            raise


def _initialise(body):
    _, minor, readahead, offered = _INIT_IN.unpack_from(body)
    return _INIT_OUT.pack(
        *(7, min(minor, 31), max(readahead, 131072), _FLAGS & offered, 32, 24, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0)
    )
