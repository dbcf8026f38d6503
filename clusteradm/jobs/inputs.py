"""Inputs of a job: files of this machine, packed while they are sent, or files that are on the head already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from clusteradm import regular
from clusteradm.errors import UsageError

# The files of a folder that are inputs: pictures that every Pillow reads, and NumPy's arrays. A file named by itself is
# always taken.
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
    ".webp",
)

ON_HEAD = "head:"

# Small enough for the memory of a laptop and for a resend after a cut line, large enough that round trips do not count.
PART_BYTES = 16 << 20
_PART_FILES = 10_000  # in one part, however small they are


@dataclass(frozen=True)
class File:
    """One input file. `name`: in the results; `changed`: its time of change in ns, where it is to be the same later.

    `error`: why it cannot be read.
    """

    name: str
    path: Path
    size: int
    changed: int | None = None
    error: str | None = None


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


def resolve(arguments: Sequence[str]) -> LocalInputs | HeadInputs:
    """The inputs that the arguments name. Raises UsageError for what is not there, before any connection.

    `head:PATH` is on the head; anything else is here. One job takes its inputs from one of the two. A link
    that is named is followed; one in a folder is followed to a file in the same folder alone.
    """
    on_head = [argument for argument in arguments if argument.startswith(ON_HEAD)]
    if on_head and len(on_head) != len(arguments):
        raise UsageError("a job's inputs are all here or all on the head, not some of each")
    if on_head:
        for argument in on_head:
            if regular.readable(argument) != argument:
                raise UsageError("the path is not UTF-8, and cannot be sent", where=regular.readable(argument))
        return HeadInputs(tuple(argument.removeprefix(ON_HEAD) or "." for argument in on_head))
    found: dict[str, Path] = {}
    skipped: list[Path] = []
    left_out: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            folder = _Folder(path)
            skipped += folder.skipped
            left_out += folder.left_out
            found.update({str(one.relative_to(path)) if len(arguments) == 1 else str(one): one for one in folder.files})
        elif os.path.lexists(path):
            found[argument] = path
        else:
            raise UsageError(
                f"no file or folder {regular.readable(argument)} here",
                next_step=f"what is on the head is named {ON_HEAD}{regular.readable(argument)}",
            )
    if not found:
        raise UsageError(
            "; ".join([f"no inputs in {', '.join(map(regular.readable, arguments))}", *left_out[:3]]),
            next_step="in a folder these count: " + " ".join(SUFFIXES) + "; name other files outright",
        )
    files = tuple(_file(name, path) for name, path in sorted(found.items()))
    errors = [f"{regular.readable(file.path)}: {file.error}" for file in files if file.error is not None]
    if len(errors) == len(files):
        more = [f"and {len(errors) - 3} more"] if len(errors) > 3 else []
        raise UsageError("; ".join(errors[:3] + more))
    return LocalInputs(files, tuple(skipped), tuple(left_out))


def _file(name: str, path: Path) -> File:
    """The file as it is now. The results can hold no name that is not UTF-8: they have it as `regular.readable`."""
    name = regular.readable(name)
    try:
        with regular.open_file(path) as file:
            status = os.fstat(file.fileno())
    except UsageError as error:
        return File(name, path, 0, error=error.what)
    return File(name, path, status.st_size, status.st_mtime_ns)


class _Folder:
    """The files below a folder, without hidden ones: `files` are inputs by their suffix, `skipped` are not.

    `left_out`: what is none that may be read, with the reason. Raises UsageError for a sub-folder that cannot be read.
    """

    def __init__(self, top: Path) -> None:
        self.files: list[Path] = []
        self.skipped: list[Path] = []
        self.left_out: list[str] = []
        self._real = os.path.realpath(top)
        for place, folders, names in os.walk(top, onerror=_unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in folders:
                if Path(place, name).is_symlink():
                    self._leave(Path(place, name), "a link to a folder, which is followed only if it is named itself")
            for name in names:
                if not name.startswith("."):
                    self._sort(Path(place, name))
        self.skipped.sort()

    def _sort(self, path: Path) -> None:
        if not path.name.lower().endswith(SUFFIXES):
            self.skipped.append(path)
        elif path.is_symlink() and not self._holds(path):
            self._leave(path, "a link that leads out of the folder, which is followed only if it is named itself")
        else:
            try:
                kind = regular.kind(path.stat().st_mode)
            except OSError as error:
                kind = error.strerror or str(error)
            if kind:
                self._leave(path, kind)
            else:
                self.files.append(path)

    def _holds(self, link: Path) -> bool:
        return Path(os.path.realpath(link)).is_relative_to(self._real)

    def _leave(self, path: Path, reason: str) -> None:
        self.left_out.append(f"{regular.readable(path)}: {reason}")


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read the folder: {error.strerror}", where=regular.readable(error.filename)) from error


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
        elif status.st_size != self._item.size or self._item.changed not in (None, status.st_mtime_ns):
            self.error = self.error or "it has changed while it was sent"
