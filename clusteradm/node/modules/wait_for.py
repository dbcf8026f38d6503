"""wait_for: wait until a port answers or a file exists, or no longer does; or for some time."""

import os
import re
import socket
import time
from typing import Any, Dict, Optional

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Poll, for at most `timeout` seconds."""
    port, path, state = options["port"], options["path"], options["state"]
    if context.check:
        return {"changed": False, "skipped": True, "msg": "remote module does not support check mode"}
    if options["search_regex"] is not None and state in ("stopped", "absent") and port is not None:
        raise ModuleFailed("state=%s should only be used for checking a port in the wait_for module" % state, elapsed=0)
    if path is not None and state == "stopped":
        raise ModuleFailed("state=stopped should only be used for checking a port in the wait_for module", elapsed=0)
    started = time.monotonic()
    time.sleep(options["delay"])
    result: Dict[str, Any] = {"changed": False, "path": path, "port": port, "search_regex": options["search_regex"]}
    result["state"] = state
    if port is None and path is None and state != "stopped":
        time.sleep(options["timeout"])
        return dict(result, elapsed=_since(started))
    found: Dict[str, Any] = {}
    while True:
        if _reached(options, found):
            if path is not None and os.path.lexists(path):  # as in Ansible: the kind of the existing file
                result["state"] = files.kind(path)
            return dict(result, elapsed=_since(started), **found)
        left = options["timeout"] - (time.monotonic() - started)
        if left <= 0:
            raise ModuleFailed(options["msg"] or _timeout_message(options), elapsed=_since(started))
        time.sleep(min(left, options["sleep"]))


def _since(started: float) -> int:
    return int(time.monotonic() - started)


def _reached(options: Dict[str, Any], found: Dict[str, Any]) -> bool:
    wanted = options["state"] in ("started", "present")
    if options["path"] is not None:
        return _file(options, found) is wanted
    return _port(options, found) is wanted


def _file(options: Dict[str, Any], found: Dict[str, Any]) -> bool:
    if options["search_regex"] is None:
        return os.access(options["path"], os.F_OK)
    try:
        with open(options["path"], "rb") as file:
            return _matches(options["search_regex"], file.read(), found)
    except OSError:
        return False


def _port(options: Dict[str, Any], found: Dict[str, Any]) -> bool:
    try:
        with socket.create_connection((options["host"], options["port"]), options["connect_timeout"]) as line:
            if options["search_regex"] is None:
                return True
            line.settimeout(options["connect_timeout"])
            data = b""
            while True:
                more: Optional[bytes] = line.recv(1024)
                if not more:
                    return False
                data += more
                if _matches(options["search_regex"], data, found):
                    return True
    except OSError:
        return False


def _matches(pattern: str, data: bytes, found: Dict[str, Any]) -> bool:
    match = re.search(pattern, data.decode("utf-8", "surrogateescape"), re.M)
    if not match:
        return False
    found["match_groups"] = list(match.groups())
    found["match_groupdict"] = match.groupdict()
    return True


def _timeout_message(options: Dict[str, Any]) -> str:
    """Ansible's message."""
    state, path, pattern = options["state"], options["path"], options["search_regex"]
    where = path if path is not None else "%s:%s" % (options["host"], options["port"])
    if state in ("absent", "stopped"):
        return "Timeout when waiting for %s to be %s." % (where, "absent" if path is not None else "stopped")
    if pattern is not None:
        return "Timeout when waiting for search string %s in %s" % (pattern, where)
    return "Timeout when waiting for %s" % (where if path is None else "file %s" % path)
