"""FUSE requests answered by an NFSv4.0 client: inodes and file handles, what is open, what may be cached."""

import errno
import os
import stat
import threading
import time

from . import fuse, xdr
from .attributes import settings
from .client import EXECUTABLE, LOOKABLE, READABLE, WRITABLE, NfsError

_NO_REPLACE, _EXCHANGE = 1, 2
_GROUPS_VALID = 1.0


class Inode:
    """A file that the kernel has looked up. `change`: the server's change attribute of the pages that are cached."""

    __slots__ = ("change", "handle", "lookups", "opens", "removed")

    def __init__(self, handle):
        self.handle = handle
        self.lookups = 0
        self.opens = 0
        self.change = None
        self.removed = None  # (folder's handle, name) that it was moved to instead of being removed


class Folder:
    """An open directory: the server's entries that the kernel has not taken yet."""

    def __init__(self):
        self.entries = []
        self.offset = 0
        self.cookie = 0
        self.verifier = b"\0" * 8
        self.end = False


class FileSystem:
    """Operations of `fuse.OPERATIONS` on the exported directory with the handle `root`."""

    def __init__(self, client, root):
        self._client = client
        self._inodes = {1: Inode(root)}
        self._numbers = {root: 1}
        self._next = 2
        self._lock = threading.Lock()
        self._files = {}
        self._folders = {}
        self._handles = 0
        self._groups = {}

    # ---- inodes ----

    def _who(self, caller):
        """(credentials, pid) for the client; a process's supplementary groups are believed for a second."""
        now = time.monotonic()
        known = self._groups.get(caller.pid)
        if known is None or known[0] < now or known[1] != (caller.uid, caller.gid):
            known = (now + _GROUPS_VALID, (caller.uid, caller.gid), _groups(caller.pid))
            if len(self._groups) > 1000:
                self._groups.clear()
            self._groups[caller.pid] = known
        return (caller.uid, caller.gid, known[2]), caller.pid

    def _handle(self, number):
        inode = self._inodes.get(number)
        if inode is None:
            raise OSError(errno.ESTALE, "unknown inode")
        return inode.handle

    def _remember(self, found):
        """Number of the file with these attributes; counts one more lookup by the kernel."""
        with self._lock:
            number = self._numbers.get(found.handle)
            if number is None:
                number = self._next
                self._next += 1
                self._numbers[found.handle] = number
                self._inodes[number] = Inode(found.handle)
            self._inodes[number].lookups += 1
            return number

    def forget(self, number, count):
        with self._lock:
            inode = self._inodes.get(number)
            if inode is None or number == 1:
                return
            inode.lookups -= count
            if inode.lookups <= 0:
                del self._inodes[number]
                self._numbers.pop(inode.handle, None)

    def _entry(self, found):
        return fuse.entry(self._remember(found), found)

    # ---- looking ----

    def lookup(self, caller, number, name):
        return [self._entry(self._client.lookup(self._who(caller), self._handle(number), name))]

    def getattr(self, caller, number):
        return [fuse.attributes(number, self._client.getattr(self._who(caller), self._handle(number)))]

    def readlink(self, caller, number):
        return [self._client.readlink(self._who(caller), self._handle(number))]

    def statfs(self, caller, number):
        values = self._client.space(self._who(caller), self._handle(number))
        return [fuse.space(values[:3], values[3:])]

    def setattr(self, caller, number, asked):
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = asked
        values = settings(
            size=size if valid & fuse.SET_SIZE else None,
            mode=mode if valid & fuse.SET_MODE else None,
            uid=uid if valid & fuse.SET_UID else None,
            gid=gid if valid & fuse.SET_GID else None,
            atime=_when(valid, fuse.SET_ATIME, fuse.SET_ATIME_NOW, (atime, atime_ns)),
            mtime=_when(valid, fuse.SET_MTIME, fuse.SET_MTIME_NOW, (mtime, mtime_ns)),
        )
        return [fuse.attributes(number, self._client.setattr(self._who(caller), self._handle(number), values))]

    # ---- names ----

    def symlink(self, caller, number, name, target):
        return self._make(caller, number, name, xdr.u32(5) + xdr.opaque(target), 0o777)

    def mkdir(self, caller, number, mode, name):
        return self._make(caller, number, name, xdr.u32(2), mode)

    def mknod(self, caller, number, mode, name):
        if stat.S_ISREG(mode):
            found = self._client.create(self._who(caller), self._handle(number), name, mode, True, False)
            return [self._entry(found)]
        kind = {stat.S_IFSOCK: 6, stat.S_IFIFO: 7}.get(stat.S_IFMT(mode))
        if kind is None:
            raise OSError(errno.EPERM, "no device nodes")
        return self._make(caller, number, name, xdr.u32(kind), mode)

    def _make(self, caller, number, name, kind, mode):
        values = settings(mode=mode)
        return [self._entry(self._client.make(self._who(caller), self._handle(number), name, kind, values))]

    def link(self, caller, number, target, name):
        found = self._client.link(self._who(caller), self._handle(target), self._handle(number), name)
        return [self._entry(found)]

    def unlink(self, caller, number, name):
        who, folder = self._who(caller), self._handle(number)
        if not self._keep_open(who, folder, name):
            self._client.remove(who, folder, name)

    def rmdir(self, caller, number, name):
        self._client.remove(self._who(caller), self._handle(number), name)

    def rename(self, caller, number, new_number, flags, name, new_name):
        who, folder, new_folder = self._who(caller), self._handle(number), self._handle(new_number)
        if flags & ~_NO_REPLACE:
            raise OSError(errno.EINVAL, "NFS has no such rename")
        if flags & _NO_REPLACE:
            raise OSError(errno.EINVAL, "the server cannot guarantee it")
        self._keep_open(who, new_folder, new_name)
        self._client.rename(who, folder, name, new_folder, new_name)

    def _keep_open(self, who, folder, name):
        """Rename a file that a process here has open instead of removing it; the last close removes it."""
        if not self._files:
            return False
        try:
            found = self._client.lookup(who, folder, name)
        except NfsError:
            return False
        inode = self._inodes.get(self._numbers.get(found.handle, 0))
        if inode is None or not inode.opens or found.kind == stat.S_IFDIR or found.links > 1:
            return False
        aside = b".nfs%016x" % time.time_ns()
        self._client.rename(who, folder, name, folder, aside)
        inode.removed = (folder, aside)
        return True

    # ---- data ----

    def create(self, caller, number, flags, mode, name):
        exclusive, truncate = bool(flags & os.O_EXCL), bool(flags & os.O_TRUNC)
        found = self._client.create(self._who(caller), self._handle(number), name, mode, exclusive, truncate)
        inode = self._remember(found)
        return [fuse.entry(inode, found), self._open(caller, inode, found)]

    def open(self, caller, number, flags):
        who, handle = self._who(caller), self._handle(number)
        wanted = {os.O_RDONLY: READABLE, os.O_WRONLY: WRITABLE, os.O_RDWR: READABLE | WRITABLE}[flags & os.O_ACCMODE]
        allowed, found = self._client.access(who, handle, READABLE | WRITABLE | EXECUTABLE | LOOKABLE)
        # What may be executed may be read by the kernel, which executes it.
        if wanted & ~allowed and not (wanted == READABLE and allowed & EXECUTABLE):
            raise OSError(errno.EACCES, "the server does not allow it")
        if flags & os.O_TRUNC:
            found = self._client.setattr(who, handle, settings(size=0))
        return [self._open(caller, number, found)]

    def _open(self, caller, number, found):
        with self._lock:
            inode = self._inodes[number]
            inode.opens += 1
            # Close-to-open: what another host wrote before this open is seen after it.
            keep = fuse.KEEP_CACHE if inode.change == found.change else 0
            inode.change = found.change
            self._handles += 1
            self._files[self._handles] = [number, self._who(caller)[0], False]
            return fuse.opened(self._handles, keep)

    def read(self, caller, number, opened, offset, size):
        credentials = self._files[opened][1]
        return self._client.read((credentials, caller.pid), self._handle(number), offset, size)

    def write(self, caller, number, opened, offset, data):
        file = self._files[opened]
        self._client.write((file[1], caller.pid), self._handle(number), offset, data)
        file[2] = True
        return [xdr_size(len(data))]

    def flush(self, caller, number, opened):
        file = self._files[opened]
        if file[2]:
            self._client.commit((file[1], caller.pid), self._handle(number))
            file[2] = False

    fsync = flush

    def release(self, caller, number, opened):
        with self._lock:
            _, credentials, _ = self._files.pop(opened)
            inode = self._inodes.get(number)
            if inode is None:
                return
            inode.opens -= 1
            removed = inode.removed if not inode.opens else None
            if removed:
                inode.removed = None
        if removed:
            self._client.remove((credentials, 0), *removed)

    # ---- directories ----

    def opendir(self, caller, number):
        with self._lock:
            self._handles += 1
            self._folders[self._handles] = Folder()
            return [fuse.opened(self._handles)]

    def releasedir(self, caller, number, opened):
        with self._lock:
            self._folders.pop(opened, None)

    def fsyncdir(self, caller, number, opened):
        """Nothing to do: the server writes names to disk before it answers."""

    def readdir(self, caller, number, opened, offset, size):
        return self._list(caller, number, opened, offset, size, False)

    def readdirplus(self, caller, number, opened, offset, size):
        return self._list(caller, number, opened, offset, size, True)

    def _list(self, caller, number, opened, offset, size, plus):
        # The server's cookies are the offsets; it never uses 0, 1 and 2, so those stand for "." and "..".
        folder = self._folders[opened]
        parts, room = [], size
        for place, name in ((1, b"."), (2, b"..")):
            if offset < place:
                blank = b"\0" * 128 if plus else b""
                parts.append(fuse.dirent(number, place, name, stat.S_IFDIR, blank))
                room -= len(parts[-1])
                offset = place
        if offset == 2:
            folder.cookie, folder.verifier, folder.end, folder.entries = 0, b"\0" * 8, False, []
        elif offset != folder.offset:
            folder.cookie, folder.end, folder.entries = offset, False, []
        folder.offset = offset
        while True:
            if not folder.entries:
                if folder.end:
                    break
                who = self._who(caller)
                answer = self._client.readdir(who, self._handle(number), folder.cookie, folder.verifier)
                entries, folder.verifier, folder.end = answer
                if not entries:
                    break
                folder.cookie = entries[-1][0]
                folder.entries = entries[::-1]
            cookie, name, found = folder.entries[-1]
            needed = (24 + len(name) + 7) // 8 * 8 + (128 if plus else 0)
            if needed > room:
                break
            folder.entries.pop()
            prefix = self._entry(found) if plus else b""
            parts.append(fuse.dirent(found.fileid, cookie, name, found.kind, prefix))
            room -= needed
            folder.offset = cookie
        return [b"".join(parts)]  # one piece: writev(2) takes 1,024 at most


def xdr_size(count):
    """fuse_write_out."""
    return count.to_bytes(4, "little") + b"\0" * 4


def _when(valid, given, now, value):
    if valid & now:
        return True
    return value if valid & given else None


def _groups(pid):
    """The first 16 supplementary groups of a process, which is what AUTH_SYS carries."""
    try:
        with open("/proc/%d/status" % pid) as status:
            for line in status:
                if line.startswith("Groups:"):
                    return tuple(int(word) for word in line.split()[1:17])
    except FileNotFoundError:
        pass
    return ()
