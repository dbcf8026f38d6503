"""The machine that clusteradm runs on, as a host of its own cluster (`ansible_connection: local`): without SSH."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.transport.stream import ProcessStream

# The search path of a login. That of this process may begin with a virtual environment, whose Python is none of the
# system's: it has no python3-apt.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LocalConnection:
    """What a Connection is to another host: programs are started here, as the user who runs clusteradm."""

    def __init__(self, host: Host) -> None:
        """Raises HostUnreachable where the user's number has no account."""
        self.inventory_host = host
        try:
            # Not $USER, which anybody may set: whether sudo is needed depends on it.
            account = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise HostUnreachable(
                f"user {os.geteuid()} has no account on this machine",
                where=host.name,
                next_step="run clusteradm as a user that `getent passwd` lists",
            ) from None
        self.user = "root" if os.geteuid() == 0 else account.pw_name
        self._home = Path(account.pw_dir)
        self.alive = True

    def session(self, command: str, timeout: float) -> ProcessStream:
        """The standard streams of a shell command. `timeout`: nothing is waited for here."""
        about = {"HOME": str(self._home), "USER": self.user, "LOGNAME": self.user, "PATH": _PATH}
        # Where the program keeps its files; set by tests only.
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "CLUSTERADM_STATE") if name in os.environ}
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self._home if self._home.is_dir() else "/",
            env={**about, **kept},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C goes to clusteradm alone
        )
        return ProcessStream(process)

    def close(self) -> None:
        """Nothing: each program ends with its streams."""
        self.alive = False
