"""Paths, walked by descriptors: root follows no link that another user could have made, or could turn while it acts.

As the kernel's protected_symlinks (Documentation/admin-guide/sysctl/fs.rst), but for every folder that another user can
write, not for sticky ones alone. A process that is not root has no more rights than its user, and follows any link.
"""

import contextlib
import errno
import os
import stat
from typing import Any, Iterator, List, NamedTuple, Tuple

# The kernel's own limit for one path.
_MOST_LINKS = 40
# As in asm-generic/fcntl.h; PyPy has no name for it.
O_PATH = getattr(os, "O_PATH", 0o10000000)
_LOOK = O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafePath(OSError):
    """A link, or a file with a second name, that another user could have put there; the text says how to go on."""

    def __str__(self) -> str:
        return str(self.args[1])


class Place(NamedTuple):
    """A name in an open folder. `path` reaches it, in this process alone, whatever becomes of the folders above."""

    folder: int
    name: str

    @property
    def path(self) -> str:
        return by_descriptor(self.folder) + "/" + self.name


def by_descriptor(fd: int) -> str:
    """A path to the open file itself, also where it was opened with O_PATH alone."""
    return "/proc/self/fd/%d" % fd


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Errors of what is done to the file name it as the caller does, not by a descriptor or without its folder."""
    try:
        yield
    except UnsafePath:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from None


@contextlib.contextmanager
def place(path: str, follow: bool = False) -> Iterator[Place]:
    """The folder that `path` is in, open, and the name there, which may be missing. `follow`: a link there, too.

    Raises UnsafePath, or OSError where a folder is missing.
    """
    folder, name = _walk(path, follow or path.endswith("/"))
    try:
        yield Place(folder, name)
    finally:
        os.close(folder)


@contextlib.contextmanager
def look(path: str, follow: bool = False) -> Iterator[Tuple[int, os.stat_result]]:
    """A descriptor of the file, opened with O_PATH, and its status. A link is followed, or is the file."""
    with place(path, follow) as here:
        fd = os.open(here.name, _LOOK, dir_fd=here.folder)
        try:
            yield fd, os.fstat(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def folder(path: str, follow: bool = True) -> Iterator[int]:
    """A descriptor of the folder. Raises UnsafePath, or OSError where it is missing or no folder."""
    with place(path, follow) as here:
        fd = os.open(here.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here.folder)
    try:
        yield fd
    finally:
        os.close(fd)


def opener(path: str, flags: int, mode: int = 0o666) -> int:
    """An opener for open(), which follows as little as place() and does not wait for the other end of a FIFO."""
    with place(path, follow=True) as here:
        return os.open(here.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=here.folder)


def make(folder: int, name: str, mode: int, uid: int, gid: int) -> None:
    """Make a folder in an open folder, with this mode and owner from the moment that others can enter it."""
    os.mkdir(name, 0o700, dir_fd=folder)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def real(path: str) -> str:
    """The path without links, as os.path.realpath. Raises UnsafePath; a folder on the way may be missing."""
    rest: List[str] = []
    head = path.rstrip("/") or "/"
    while True:
        try:
            with place(head, follow=True) as here:
                found = os.path.normpath(os.path.join(os.readlink(by_descriptor(here.folder)), here.name))
                return os.path.join(found, *rest)
        except FileNotFoundError:
            head, name = os.path.split(head)
            rest.insert(0, name)
            if not head:
                return os.path.realpath(path)


def is_roots(about: os.stat_result) -> bool:
    """Whether only root can write to a file or folder, by its owner and mode."""
    mode = about.st_mode
    return about.st_uid == 0 and not mode & stat.S_IWOTH and (about.st_gid == 0 or not mode & stat.S_IWGRP)


def alone(about: os.stat_result, path: str) -> None:
    """Raise UnsafePath for a file with a second name: its owner may have linked another's file into his folder."""
    if os.geteuid() == 0 and stat.S_ISREG(about.st_mode) and about.st_nlink > 1:
        with look(os.path.dirname(path) or ".", follow=True) as (_, above):
            if not is_roots(above):
                raise UnsafePath(
                    errno.EMLINK,
                    "%s has a second name (a hard link), and its folder can be written by others than root: it may be "
                    "another user's file. Nothing was changed. Remove it, and run this again" % path,
                )


def _walk(path: str, follow: bool) -> Tuple[int, str]:
    """A descriptor of the folder that the path's last part is in, and that part."""
    parts = _parts(path)
    here = _start(path)
    links = 0
    try:
        while parts:
            name = parts.pop(0)
            try:
                inner = os.open(name, _LOOK, dir_fd=here)
            except OSError as error:
                if error.errno == errno.ENOENT and not parts:
                    return here, name
                error.filename = path
                raise
            try:
                about = os.fstat(inner)
                if stat.S_ISLNK(about.st_mode) and (parts or follow):
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    _check_link(here, name, about)
                    target = os.readlink("", dir_fd=inner)
                    parts = _parts(target) + parts
                    if target.startswith("/"):
                        os.close(here)
                        here = _start("/")
                    if not parts:
                        return here, "."
                    continue
                if not parts:
                    return here, name
                if not stat.S_ISDIR(about.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                here, inner = inner, here
            finally:
                os.close(inner)
        return here, "."
    except BaseException:
        os.close(here)
        raise


def _parts(path: str) -> List[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _start(path: str) -> int:
    return os.open("/" if path.startswith("/") else ".", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _check_link(folder: int, name: str, link: Any) -> None:
    """Raise UnsafePath where a user other than root made the link, or could put another in its place."""
    if os.geteuid() != 0:
        return
    about = os.fstat(folder)
    kept = is_roots(about) or (about.st_uid == 0 and about.st_mode & stat.S_ISVTX)
    if link.st_uid == 0 and kept:
        return
    where = os.readlink(by_descriptor(folder))
    raise UnsafePath(
        errno.ELOOP,
        "%s is a link that root does not follow: %s. Nothing was changed. Look where it leads (ls -l), remove it, and "
        "run this again"
        % (
            os.path.join(where, name),
            "users other than root can write to %s" % where if not kept else "it belongs to uid %d" % link.st_uid,
        ),
    )
