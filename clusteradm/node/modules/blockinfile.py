"""blockinfile: some lines of a file, between two markers."""

from typing import Any, Dict, Optional

from clusteradm.node import files
from clusteradm.node.modules import Context, lines


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the block between its markers, or neither."""
    before = lines.load(options)
    present = (before or b"").decode("utf-8", "surrogateescape").splitlines()
    begin = options["marker"].replace("{mark}", "BEGIN")
    end = options["marker"].replace("{mark}", "END")
    wanted = options["block"].splitlines() if options["state"] == "present" else []
    block = [begin, *wanted, end] if wanted else []
    first, last = _last_index(present, begin), _last_index(present, end)
    if first is not None and last is not None and first < last:
        after = [*present[:first], *block, *present[last + 1 :]]
    else:
        # A lone marker is of a block that somebody cut: it goes, and the block comes anew.
        rest = [line for line in present if line not in (begin, end)]
        index = lines.position(rest, options)
        after = [*rest[:index], *block, *rest[index:]]
    if after == present and before is not None:
        return {"changed": files.attributes(options["path"], options, context.check), "msg": ""}
    if before is None and not block:
        return {"changed": False, "msg": "File %s not present" % options["path"]}
    data = "".join(line + "\n" for line in after).encode("utf-8", "surrogateescape")
    result = files.replace(options["path"], before, data, options, context)
    result["msg"] = "Block inserted" if first is None else "Block changed" if block else "Block removed"
    return result


def _last_index(present: Any, line: str) -> Optional[int]:
    found = [index for index, old in enumerate(present) if old == line]
    return found[-1] if found else None
