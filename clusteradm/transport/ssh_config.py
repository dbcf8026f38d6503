"""The admin's ssh_config (~/.ssh/config and that of the system), as ssh itself reads it: `ssh -G`.

Ansible's connections are made by ssh, which takes from there what the inventory leaves open. `ssh -G` answers what it
would take: with Include, Match, patterns and tokens as ssh has them. It connects to nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pwd
import re
import subprocess
from pathlib import Path

from clusteradm.errors import TooManyOpenFiles, UsageError
from clusteradm.inventory import Host
from clusteradm.inventory.cluster import Reach

_SSH = ("ssh", "-G")
# Longest time for the answer: a line "Match exec" runs a program.
_SECONDS = 20.0
_SYSTEM = Path("/etc/ssh")
# In the system's own file: a line that says where a host is reached, and not only how.
_TELLING = re.compile(r"^\s*(match|hostname|user|port|proxyjump|proxycommand|identityfile)\b", re.I | re.M)
# Key files that ssh tries where the configuration names none.
_DEFAULT_KEY = re.compile(r"~/\.ssh/id_[a-z0-9_]+")


def with_config(host: Host) -> Host:
    """The host with what ssh_config says of it. Raises UsageError where ssh refuses the configuration."""
    if host.reach is not None or host.is_local:
        return host
    user, port = host.vars.get("ansible_user"), host.vars.get("ansible_port")
    reach = _reach(host.destination, None if user is None else str(user), None if port is None else int(port))
    return dataclasses.replace(host, reach=reach)


@functools.lru_cache(maxsize=4096)
def _reach(destination: str, user: str | None, port: int | None) -> Reach:
    if not files():
        return Reach()
    words = [*(("-l", user) if user else ()), *(("-p", str(port)) if port else ())]
    try:
        done = subprocess.run(
            [*_SSH, *words, "--", destination],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return Reach()
    except OSError as error:
        raise (TooManyOpenFiles() if TooManyOpenFiles.is_cause(error) else _refused(destination, str(error))) from error
    except subprocess.TimeoutExpired:
        raise _refused(destination, f"no answer within {_SECONDS:.0f} s") from None
    if done.returncode:
        raise _refused(destination, "; ".join(done.stderr.strip().splitlines()[:2]) or f"status {done.returncode}")
    return _parsed(done.stdout, destination)


def files() -> list[Path]:
    """The files of ssh_config that may say where a host is reached."""
    found = []
    with contextlib.suppress(KeyError):  # an account without a home directory
        # As ssh, which goes by the account's home directory and not by $HOME.
        found = [Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh" / "config"]
    found = [path for path in found if path.exists()]
    found += sorted((_SYSTEM / "ssh_config.d").glob("*.conf"))
    try:
        text = (_SYSTEM / "ssh_config").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return [*found, *([_SYSTEM / "ssh_config"] if _TELLING.search(text) else [])]


def _refused(destination: str, why: str) -> UsageError:
    return UsageError(
        f"ssh does not accept its configuration: {why}",
        where=destination,
        next_step=f"correct {', '.join(map(str, files()))}; ssh -G {destination} shows what ssh makes of it",
    )


def _parsed(text: str, destination: str) -> Reach:
    """What `ssh -G` printed."""
    values: dict[str, str] = {}
    keys: list[str] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "identityfile":
            keys.append(value)
        else:
            values.setdefault(name, value)
    named = [] if all(_DEFAULT_KEY.fullmatch(key) for key in keys) and len(keys) > 1 else keys
    paths = [Path(key).expanduser() for key in named if key.lower() != "none"]
    hostname, port = values.get("hostname", destination), values.get("port", "")
    return Reach(
        address=hostname,
        port=int(port) if port.isdecimal() else None,
        user=values.get("user"),
        key_files=tuple(str(path) for path in paths if path.is_file()),
        agent=values.get("identitiesonly") != "yes",
        proxy_command=values.get("proxycommand"),
        proxy_jump=values.get("proxyjump"),
    )
