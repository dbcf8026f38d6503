"""sysctl: a kernel parameter, in a file that is read at boot, and now."""

import os
import re
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node import files
from clusteradm.node.context import Completed, Context, ModuleFailed

# Errors with which sysctl ends successfully.
_REFUSED = re.compile(r'^sysctl: setting key "[^"]+": (Invalid argument|Read-only file system)$', re.M)
_TRUE = ("yes", "on", "1", "true", "t", "y")
_FALSE = ("no", "off", "0", "false", "f", "n")


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Set the parameter in the file and in the kernel, or remove it from the file."""
    name, value, present = options["name"].strip(), _value(options["value"]), options["state"] == "present"
    if not name:
        raise ModuleFailed("name cannot be blank")
    if present and options["value"] is None:
        raise ModuleFailed("state is present but all of the following are missing: value")
    if present and not options["value"]:
        raise ModuleFailed("value cannot be blank")
    running = context.run(["sysctl", "-e", "-n", name])
    same = running.rc == 0 and running.stdout.split() == value.split()
    before, path = _lines(options["sysctl_file"]), options["sysctl_file"]
    kept = dict(filter(None, map(_setting, before))).get(name)
    write = kept != value if present else kept is not None
    put = present and options["sysctl_set"] and not same
    changed = write or put or (present and options["reload"] and not same)
    if changed and not context.check:
        ignoring = ["-e"] if options["ignoreerrors"] else []
        if put:
            _do(context, ["sysctl", *ignoring, "-w", "%s=%s" % (name, value)], "setting %s failed: " % name)
        if write:
            text = "".join(line + "\n" for line in _rewritten(before, name, value if present else None))
            files.write(path, text.encode("utf-8", "surrogateescape"))
        if options["reload"]:
            _do(context, ["sysctl", *ignoring, "-p", path], "Failed to reload sysctl: ")
    return {"changed": changed}


def _value(value: Optional[str]) -> str:
    """The value, with any boolean as 1 or 0."""
    text = (value or "").strip()
    return "1" if text.lower() in _TRUE else "0" if text.lower() in _FALSE else text


def _lines(path: str) -> List[str]:
    text = (files.read(path) or b"").decode("utf-8", "surrogateescape") if os.path.isfile(path) else ""
    return [line.strip() for line in text.splitlines()]


def _setting(line: str) -> Optional[Tuple[str, str]]:
    """Name and value that a line of the file sets; None if it sets nothing."""
    if not line or line[0] in "#;" or "=" not in line:
        return None
    name, value = line.split("=", 1)
    return name.strip(), value.strip()


def _rewritten(lines: List[str], name: str, value: Optional[str]) -> List[str]:
    """The lines with this value at the name's first line, or without the name; of each setting the first line only."""
    settings: Dict[str, bool] = {}
    after: List[str] = []
    for line in lines:
        setting = _setting(line)
        if setting is None:
            after.append(line)
        elif setting[0] not in settings:
            settings[setting[0]] = True
            if setting[0] != name:
                after.append("%s=%s" % setting)
            elif value is not None:
                after.append("%s=%s" % (name, value))
    if value is not None and name not in settings:
        after.append("%s=%s" % (name, value))
    return after


def _do(context: Context, command: List[str], why: str) -> None:
    done: Completed = context.run(command)
    if done.rc or _REFUSED.search(done.stderr):
        raise ModuleFailed(why + done.stdout + done.stderr)
