"""apt_repository: a package source in one-line format, in a file of its own or in the one that has it already."""

import glob
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed
from clusteradm.node.modules import apt

_MAIN = "/etc/apt/sources.list"
_FOLDER = "/etc/apt/sources.list.d"
_TYPES = ("deb", "deb-src")

# A line of a file: whether it is active, the source, and the comment after it.
_Line = Tuple[bool, str, str]


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Add or remove the source, then fetch the lists. Restores the files if that fails."""
    active, source, _ = _parse(options["repo"])
    if not active or source.split(" ")[0] not in _TYPES:
        hint = " (a ppa is Ubuntu's)" if options["repo"].startswith("ppa:") else ""
        raise ModuleFailed("Invalid repository string: %s%s" % (options["repo"], hint))
    contents = {
        path: files.read(path) or b"" for path in [_MAIN, *glob.glob(_FOLDER + "/*.list")] if os.path.isfile(path)
    }
    lines = {path: [_parse(line) for line in data.decode("utf-8").splitlines()] for path, data in contents.items()}
    before = _texts(lines)
    new = None
    if options["state"] == "present":
        new = _add(source, options, lines)
    else:
        lines = {path: [line for line in each if line[:2] != (True, source)] for path, each in lines.items()}
    after = _texts(lines)
    result: Dict[str, Any] = {"changed": before != after, "repo": options["repo"], "state": options["state"]}
    result["sources_added"] = [path for path in after if path not in before]
    result["sources_removed"] = [path for path in before if path not in after]
    result["diff"] = []
    if context.diff:
        result["diff"] = [
            {
                "before": before.get(path, ""),
                "after": after.get(path, ""),
                "before_header": path if path in before else "/dev/null",
                "after_header": path if path in after else "/dev/null",
            }
            for path in result["sources_added"] + result["sources_removed"]
        ]
    if result["changed"] and not context.check:
        _save({path: after.get(path, "").encode("utf-8") for path in lines}, contents)
        if new is not None:
            files.attributes(new, {"owner": None, "group": None, "mode": options["mode"]}, False)
        if options["update_cache"]:
            try:
                apt.update(context, options["update_cache_retries"], options["update_cache_retry_max_delay"])
            except ModuleFailed:
                _save(dict(dict.fromkeys(after, b""), **contents), {})
                raise
    return result


def _parse(line: str) -> _Line:
    line = line.strip()
    active = not line.startswith("#")
    line = line if active else line[1:]
    source, _, comment = line.partition("#") if line.find("#") > 0 else (line, "", "")
    source = source.strip()
    if source.split(" ")[0].split("\t")[0] in _TYPES:
        source = " ".join(source.split())
    return active, source, comment.strip()


def _texts(lines: Dict[str, List[_Line]]) -> Dict[str, str]:
    """The new text of each file; an empty file is left out."""
    found = {}
    for path, each in lines.items():
        if each:
            found[path] = "".join(
                ("" if active else "# ") + source + (" # " + comment if comment else "") + "\n"
                for active, source, comment in each
            )
    return found


def _add(source: str, options: Dict[str, Any], lines: Dict[str, List[_Line]]) -> Optional[str]:
    """Activate the line that has the source, or add one to a file, whose path is returned."""
    found = False
    for each in lines.values():
        for index, (_, said, comment) in enumerate(each):
            if said == source:
                each[index] = (True, said, comment)
                found = True
    if found:
        return None
    path = os.path.join(_FOLDER, (options["filename"] or _name(source)) + ".list")
    lines.setdefault(path, []).append((True, source, ""))
    return path


def _name(source: str) -> str:
    """The file name that Ansible makes of the source's address."""
    bare = re.sub(r"\w+://", "", re.sub(r"\[[^\]]+\]", "", source))
    address = next(part for part in bare.split() if part not in _TYPES)
    return "_".join(re.sub("[^a-zA-Z0-9]", " ", address.split("@", 1)[-1]).split())


def _save(wanted: Dict[str, bytes], contents: Dict[str, bytes]) -> None:
    for path, data in wanted.items():
        if data and data != contents.get(path):
            files.make_folders(os.path.dirname(path))
            files.write(path, data)
        elif not data and os.path.exists(path):
            files.remove(path)
