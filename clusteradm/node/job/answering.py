"""Hosts of a job that answer: they can be reached from the head, and see the model."""

import shlex
import subprocess
import time
from typing import Callable, List, Optional, Tuple

from clusteradm.node.job import launch, oom
from clusteradm.node.spec.wire.job import Slot, StoredSpec

_SECONDS = 10.0


def ask(spec: StoredSpec, hear: Callable[[str, bytes], None]) -> List[Slot]:
    """Those of the job's slots whose hosts answer; the head's is one. `hear` is called with the name of each other one
    and what its kernel counts, as oom.LOOK prints it."""
    # A mount whose server is gone hangs: a host with one does not answer.
    look = "timeout 5 test -r %s && { %s; true; }" % (shlex.quote(spec.model.path), oom.LOOK)
    asked: List[Tuple[Slot, Optional["subprocess.Popen[bytes]"]]] = []
    for slot in spec.slots:
        if slot.host == spec.head:
            asked.append((slot, None))
            continue
        command = [*launch.SSH, slot.host, look]
        quiet = subprocess.DEVNULL
        asked.append((slot, subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)))
    end = time.monotonic() + _SECONDS
    found = []
    for slot, process in asked:
        said = b"" if process is None else _said(process, end)
        if said is not None:
            found.append(slot)
            if process is not None:
                hear(slot.host, said)
    return found


def _said(process: "subprocess.Popen[bytes]", end: float) -> Optional[bytes]:
    """What a process prints; None where it does not end well."""
    try:
        said = process.communicate(timeout=max(0.1, end - time.monotonic()))[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return said if process.returncode == 0 else None
