"""group: a group of users."""

import grp
from typing import Any, Dict

from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the group, with its gid, or not."""
    name, gid = options["name"], options["gid"]
    try:
        now: Any = grp.getgrnam(name)
    except KeyError:
        now = None
    result: Dict[str, Any] = {"name": name, "state": options["state"], "system": options["system"], "changed": False}
    if options["state"] == "absent":
        command = ["groupdel", name] if now else []
    elif now is None:
        command = ["groupadd"] + (["-r"] if options["system"] else []) + (["-g", str(gid)] if gid is not None else [])
        command.append(name)
    elif gid is not None and now.gr_gid != gid:
        command = ["groupmod", "-g", str(gid), name]
    else:
        command = []
    if command:
        result["changed"] = True
        if not context.check:
            done = context.run(command)
            if done.rc:
                raise Failed(done.last_words(), rc=done.rc, name=name)
            if options["state"] == "present":
                result["gid"] = grp.getgrnam(name).gr_gid
    elif now is not None:
        result["gid"] = now.gr_gid
    return result
