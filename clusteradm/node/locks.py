"""Locks between the sessions of one host, by name: root's own files, let go of with the process that has them."""

import contextlib
import fcntl
import os
from typing import Iterator

from clusteradm.node.state import owners, private

# Of the model repository: whoever changes it has it alone, whoever needs a version to stay shares it.
MODELS = "models"
# Of the start of jobs: two that are started at once do not get the same TPUs.
JOBS = "jobs"
# Of the copies of models on this host.
COPIES = "copies"


@contextlib.contextmanager
def held(name: str, shared: bool = False) -> Iterator[None]:
    """Hold the lock, alone or with others that share it; waits for it."""
    with open(os.path.join(private("locks"), name), "ab", opener=owners) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
