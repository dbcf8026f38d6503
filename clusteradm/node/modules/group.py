"""group: a group of users."""

import grp
from typing import Any, Dict, List

from clusteradm.node.context import Context, ModuleFailed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Create the group, with its gid, or remove it."""
    name = options["name"]
    if options["non_unique"] and options["gid"] is None:
        raise ModuleFailed("non_unique is True but all of the following are missing: gid")
    group = _look(name)
    result: Dict[str, Any] = {"name": name, "state": options["state"], "changed": False}
    command = _absent(options, group) if options["state"] == "absent" else _present(options, group)
    if command:
        result["changed"] = True
        if context.check and (group is None or options["state"] == "absent"):
            return {"changed": True}
        if not context.check:
            done = context.run([*command, name])
            if done.rc:
                raise ModuleFailed(done.stderr, name=name)
            group = _look(name)
    if group is not None:
        result.update(gid=group.gr_gid, system=options["system"])
    return result


def _absent(options: Dict[str, Any], group: Any) -> List[str]:
    if group is None:
        return []
    return ["groupdel", "-f"] if options["force"] else ["groupdel"]


def _present(options: Dict[str, Any], group: Any) -> List[str]:
    gid = options["gid"]
    number = [] if gid is None else ["-g", str(gid)]
    if options["non_unique"]:
        number.append("-o")
    if group is None:
        return ["groupadd", *number, *(["-r"] if options["system"] else [])]
    return ["groupmod", *number] if gid not in (None, group.gr_gid) else []


def _look(name: str) -> Any:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None
