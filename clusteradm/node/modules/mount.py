"""mount: a file system in fstab, and mounted."""

import os
from typing import Any, Dict, List, Optional

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed

_FSTAB = "/etc/fstab"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Make fstab and the mount what `state` says."""
    state, path = options["state"], options["path"].rstrip("/") or "/"
    if state in ("mounted", "present") and not (options["src"] and options["fstype"]):
        raise Failed("state is %s but src or fstype is missing" % state)
    result = {
        "name": path,
        "src": options["src"],
        "fstype": options["fstype"],
        "opts": options["opts"],
        "changed": False,
    }
    if state in ("mounted", "present", "absent"):
        _fstab(path, options, context, result)
    mounted = os.path.ismount(path)
    if state == "mounted" and (not mounted or result["changed"]):
        was = result["changed"]
        result["changed"] = True
        if not context.check:
            os.makedirs(path, exist_ok=True)
            if mounted and was:
                _do(context, ["umount", path])
            _do(context, ["mount", path])
    if state in ("unmounted", "absent") and mounted:
        result["changed"] = True
        if not context.check:
            _do(context, ["umount", path])
    if state == "absent" and os.path.isdir(path) and not context.check and not os.path.ismount(path):
        try:
            os.rmdir(path)
            result["changed"] = True
        except OSError:
            pass  # it is not empty: what is in it is not ours to remove
    return result


def _fstab(path: str, options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> None:
    before = files.read(_FSTAB) or b""
    lines = before.decode("utf-8", "surrogateescape").splitlines()
    wanted: Optional[str] = None
    if options["state"] != "absent":
        fields = [options["src"], path, options["fstype"], options["opts"], "0", "0"]
        wanted = " ".join(str(field).replace(" ", "\\040") for field in fields)
    after: List[str] = []
    done = False
    for line in lines:
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[1].replace("\\040", " ") != path:
            after.append(line)
        elif wanted is not None and not done:
            done = True
            after.append(line if _same(fields, wanted.split(" ")) else wanted)
    if wanted is not None and not done:
        after.append(wanted)
    if after == lines:
        return
    result["changed"] = True
    data = "".join(line + "\n" for line in after).encode("utf-8", "surrogateescape")
    if context.diff:
        result["diff"] = files.diff(_FSTAB, before, data)
    if not context.check:
        files.write(_FSTAB, data)


def _same(has: List[str], wanted: List[str]) -> bool:
    full = has + ["defaults", "0", "0"][len(has) - 3 :]
    return full == wanted


def _do(context: Context, command: List[str]) -> None:
    done = context.run(command)
    if done.rc:
        raise Failed("Error: %s: %s" % (" ".join(command), done.last_words()), rc=done.rc)
