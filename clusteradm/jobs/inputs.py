"""Inputs of a job: files of this machine, packed while they are sent, or files that are on the head already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.jobs import archives

# The files of a folder that are inputs: pictures that every Pillow reads, NumPy's arrays, and sound. A file named by
# itself is always taken.
SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".npy",
    ".npz",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".wav",
    ".webp",
)

ON_HEAD = "head:"

# Small enough for the memory of a laptop and for a resend after a cut line, large enough that round trips do not count.
PART_BYTES = 16 << 20
_PART_FILES = 10_000  # in one part, however small they are


@dataclass(frozen=True)
class File:
    """One input file. `name`: in the results; `changed`: its time of change in ns, where it is to be the same later.

    `error`: why it cannot be read; `member`: the array that is meant of an .npz file; `offset`, `whole`: of a file in a
    tar file its place there, and the size of the tar file.
    """

    name: str
    path: Path
    size: int
    changed: int | None = None
    error: str | None = None
    member: str | None = None
    offset: int = 0
    whole: int | None = None

    def read(self, most: int) -> bytes:
        """Its bytes. Raises UsageError where it cannot be read, has changed or has more than `most`."""
        if self.error is not None:
            raise UsageError(self.error, where=self.name)
        if self.whole is None:
            data = regular.read(self.path, most)
        elif self.size > most:
            raise UsageError(f"it has {self.size:,} bytes, more than {most:,}", where=self.name)
        else:
            with regular.open_file(self.path) as file:
                file.seek(self.offset)
                data = file.read(self.size)
        if self.changed is not None and not self._is_same():
            raise UsageError("it has changed since", where=self.name)
        return data

    def _is_same(self) -> bool:
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.whole or self.size, self.changed)


@dataclass(frozen=True)
class LocalInputs:
    """Files of this machine, sorted by name.

    `skipped`: those of the folders that are no inputs by their suffix; `left_out`: what has the name of an input but is
    none, each with its reason.
    """

    files: tuple[File, ...]
    skipped: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class HeadInputs:
    """Paths on the head, absolute or below the shared directory."""

    paths: tuple[str, ...]


@dataclass
class Part:
    """A piece of the upload: bytes, and the files that begin in it.

    `failed`: files of this part or one before whose bytes are not to be used, each with its reason.
    """

    data: bytes = b""
    files: list[File] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> set[str]:
        """Those of the files of which it was known before that they cannot be read."""
        return {file.name for file in self.files if file.error is not None}


def resolve(arguments: Sequence[str]) -> LocalInputs | HeadInputs:
    """The inputs that the arguments name. Raises UsageError for what is not there, before any connection.

    `head:PATH` is on the head; `@FILE` is a list of paths, one a line; `FILE.npz:NAME` is one array of the
    file, and of a tar file the files in it are inputs as those of a folder are; anything else is here. One job takes
    its inputs from one of the two. A link that is named is followed; one in a folder is followed to a file in the same
    folder alone.
    """
    named, arguments = arguments, list(archives.expanded(arguments))
    on_head = [argument for argument in arguments if argument.startswith(ON_HEAD)]
    if on_head and len(on_head) != len(arguments):
        raise UsageError("a job's inputs are all here or all on the head, not some of each")
    if on_head:
        for argument in on_head:
            if not regular.is_text(argument):
                raise UsageError("the path is not UTF-8, and cannot be sent", where=regular.readable(argument))
        return HeadInputs(tuple(argument.removeprefix(ON_HEAD) or "." for argument in on_head))
    found: dict[str, File] = {}
    skipped: list[Path] = []
    left_out: list[str] = []
    for argument in arguments:
        if not argument:  # a shell's variable that is not set; to a path, it would be the current folder
            raise UsageError("an input without a name", next_step="the current folder is named .")
        path = Path(argument)
        if regular.is_folder(path):
            folder = _Folder(path, "" if len(arguments) == 1 else str(path).rstrip("/") + "/")
            skipped += folder.skipped
            left_out += folder.left_out
            found.update((file.name, file) for file in folder.files)
        elif os.path.lexists(path):
            if archives.is_tar(path):
                for file in _in_tar(argument, path, left_out):
                    found[file.name] = file
            else:
                found[argument] = _file(argument, path)
        elif (array := archives.member(argument)) is not None:
            found[argument] = replace(_file(argument, array[0]), member=array[1])
        else:
            raise _missing(argument)
    if not found:
        raise UsageError(
            "; ".join([f"no inputs in {', '.join(map(regular.readable, named))}", *left_out[:3]]),
            next_step="in a folder these count: " + " ".join(SUFFIXES) + "; name other files outright",
        )
    files = tuple(file for _, file in sorted(found.items()))
    errors = [f"{regular.readable(file.path)}: {file.error}" for file in files if file.error is not None]
    if len(errors) == len(files):
        more = [f"and {len(errors) - 3} more"] if len(errors) > 3 else []
        raise UsageError("; ".join(errors[:3] + more))
    return LocalInputs(files, tuple(skipped), tuple(left_out))


def _missing(argument: str) -> UsageError:
    """Why what is named cannot be looked at."""
    name = regular.readable(argument)
    try:
        os.lstat(argument)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a folder that is not to be looked into, a name that no file can have
        return UsageError(f"cannot read it: {error.strerror}", where=name)
    return UsageError(f"no file or folder {name} here", next_step=f"what is on the head is named {ON_HEAD}{name}")


def _file(name: str, path: Path) -> File:
    """The file as it is now. The results can hold no name that is not UTF-8: they have it as `regular.readable`."""
    name = regular.readable(name)
    try:
        with regular.open_file(path) as file:
            status = os.fstat(file.fileno())
    except UsageError as error:
        return File(name, path, 0, error=error.what)
    return File(name, path, status.st_size, status.st_mtime_ns)


def _looked(name: str, path: Path) -> File:
    """The file of a folder, which it is by the folder's own word."""
    name = regular.readable(name)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    except OSError as error:
        return File(name, path, 0, error=f"cannot read it: {error.strerror}")
    try:
        status = os.fstat(handle)
    finally:
        os.close(handle)
    other = regular.kind(status.st_mode)
    return File(name, path, status.st_size, status.st_mtime_ns, error=other and f"it is {other}, not a file")


def _in_tar(argument: str, path: Path, left_out: list[str]) -> Iterator[File]:
    """The files in a tar file, named as if it were a folder."""
    with regular.open_file(path) as tar:
        status = os.fstat(tar.fileno())
        for one in archives.members(tar, regular.readable(path), SUFFIXES):
            if one.error is not None:
                left_out.append(f"{regular.readable(path)}/{one.name}: {one.error}")
                continue
            name = regular.readable(f"{argument}/{one.name}")
            yield File(name, path, one.size, status.st_mtime_ns, offset=one.offset, whole=status.st_size)


class _Folder:
    """The files below a folder, without hidden ones: `files` are inputs by their suffix, `skipped` are not.

    `left_out`: what is none that may be read, with the reason. `prefix`: what the files' names begin with. Of each file
    one look is had, and no more: a folder may hold a hundred thousand. Raises UsageError for a sub-folder that cannot
    be read.
    """

    def __init__(self, top: Path, prefix: str) -> None:
        self.files: list[File] = []
        self.skipped: list[Path] = []
        self.left_out: list[str] = []
        self._real = os.path.realpath(top)
        waiting = [(os.fspath(top), prefix)]
        while waiting:
            place, before = waiting.pop()
            try:
                with os.scandir(place) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, f"{before}{entry.name}/"))
                        else:
                            self._sort(entry, before + entry.name)
            except OSError as error:
                where = regular.readable(error.filename or place)
                raise UsageError(f"cannot read the folder: {error.strerror}", where=where) from error
        self.skipped.sort()

    def _sort(self, entry: os.DirEntry[str], name: str) -> None:
        path = Path(entry.path)
        if entry.is_symlink() and path.is_dir():
            self._leave(path, "a link to a folder, which is followed only if it is named itself")
        elif not entry.name.lower().endswith(SUFFIXES):
            self.skipped.append(path)
        elif entry.is_file(follow_symlinks=False):
            self.files.append(_looked(name, path))
        elif entry.is_symlink() and not self._holds(path):
            self._leave(path, "a link that leads out of the folder, which is followed only if it is named itself")
        else:
            try:
                kind = regular.kind(path.stat().st_mode)
            except OSError as error:
                kind = error.strerror or str(error)
            if kind:
                self._leave(path, kind)
            else:
                self.files.append(_file(name, path))

    def _holds(self, link: Path) -> bool:
        return Path(os.path.realpath(link)).is_relative_to(self._real)

    def _leave(self, path: Path, reason: str) -> None:
        self.left_out.append(f"{regular.readable(path)}: {reason}")


def parts(files: Sequence[File], size: int = PART_BYTES) -> Iterator[Part]:
    """The files' bytes one after another, in parts of `size` bytes; a large file continues in the next part.

    A file that is no longer what it was when the job was planned has its planned number of bytes all the same, as the
    places of those after it depend on it, and is `failed`.
    """
    part, buffer = Part(), bytearray()
    for item in files:
        part.files.append(item)
        body = _Body(item)
        while data := body.read(size - len(buffer)):
            buffer += data
            if len(buffer) == size:
                part.data = bytes(buffer)
                yield part
                part, buffer = Part(), bytearray()
        if body.error is not None:
            part.failed[item.name] = body.error
        if len(part.files) == _PART_FILES:
            part.data = bytes(buffer)
            yield part
            part, buffer = Part(), bytearray()
    if part.files or part.failed or buffer:
        part.data = bytes(buffer)
        yield part


class _Body:
    """The bytes of a planned file: as many as planned, whatever has become of it. `error`: why they are of no use."""

    def __init__(self, item: File) -> None:
        self._item = item
        self._left = item.size
        self._file: BinaryIO | None = None
        self.error = item.error
        if self.error is None:
            try:
                self._file = regular.open_file(item.path)
                self._file.seek(item.offset)
            except UsageError as error:
                self.error = error.what

    def read(self, most: int) -> bytes:
        """At most so many bytes; b"" at the end."""
        data = b""
        if self._file is not None:
            try:
                data = self._file.read(min(self._left, most))
            except OSError as error:
                self.error = f"cannot read it: {error.strerror}"
            if not data:
                self._close(self._file)
        if self._left and not data:
            data = bytes(min(self._left, most))
        self._left -= len(data)
        return data

    def _close(self, file: BinaryIO) -> None:
        """See whether the file has changed: one that is being written was sent as it never was."""
        with file:
            status = os.fstat(file.fileno())
        self._file = None
        if self._left:
            self.error = self.error or "it has become shorter while it was sent"
        elif status.st_size != (self._item.whole or self._item.size) or self._item.changed not in (
            None,
            status.st_mtime_ns,
        ):
            self.error = self.error or "it has changed while it was sent"
