"""What lineinfile and blockinfile share: where in a file new lines go."""

import os
import re
from typing import Any, Dict, List, Optional

from clusteradm.node import files
from clusteradm.node.modules import Failed


def load(options: Dict[str, Any]) -> Optional[bytes]:
    """The file's content; None where it is not there and may be made. Raises Failed otherwise."""
    path = options["path"]
    if os.path.isdir(path):
        raise Failed("Path %s is a directory !" % path, rc=256)
    before = files.read(path)
    if before is None and options["state"] == "present" and not options["create"]:
        raise Failed("Destination %s does not exist !" % path, rc=257)
    return before


def position(lines: List[str], options: Dict[str, Any]) -> int:
    """The index at which new lines are inserted: Ansible's insertbefore and insertafter, the end by default."""
    before, after = options["insertbefore"], options["insertafter"]
    if before == "BOF":
        return 0
    pattern = before or after
    if pattern in (None, "EOF"):
        return len(lines)
    found = [index for index, line in enumerate(lines) if re.search(pattern, line)]
    if not found:
        return len(lines)
    return found[-1] if before else found[-1] + 1
