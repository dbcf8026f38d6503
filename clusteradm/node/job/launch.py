"""Launch of a job's ranks: mpirun's command, run to its end."""

import ctypes
import glob
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any, Callable, Iterator, List, Optional, Sequence, Set

from clusteradm.node import child
from clusteradm.node.job import room
from clusteradm.node.job.channel import EAGER_BYTES

# After SIGTERM healthy ranks are gone within a second, on a busy machine two; mpirun itself may hang on a host that is
# frozen. Once it is killed, its daemons on the other hosts miss it and end their ranks, which takes longer.
_STOP_SECONDS = 5.0
_LOOK_SECONDS = 0.2
# To end a rank, Open MPI sleeps so long after SIGCONT, and again after SIGTERM, of which each rank dies at once.
_NO_SLEEP = ("odls_base_sigkill_timeout", "0")
# As the cluster user, from the head; a host that is off is not waited for.
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2")
_RANK = re.compile(rb"(?:^|\0)OMPI_COMM_WORLD_RANK=(\d{1,6})(?=\0|$)")
_KILL_SECONDS = 5.0  # what does not die by SIGKILL hangs in the kernel
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def command(hostfile: str, ranks: int, python: str, folder: str, attempt: int) -> List[str]:
    """mpirun for `ranks` workers and rank 0, the dispatcher, on the hosts of `hostfile`.

    `folder`: the job's, on the head's own disk.
    """
    return [
        *(child.mpirun(), "--hostfile", hostfile, "--map-by", "slot", "--bind-to", "none", "--tag-output"),
        # NumPy's own threads would only take the processor from the other ranks: they spin when they start.
        *_recovery(),
        *("--mca", "btl_vader_eager_limit", str(EAGER_BYTES)),
        *("-np", str(ranks + 1), "-x", "PYTHONPATH", "-x", "OPENBLAS_NUM_THREADS=1", "-wdir", "/"),
        *(python, "-m", "clusteradm.node.job.rank", folder, str(attempt)),
    ]


def _recovery() -> List[str]:
    """The options by which the death of a rank ends no other rank: rank 0 misses it, and gives its work to others.
    And by which the end of all takes no longer than it has to.

    So does the death of a host, but of Open MPI 5, whose mpirun then ends.
    """
    done = subprocess.run([child.mpirun(), "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    found = re.search(rb"Open MPI\)? v?(\d+)", done.stdout)
    if found and int(found.group(1)) >= 5:
        return ["--runtime-options", "recoverable", "--with-ft", "ulfm", "--prtemca", *_NO_SLEEP]
    return ["--mca", "orte_enable_recovery", "1", "--mca", *_NO_SLEEP]


def run(words: Sequence[str], log: Any, overdue: Callable[[int], Optional[str]]) -> int:
    """Run the command with its output in `log`; its exit status.

    It is ended where `overdue`, given its process id, says why, and where an exception is raised here. Nothing that it
    started on this host is left then: a rank that lives on would keep its TPU, or the journal.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                return process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                why = overdue(process.pid)
            if why is not None:
                with room.unless_full():
                    log.write(("the attempt is ended: %s\n" % why).encode("utf-8"))
                _end(process)
                return int(process.returncode)
    finally:
        _end(process)
        _end_orphans()


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ranks(mpirun: int) -> Set[int]:
    """The numbers of the ranks that an mpirun has on this host, by its process id."""
    found: Set[int] = set()
    for path in glob.glob("/proc/%d/task/*/children" % mpirun):
        with suppress(OSError), open(path) as file:
            for pid in file.read().split():
                with suppress(OSError), open("/proc/%s/environ" % pid, "rb") as environ:
                    found.update(map(int, _RANK.findall(environ.read())))
    return found


def _end_orphans() -> None:
    """Kill what mpirun has left, and what that leaves: as its subreaper, this process has become its parent."""
    end = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < end:
        children = list(_children())
        if not children:
            return
        for pid in children:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        with suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _children() -> Iterator[int]:
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, ValueError), open("/proc/%s/stat" % name, errors="replace") as file:
            # "PID (NAME) STATE PARENT ...": a name may have spaces and brackets.
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                yield int(name)
