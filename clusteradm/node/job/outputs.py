"""Files of output tensors that are too large for a result's line, in the job's folder for them."""

import os
from typing import Callable, Optional

from clusteradm.node import atomic, paths
from clusteradm.node.job.pulse import Pulse


class Outputs:
    """The folder; its name alone is what results call it. It is made when the first file is."""

    def __init__(self, folder: str, pulse: Optional[Pulse] = None) -> None:
        """`pulse` is told while a file is written: if that does not end, it is not the input's doing."""
        self._folder = folder
        self._pulse = pulse or Pulse()

    def keep(self, index: int) -> Callable[[str, bytes], str]:
        """What stores a tensor of input `index`; its path from the job's folder is then outputs-JOB/000012-NAME."""

        def store(name: str, data: bytes) -> str:
            self._pulse.store(True)
            try:
                return write(name, data)
            finally:
                self._pulse.store(False)

        def write(name: str, data: bytes) -> str:
            os.makedirs(self._folder, exist_ok=True)
            whole = "%06d-%s" % (index, name)
            # Any board can put a link to a folder of this one in its place.
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                path = os.path.join(paths.by_descriptor(folder), whole)
                # Not on the disk at once: if a power failure empties it, the journal does not count the input.
                with atomic.replacing(path, mode=0o644, durable=False) as file:
                    file.write(data)
            finally:
                os.close(folder)
            return os.path.basename(self._folder) + "/" + whole

        return store
