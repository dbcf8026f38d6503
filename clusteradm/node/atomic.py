"""Atomic replacement of a file: write a new one beside it, fsync, rename. The node replaces files in no other way."""

import contextlib
import os
from typing import IO, Iterator


@contextlib.contextmanager
def replacing(path: str, mode: int = 0o600, durable: bool = True) -> Iterator[IO[bytes]]:
    """A new file, open for writing, that takes the place of `path` when the block ends without an exception.

    A reader, a crash or an exception leaves the old file or the new one, never a part. A link is replaced, not
    followed. The file is this process's own, of mode `mode` before the first byte; the block may change that, by
    `file.name`. `durable`: bytes and name are on the disk afterwards. What is written anew all the time does without.
    Raises OSError with `path`, also where the system names no file: a disk that is full.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, ".%s.%s" % (name[:200], os.urandom(4).hex()))
    try:
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary) and error.errno is not None:
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if durable:
        sync_folder(folder or ".")


def sync_folder(path: str) -> None:
    """Have the names in a folder on the disk; a file system that cannot do that for a folder is left alone."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
