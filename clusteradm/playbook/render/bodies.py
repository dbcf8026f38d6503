"""File bodies that `copy` and `template` send to a host."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.node.spec.modules import MODULES, convert, normalise
from clusteradm.playbook.model import Task
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.render.variables import OMIT, Variables, find


def of_copy(task: Task, args: dict[str, Any]) -> bytes | None:
    """The body of a copy; None if its source is on the host (remote_src).

    `args` are changed to those that the host needs with the body. Raises ValueError or FileNotFoundError.
    """
    options = normalise("copy", args)
    content, src = options["content"], options["src"]
    if content is not None:
        if options["mode"] == "preserve":
            raise ValueError("mode: preserve needs src; content has no mode to preserve")
        del args["content"]
        args["src"] = ""
        return (json.dumps(content) if isinstance(content, dict | list) else str(content)).encode()
    if options["remote_src"]:
        return None
    path = source(task, src)
    described(path, args)
    return path.read_bytes()


def source(task: Task, src: str) -> Path:
    """The source file of a copy. Raises ValueError or FileNotFoundError."""
    if any(regular.is_folder(folder / src) for folder in (task.folder / "files", task.folder)):
        raise ValueError(f"{src} is a folder: copy takes single files here (use a loop over them, or an archive)")
    return find(src, task, "files")


def described(path: Path, args: dict[str, Any]) -> None:
    """Put into `args` the name, and with mode: preserve the mode, of the file that a body comes from."""
    args["src"] = path.name
    if args.get("mode") == "preserve":
        args["mode"] = stat.S_IMODE(path.stat().st_mode)


# Jinja's options of a template: options of the module, or of Ansible's first line "#jinja2: ...".
_SYNTAX = ("lstrip_blocks", "trim_blocks")
_HEADER = "#jinja2:"


def syntax(text: str, task: Task, variables: Variables) -> tuple[str, dict[str, bool]]:
    """A template's text without its #jinja2 line, and the Jinja options of both. Raises ValueError."""
    given = {name: strict(variables.render(task.args[name])) for name in _SYNTAX if name in task.args}
    if text.startswith(_HEADER):
        header, _, text = text.partition("\n")
        for pair in header.removeprefix(_HEADER).split(","):
            name, _, value = (part.strip() for part in pair.partition(":"))
            if name not in _SYNTAX:
                raise ValueError(f"{_HEADER} takes {' and '.join(_SYNTAX)} here, not {name!r}")
            given[name] = value
        text = "{#\n+#}" + text  # so that an error still names its line
    options = MODULES["template"]["options"]
    given = {name: value for name, value in given.items() if value is not OMIT}
    return text, {name: convert("template", name, options[name], value) for name, value in given.items()}
