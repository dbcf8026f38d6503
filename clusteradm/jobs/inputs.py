"""Inputs of a job: files of this machine, packed while they are sent, or files that are on the head already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """One input file. `name`: in the results; `changed`: its time of change in ns, where it is to be the same later."""

    name: str
    path: Path
    size: int
    changed: int | None = None


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
    """A piece of the upload: bytes, and the files that begin in it."""

    data: bytes = b""
    files: list[File] = field(default_factory=list)


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
    return LocalInputs(
        tuple(_file(name, path) for name, path in sorted(found.items())), tuple(skipped), tuple(left_out)
    )


def _file(name: str, path: Path) -> File:
    """The file as it is now. Raises UsageError for what is no file or cannot be read."""
    if not name.isascii() and regular.readable(name) != name:
        raise UsageError("its name is not UTF-8, and cannot be in the results", where=regular.readable(path))
    with regular.open_file(path) as file:
        status = os.fstat(file.fileno())
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
        elif regular.readable(path) != str(path):
            self._leave(path, "its name is not UTF-8, and cannot be in the results")
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

    Raises UsageError where a file is no longer what it was when the job was planned.
    """
    part, buffer = Part(), bytearray()
    for item in files:
        part.files.append(item)
        with _Body(item) as body:
            while data := body.read(size - len(buffer)):
                buffer += data
                if len(buffer) == size:
                    part.data = bytes(buffer)
                    yield part
                    part, buffer = Part(), bytearray()
        if len(part.files) == _PART_FILES:
            part.data = bytes(buffer)
            yield part
            part, buffer = Part(), bytearray()
    if part.files or buffer:
        part.data = bytes(buffer)
        yield part


class _Body:
    """The bytes of a planned file. Raises UsageError where it has changed since it was planned."""

    def __init__(self, item: File) -> None:
        self._item = item
        self._left = item.size
        self._file = regular.open_file(item.path)

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, most: int) -> bytes:
        """At most so many bytes; b"" at the end."""
        try:
            data = self._file.read(min(self._left, most))
        except OSError as error:
            raise UsageError(f"cannot read it: {error.strerror}", where=str(self._item.path)) from error
        self._left -= len(data)
        if not data:
            self._check()
        return data

    def _check(self) -> None:
        """A file that is being written would be sent as it never was."""
        status = os.fstat(self._file.fileno())
        if self._left or status.st_size != self._item.size or self._item.changed not in (None, status.st_mtime_ns):
            raise UsageError(
                f"it has {'become shorter' if self._left else 'changed'} while it was sent",
                where=str(self._item.path),
                next_step="start the job again when nothing writes to it",
            )
