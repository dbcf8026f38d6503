"""What `copy` puts into a file, where the admin's machine has it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from clusteradm.node.spec import normalise
from clusteradm.playbook.model import Task
from clusteradm.playbook.variables import find


def of_copy(task: Task, args: dict[str, Any]) -> bytes | None:
    """The body; None if it is on the host already. `args` become what the host needs beside it.

    Raises ValueError or FileNotFoundError.
    """
    options = normalise("copy", args)
    content, src = options["content"], options["src"]
    if content is not None:
        del args["content"]
        args["src"] = ""
        return (json.dumps(content) if isinstance(content, dict | list) else str(content)).encode()
    if options["remote_src"]:
        return None
    if any((folder / src).is_dir() for folder in (task.folder / "files", task.folder)):
        raise ValueError(f"{src} is a folder: copy takes single files here (a loop over them, or an archive)")
    path = find(src, task, "files")
    described(path, args)
    return path.read_bytes()


def described(path: Path, args: dict[str, Any]) -> None:
    """Give the host the name, and the mode if that is wanted, of the file that a body comes from."""
    args["src"] = path.name
    if args.get("mode") == "preserve":
        args["mode"] = stat.S_IMODE(path.stat().st_mode)
