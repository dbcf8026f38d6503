"""Lines of a file and their replacement, for lineinfile and blockinfile."""

import os
from typing import Any, Dict, List, Optional

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed


def load(options: Dict[str, Any]) -> Optional[bytes]:
    """The file's content; None if it is missing."""
    if os.path.isdir(options["path"]):
        raise ModuleFailed("Path %s is a directory !" % options["path"], rc=256)
    return files.read(options["path"])


def encoded(text: Optional[str]) -> Optional[bytes]:
    """The text, encoded for a file."""
    return None if text is None else text.encode("utf-8", "surrogateescape")


def ended(lines: List[bytes]) -> None:
    """End the last line, so that another can follow."""
    if lines and not lines[-1].endswith((b"\n", b"\r")):
        lines[-1] += b"\n"


def replace(
    options: Dict[str, Any], before: Optional[bytes], lines: List[bytes], msg: str, context: Context
) -> Dict[str, Any]:
    """Write the lines if they differ from `before`."""
    folder = os.path.dirname(options["path"])
    if before is None and folder and not context.check:
        files.make_folders(folder)
    after = b"".join(lines)
    result = files.replace(options["path"], before, after, options, context)
    result["msg"] = msg
    if result["changed"] and before == after:
        result["msg"] = "ownership, perms or SE linux context changed"
    return result
