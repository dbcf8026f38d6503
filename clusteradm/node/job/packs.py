"""Packs of a job, read by a rank: one of all inputs, or one for each batch of a job that stays open for more."""

import errno
import os
from typing import Dict, Optional

from clusteradm.node.job.files import opener
from clusteradm.node.spec.wire import job_names

_OPEN = 8  # of batches, at once


class Packs:
    """The pack of all inputs, by its path; those of batches lie beside it."""

    def __init__(self, pack: str) -> None:
        self._folder = os.path.dirname(pack)
        self._open: Dict[Optional[int], int] = {}
        if os.path.lexists(pack):
            self._open[None] = opener(pack, os.O_RDONLY)

    def read(self, batch: Optional[int], into: bytearray, size: int, offset: int) -> bool:
        """Read exactly so many bytes of the pack of this batch, or of all inputs. False where the batch's is there no
        more: another rank has delivered its results. Raises OSError."""
        fd = self._open.get(batch)
        if fd is None:
            name = job_names.PACK if batch is None else job_names.FEED_PACK % batch
            try:
                fd = opener(os.path.join(self._folder, name), os.O_RDONLY)
            except FileNotFoundError:
                if batch is None:
                    raise
                return False
            if len(self._open) >= _OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[batch] = fd
        try:
            _pread(fd, into, size, offset)
        except OSError as error:
            if batch is None or error.errno != errno.ESTALE:
                raise
            return False  # it was open here when the head removed it
        return True


def _pread(fd: int, into: bytearray, size: int, offset: int) -> None:
    """Read exactly `size` bytes: one call on a network file system may return fewer."""
    done = 0
    with memoryview(into) as view:
        while done < size:
            count = os.preadv(fd, [view[done:size]], offset + done)
            if not count:
                raise OSError("the inputs end at %d, short of %d bytes" % (offset + done, size - done))
            done += count
