"""lineinfile: one line of a file."""

import re
from typing import Any, Dict, List, Tuple

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed, lines


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the line, or have none that matches."""
    before = lines.load(options)
    text = (before or b"").decode("utf-8", "surrogateescape")
    present = text.splitlines()
    if options["state"] == "present":
        if options["line"] is None:
            raise Failed("line is required with state=present")
        after, msg = _present(present, options)
    else:
        if options["line"] is None and options["regexp"] is None:
            raise Failed("one of line or regexp is required with state=absent")
        after = [line for line in present if not _matches(line, options)]
        gone = len(present) - len(after)
        msg = "%d line(s) removed" % gone if gone else ""
    if after == present:
        if before is None:
            return {"changed": False, "msg": "file not present"}
        return {"changed": files.attributes(options["path"], options, context.check), "msg": "", "backup": ""}
    data = "".join(line + "\n" for line in after).encode("utf-8", "surrogateescape")
    result = files.replace(options["path"], before, data, options, context)
    result["msg"] = msg
    result["backup"] = result.get("backup_file", "")
    return result


def _matches(line: str, options: Dict[str, Any]) -> bool:
    if options["regexp"] is not None:
        return re.search(options["regexp"], line) is not None
    return bool(line == options["line"])


def _present(present: List[str], options: Dict[str, Any]) -> Tuple[List[str], str]:
    line = options["line"]
    if options["regexp"] is not None:
        found = [index for index, old in enumerate(present) if re.search(options["regexp"], old)]
        if found:
            after = list(present)
            after[found[-1]] = line
            return after, "line replaced"
    if line in present:
        return present, ""
    index = lines.position(present, options)
    return [*present[:index], line, *present[index:]], "line added"
