"""lineinfile: one line of a file."""

import io
import re
from typing import Any, Callable, Dict, List, Optional, Tuple

from clusteradm.node.context import Context, ModuleFailed
from clusteradm.node.modules import lines

Match = Callable[[bytes], Any]


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Add or replace the line, or remove those that match."""
    before = lines.load(options)
    present = io.BytesIO(before or b"").readlines()
    if options["state"] == "absent":
        return _absent(before, present, options, context)
    if options["backrefs"] and options["regexp"] is None:
        raise ModuleFailed("regexp is required with backrefs=true")
    if options["line"] is None:
        raise ModuleFailed("line is required with state=present")
    if before is None and not options["create"]:
        raise ModuleFailed("Destination %s does not exist !" % options["path"], rc=257)
    msg = _present(present, options)
    if not msg and before is None:
        return {"changed": False, "msg": "", "backup": ""}
    return _with_backup(lines.replace(options, before, present, msg, context))


def _absent(before: Optional[bytes], present: List[bytes], options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    matches = _matcher(options)
    if matches is None:
        raise ModuleFailed("one of line, search_string, or regexp is required with state=absent")
    if before is None:
        return {"changed": False, "msg": "file not present"}
    after = [line for line in present if not matches(line)]
    found = len(present) - len(after)
    msg = "%d line(s) removed" % found if found else ""
    return dict(_with_backup(lines.replace(options, before, after, msg, context)), found=found)


def _with_backup(result: Dict[str, Any]) -> Dict[str, Any]:
    return dict(result, backup=result.pop("backup_file", ""))


def _matcher(options: Dict[str, Any]) -> Optional[Match]:
    """The test for lines that the task is about; None if it names none."""
    wanted, line = lines.encoded(options["search_string"]), lines.encoded(options["line"])
    if options["regexp"] is not None:
        pattern = _compiled(options["regexp"])
        return lambda old: pattern.search(old)
    if wanted is not None:
        return lambda old: wanted in old
    return None if line is None else lambda old: old.rstrip(b"\r\n") == line


def _compiled(pattern: str) -> Any:
    try:
        return re.compile(lines.encoded(pattern) or b"")
    except re.error as error:
        raise ModuleFailed("%r is no regular expression: %s" % (pattern, error)) from None


def _present(present: List[bytes], options: Dict[str, Any]) -> str:
    """Add or replace the line; Ansible's message about it, "" if nothing changed."""
    line: bytes = lines.encoded(options["line"]) or b""
    before, after = options["insertbefore"], options["insertafter"]
    index, match = None, None
    if options["regexp"] is not None or options["search_string"] is not None:
        index, match = _found(present, _matcher(options) or (lambda old: None), options["firstmatch"])
    place = None
    if index is None:
        index, place = _place(present, line, options)
    new = match.expand(line) if match is not None and options["backrefs"] else line
    if not new.endswith(b"\n"):
        new += b"\n"
    if index is not None:
        if present[index] == new:
            return ""
        present[index] = new
        return "line replaced"
    if options["backrefs"]:
        return ""  # backrefs refer to a match, and there is none
    if "BOF" in (before, after):
        place = 0
    elif place is None:
        place = len(present)
    elif after is not None and _bare(present, place if place < len(present) else place - 1) == line:
        return ""
    if place == len(present):
        lines.ended(present)
    present.insert(place, new)
    return "line added"


def _found(present: List[bytes], matches: Match, first: bool) -> Tuple[Optional[int], Any]:
    index, found = None, None
    for number, old in enumerate(present):
        match = matches(old)
        if match:
            index, found = number, match
            if first:
                break
    return index, found


def _place(present: List[bytes], line: bytes, options: Dict[str, Any]) -> Tuple[Optional[int], Optional[int]]:
    """Index of the line that matches, and the one that insertbefore or insertafter gives."""
    pattern = options["insertbefore"] or options["insertafter"]
    anchor = None if pattern in (None, "BOF") or options["insertafter"] == "EOF" else _compiled(pattern)
    index, place = None, None
    for number, old in enumerate(present):
        if old.rstrip(b"\r\n") == line:
            index = number
        elif anchor is not None and anchor.search(old):
            place = number + (options["insertafter"] is not None)
            if options["firstmatch"]:
                break
    return index, place


def _bare(present: List[bytes], index: int) -> bytes:
    return present[index].rstrip(b"\r\n")
