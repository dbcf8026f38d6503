"""Worker process of a rank: it loads the model, and may therefore crash, hang or be killed without harm to the job."""

import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from typing import BinaryIO, List, Optional, Tuple, cast

from clusteradm.node.job import channel as channels
from clusteradm.node.job import oom
from clusteradm.node.job.memory import nameless_file
from clusteradm.node.job.pipe import Pipe
from clusteradm.node.job.pulse import SIZE, Pulse

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_KILL_SECONDS = 5.0  # a process that does not die by SIGKILL hangs in the kernel


class Process:
    """One worker process, from its start on."""

    def __init__(self, words: List[str]) -> None:
        """Start it. `words`: its command, to which the descriptor of its pulse is added."""
        self._kills = oom.of_group()
        with nameless_file() as page:
            page.truncate(SIZE)
            self.pulse = Pulse(page.fileno())
            self._process = subprocess.Popen(
                [*words, str(page.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[page.fileno()],
            )
        self._in, self._out = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        os.set_blocking(self._in.fileno(), False)
        self.pipe = Pipe(self._out.fileno(), self._in.fileno())

    def death(self) -> Optional[str]:
        """How it ended; None while it lives."""
        status = self._process.poll()
        if status is None:
            return None
        if status >= 0:
            return "ended with status %d" % status
        with suppress(ValueError):
            return "was killed by %s%s" % (signal.Signals(-status).name, self._why(-status))
        return "was killed by signal %d" % -status

    def _why(self, number: int) -> str:
        """What the kernel says of a SIGKILL, which may be its own or anybody's."""
        if number != signal.SIGKILL:
            return ""
        if self._kills is None:
            return " (this kernel does not say whether for lack of memory)"
        kills = oom.since(self._kills, oom.of_group())
        return " (since its start %s)" % oom.said("its host", kills) if kills else ""

    def stop(self, seconds: float) -> None:
        """Ask it to end, and kill it after so many seconds."""
        self.pipe.send(0, channels.STOP)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def kill(self) -> bool:
        """Kill it; False where it then hangs in the kernel."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)
            self._in.close()
            self._out.close()
            return True
        return False


def enter(descriptor: int) -> Tuple[Pipe, Pulse]:
    """The worker process's own end of the pipes and of the pulse, by the last word of its command."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # its rank's end is its own
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # when memory runs out, this process is to go, not its rank
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no message
    return Pipe(0, out), Pulse(descriptor)
