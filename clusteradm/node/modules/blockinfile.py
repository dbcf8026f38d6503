"""blockinfile: a block of lines in a file, between two markers."""

import re
from typing import Any, Dict, List, Optional

from clusteradm.node.context import Context, ModuleFailed
from clusteradm.node.modules import lines


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Insert or update the block with its markers, or remove it."""
    path, present = options["path"], options["state"] == "present"
    before = lines.load(options)
    if before is None and not options["create"]:
        raise ModuleFailed("Path %s does not exist !" % path, rc=257)
    if before is None and not present:
        return {"changed": False, "msg": "File %s not present" % path}
    after = (before or b"").splitlines(True)
    block = _block(options) if present else []
    first, last = (_last(after, _marker(options, mark)) for mark in ("begin", "end"))
    if first is None or last is None:
        index = _place(before or b"", after, options)
    else:
        index = min(first, last)
        del after[index : max(first, last) + 1]
    if index == len(after):
        lines.ended(after)
    if options["prepend_newline"] and present and index and after[index - 1] != b"\n":
        after.insert(index, b"\n")
        index += 1
    after[index:index] = block
    end = index + len(block)
    if options["append_newline"] and present and end < len(after) and after[end] != b"\n":
        after.insert(end, b"\n")
    msg = "File created" if before is None else "Block inserted" if block else "Block removed"
    if b"".join(after) == before:
        msg = ""
    return lines.replace(options, before, after, msg, context)


def _marker(options: Dict[str, Any], mark: str) -> bytes:
    return (lines.encoded(options["marker"].replace("{mark}", options["marker_" + mark])) or b"") + b"\n"


def _block(options: Dict[str, Any]) -> List[bytes]:
    block = (lines.encoded(options["block"]) or b"").splitlines(True)
    lines.ended(block)
    return [_marker(options, "begin"), *block, _marker(options, "end")] if block else []


def _last(present: List[bytes], line: bytes) -> Optional[int]:
    found = [index for index, old in enumerate(present) if old == line]
    return found[-1] if found else None


def _place(text: bytes, present: List[bytes], options: Dict[str, Any]) -> int:
    """Index at which a new block is inserted."""
    before, after = options["insertbefore"], options["insertafter"]
    if before == "BOF":
        return 0
    pattern = before if before is not None else after
    if pattern is None or after == "EOF":
        return len(present)
    try:
        anchor = re.compile(lines.encoded(pattern) or b"")
    except re.error as error:
        raise ModuleFailed("%r is no regular expression: %s" % (pattern, error)) from None
    if anchor.flags & re.MULTILINE:
        match = anchor.search(text)
        found = [] if match is None else [text.count(b"\n", 0, match.start() if after is None else match.end())]
    else:
        found = [index for index, line in enumerate(present) if anchor.search(line)]
    return len(present) if not found else found[-1] + (after is not None)
