"""A proxy command as a socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile

_PATIENCE = 2.0


class Proxy:
    """A proxy command behind a real socket: Paramiko's own ProxyCommand polls its pipes, which costs CPU per read."""

    def __init__(self, command: str) -> None:
        self.sock, theirs = socket.socketpair()
        # A file, not a pipe: nobody reads along, and a full pipe would stop the command.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            # ssh gives the command to the user's shell as well; `exec` spares a process that would have to be ended.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,  # Ctrl-C is for clusteradm to answer, not for its proxies
            )
        except BaseException:
            self.sock.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()

    def words(self) -> str:
        """The last line that the command said on its standard error."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the command and what it started, gently first. Its words are gone then."""
        self.sock.close()
        for one in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, one)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
                break
        self._stderr.close()
