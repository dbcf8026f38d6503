"""Memory that processes of a host share."""

import os
from typing import BinaryIO, cast

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a file without a name


def nameless_file() -> BinaryIO:
    """A file without a name, in memory where that is mounted."""
    try:
        return os.fdopen(os.open(_SHARED_MEMORY, os.O_TMPFILE | os.O_RDWR, 0o600), "w+b")
    except OSError:
        import tempfile  # its import takes a sixth of this process's start

        return cast(BinaryIO, tempfile.TemporaryFile())
