"""hostname: the machine's name, now and at the next boot."""

import socket
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed

_FILE = "/etc/hostname"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Set the running name and the kept one."""
    name = options["name"]
    running = socket.gethostname()
    kept = (files.read(_FILE) or b"").decode("utf-8", "replace").strip()
    result: Dict[str, Any] = {"name": name, "changed": running != name or kept != name}
    if context.diff and result["changed"]:
        result["diff"] = [{"before": "hostname = %s\n" % running, "after": "hostname = %s\n" % name}]
    if context.check:
        return result
    if kept != name:
        files.write(_FILE, name.encode("utf-8") + b"\n")
    if running != name:
        try:
            socket.sethostname(name)
        except OSError as error:
            raise Failed("cannot set the running name: %s" % error.strerror) from None
    return result
