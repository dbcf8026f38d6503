"""A proxy command (ssh's ProxyCommand) as a socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile

_TERMINATE_SECONDS = 2.0


class Proxy:
    """A proxy command behind a socket pair: Paramiko's own ProxyCommand polls pipes, which costs CPU on each read."""

    def __init__(self, command: str) -> None:
        self.sock, theirs = socket.socketpair()
        # A file, not a pipe: it is read only after an error, and a full pipe would block the command.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            # A shell, as ssh uses; `exec` so that there is no shell process left to end.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,  # Ctrl-C goes to clusteradm alone
            )
        except BaseException:
            self.sock.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()

    def stderr(self) -> str:
        """The last line that the command wrote to its standard error; "" if there is none."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the command and its children: SIGTERM, then SIGKILL."""
        self.sock.close()
        for one in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, one)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_TERMINATE_SECONDS)
                break
        self._stderr.close()
