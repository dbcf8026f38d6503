"""hostname: the host's name, now and after a reboot."""

import socket
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed

_FILE = "/etc/hostname"
_LONGEST = 64


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Set the transient and the static name."""
    name = options["name"]
    running = socket.gethostname()
    kept = (files.read(_FILE) or b"").decode("utf-8", "replace").strip()
    result: Dict[str, Any] = {"name": name, "changed": running != name or kept != name}
    if not result["changed"]:
        return result
    before = running if running != name else kept
    result["diff"] = {"before": "hostname = %s\n" % before, "after": "hostname = %s\n" % name}
    if context.check:
        return result
    if len(name) > _LONGEST:
        raise ModuleFailed("name cannot be longer than %d characters on systemd servers, try a shorter name" % _LONGEST)
    # By systemd, which tells NetworkManager and others of the new name.
    if kept != name:
        _hostnamectl(context, "--pretty", "--static", name)
    if running != name:
        _hostnamectl(context, "--transient", name)
    return result


def _hostnamectl(context: Context, *words: str) -> None:
    done = context.run(["hostnamectl", *words[:-1], "set-hostname", words[-1]])
    if done.rc:
        raise ModuleFailed("Command failed rc=%d, out=%s, err=%s" % (done.rc, done.stdout, done.stderr), rc=done.rc)
