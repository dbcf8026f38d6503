"""file: a directory, a link, attributes, or nothing at a path."""

import os
import shutil
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed


def _kind(path: str) -> str:
    if os.path.islink(path):
        return "link"
    if os.path.isdir(path):
        return "directory"
    return "file" if os.path.lexists(path) else "absent"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Make the path what `state` says."""
    path = options["path"]
    before = _kind(path)
    state = options["state"] or ("file" if before == "absent" else before)
    result: Dict[str, Any] = {"path": path, "state": state, "changed": False}
    if state == "absent":
        result["changed"] = before != "absent"
        if result["changed"] and not context.check:
            if before == "directory":
                shutil.rmtree(path)
            else:
                os.unlink(path)
    elif state == "directory":
        result["changed"] = _directory(path, before, options, context)
    elif state == "link":
        result["changed"] = _link(path, before, options, context)
    elif state == "touch":
        result["changed"] = True
        if not context.check:
            with open(path, "ab"):
                os.utime(path)
            files.attributes(path, options, False)
    elif before in ("absent", "directory"):
        raise Failed("file (%s) is %s, cannot continue" % (path, before), path=path, state=before)
    else:
        result["changed"] = files.attributes(path, options, context.check)
    if context.diff and result["changed"]:
        result["diff"] = [{"before": "state: %s\n" % before, "after": "state: %s\n" % state, "before_header": path}]
    return result


def _directory(path: str, before: str, options: Dict[str, Any], context: Context) -> bool:
    if before == "link" and os.path.isdir(path):
        before = "directory"
    if before not in ("absent", "directory"):
        raise Failed("%s already exists as a %s" % (path, before), path=path)
    if before == "absent":
        if not context.check:
            missing = path.rstrip("/")
            made = []
            while missing and not os.path.isdir(missing):
                made.append(missing)
                missing = os.path.dirname(missing)
            for one in reversed(made):
                os.mkdir(one)
                files.attributes(one, options, False)
        return True
    changed = files.attributes(path, options, context.check)
    if options["recurse"]:
        for top, directories, names in os.walk(path):
            for name in directories + names:
                changed = files.attributes(os.path.join(top, name), options, context.check) or changed
    return changed


def _link(path: str, before: str, options: Dict[str, Any], context: Context) -> bool:
    source = options["src"]
    if not source:
        raise Failed("src is required for creating new links", path=path)
    if before == "link" and os.readlink(path) == source:
        return False
    if before in ("file", "directory") and not options["force"]:
        raise Failed("refusing to convert from %s to symlink for %s" % (before, path), path=path)
    if not context.check:
        temporary = "%s.%d" % (path, os.getpid())
        os.symlink(source, temporary)
        if before == "directory":
            os.rmdir(path)
        os.rename(temporary, path)
    return True
