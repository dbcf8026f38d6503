"""file: a directory, link, empty file or nothing at a path, and attributes."""

import os
import shutil
import time
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node import files, paths
from clusteradm.node.context import Context, ModuleFailed

Diff = Dict[str, Dict[str, Any]]


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Bring the path to `state`."""
    path = options["path"]
    if options["src"] and options["state"] in (None, "file", "touch", "directory") and os.path.isdir(path):
        path = options["path"] = os.path.join(path, os.path.basename(options["src"]))
    before = files.kind(path)
    state = options["state"]
    if state is None:
        state = before if before not in ("absent", "hard") else "directory" if options["recurse"] else "file"
    if options["recurse"] and state != "directory":
        raise ModuleFailed("recurse option requires state to be 'directory'", path=path)
    if options["src"] and state != "link":
        raise ModuleFailed("src option requires state to be 'link' or 'hard'", path=path)
    result: Dict[str, Any]
    result, diff = _STATES[state](path, before, options, context)
    result.update(files.describe(result.get("path") or result["dest"]))
    if context.diff and diff is not None:
        result["diff"] = diff
    return result


def _absent(path: str, before: str, options: Dict[str, Any], context: Context) -> Tuple[Dict[str, Any], Optional[Diff]]:
    result = {"path": path, "state": "absent", "changed": before != "absent"}
    if before == "absent":
        return result, None
    diff = _diff(path, before, "absent")
    if before == "directory" and context.diff:
        found: Dict[str, List[str]] = {"directories": [], "files": []}
        for top, directories, names in os.walk(path):
            found["directories"] += [os.path.join(top, name) for name in directories]
            found["files"] += [os.path.join(top, name) for name in names]
        diff["before"]["path_content"] = found
    if not context.check:
        if before == "directory":
            with paths.place(path.rstrip("/")) as here:
                shutil.rmtree(here.path)
        else:
            files.remove(path)
    return result, diff


def _directory(path: str, before: str, options: Dict[str, Any], context: Context) -> Tuple[Dict[str, Any], Diff]:
    if options["follow"] and before == "link":
        path = paths.real(path)
        before = files.kind(path)
    diff = _diff(path, before, "directory")
    if before not in ("absent", "directory"):
        raise ModuleFailed("%s already exists as a %s" % (path, before), path=path)
    changed = before == "absent"
    if changed:
        for one in [] if context.check else files.missing(path):
            files.make_folder(one)
            files.attributes(one, options, False, diff)
            _times(one, options, "preserve", context, diff)
        return {"path": path, "changed": True}, diff
    changed = files.attributes(path, options, context.check, diff)
    changed = _times(path, options, "preserve", context, diff) or changed
    if options["recurse"]:
        changed = _recurse(path, options, context) or changed
    return {"path": path, "changed": changed}, diff


def _recurse(top: str, options: Dict[str, Any], context: Context) -> bool:
    """Set the attributes of everything in a directory and, with `follow`, of the targets of its links."""
    changed = False
    itself = dict(options, follow=False)
    for folder, directories, names in os.walk(top):
        for path in (os.path.join(folder, name) for name in directories + names):
            changed = files.attributes(path, itself, context.check) or changed
            if os.path.islink(path):
                target = os.path.join(folder, os.readlink(path))
                if options["follow"] and os.path.exists(target):
                    paths.real(path)  # raises UnsafePath where root may not follow it
                    if os.path.isdir(target) and not _contains(target, path):
                        changed = _recurse(target, options, context) or changed
                    changed = files.attributes(target, itself, context.check) or changed
            else:
                changed = _times(path, options, "preserve", context) or changed
    return changed


def _contains(folder: str, path: str) -> bool:
    """Whether the path is in the folder: following a link to that would never end."""
    return (os.path.realpath(os.path.dirname(path)) + "/").startswith(os.path.realpath(folder).rstrip("/") + "/")


def _file(path: str, before: str, options: Dict[str, Any], context: Context) -> Tuple[Dict[str, Any], Diff]:
    if options["follow"] and before == "link":
        path = paths.real(path)
        before = files.kind(path)
    if before not in ("file", "hard"):
        raise ModuleFailed("file (%s) is %s, cannot continue" % (path, before), path=path, state=before)
    diff = _diff(path, before, "file")
    changed = files.attributes(path, options, context.check, diff)
    changed = _times(path, options, "preserve", context, diff) or changed
    return {"path": path, "changed": changed}, diff


def _touch(path: str, before: str, options: Dict[str, Any], context: Context) -> Tuple[Dict[str, Any], Optional[Diff]]:
    if before == "absent" and context.check:
        return {"dest": path, "changed": True}, None
    diff = _diff(path, before, "touch")
    changed = before == "absent"
    if changed:
        open(path, "wb", opener=paths.opener).close()
    changed = files.attributes(path, options, context.check, diff) or changed
    changed = _times(path, options, "now", context, diff) or changed
    return {"dest": path, "changed": changed}, diff


def _link(path: str, before: str, options: Dict[str, Any], context: Context) -> Tuple[Dict[str, Any], Diff]:
    source, force = options["src"], options["force"]
    if source is None and options["follow"] and before == "link" and os.path.exists(path):
        source = os.readlink(path)
    if source is not None and not force:
        target = os.path.join(path if before == "directory" else os.path.dirname(path), source)
        if not os.path.exists(target):
            words = "src file does not exist, use 'force=yes' if you really want to create the link: %s"
            raise ModuleFailed(words % target, path=path, src=source)
    if before in ("file", "hard", "directory") and not force:
        raise ModuleFailed("refusing to convert from %s to symlink for %s" % (before, path), path=path)
    if before == "directory" and os.listdir(path):
        raise ModuleFailed("the directory %s is not empty, refusing to convert it" % path, path=path)
    if source is None and before != "link":
        raise ModuleFailed("src is required for creating new symlinks")
    diff = _diff(path, before, "link")
    changed = before != "link"
    if before == "link" and source is not None and os.readlink(path) != source:
        changed = True
        diff["before"]["src"], diff["after"]["src"] = os.readlink(path), source
    if changed and not context.check:
        temporary = ".%d.%s.tmp" % (os.getpid(), time.time())
        with paths.place(path.rstrip("/")) as here:
            if before == "directory":
                os.rmdir(here.name, dir_fd=here.folder)
            os.symlink(source, temporary, dir_fd=here.folder)
            os.rename(temporary, here.name, src_dir_fd=here.folder, dst_dir_fd=here.folder)
    if os.path.exists(path):  # else the target is missing, and nothing has attributes
        changed = files.attributes(path, options, context.check, diff) or changed
        changed = _times(path, options, "preserve", context, diff) or changed
    elif not options["follow"]:
        changed = files.attributes(path, options, context.check, diff) or changed
    return {"dest": path, "src": source, "changed": changed}, diff


_STATES: Dict[str, Any] = {
    "absent": _absent,
    "directory": _directory,
    "file": _file,
    "hard": _file,
    "link": _link,
    "touch": _touch,
}


def _diff(path: str, before: str, after: str) -> Diff:
    diff: Diff = {"before": {"path": path}, "after": {"path": path}}
    if before != after:
        diff["before"]["state"], diff["after"]["state"] = before, after
    return diff


def _times(path: str, options: Dict[str, Any], default: str, context: Context, diff: Optional[Diff] = None) -> bool:
    """Set the times that the options name; True if that is a change, as "now" always is."""
    now = os.stat(path)
    wanted = [_time(options, name, default) for name in ("access_time", "modification_time")]
    old = [now.st_atime, now.st_mtime]
    new = [before if time is None else time for before, time in zip(old, wanted)]
    if new == old:
        return False
    if not context.check:
        with paths.look(path, follow=True) as (fd, _):
            os.utime(paths.by_descriptor(fd), None if _is_now(options, default) else (new[0], new[1]))
    for index, name in enumerate(("atime", "mtime")):
        if diff is not None and old[index] != new[index]:
            diff["before"][name], diff["after"][name] = old[index], new[index]
    return True


def _is_now(options: Dict[str, Any], default: str) -> bool:
    return all((options[name] or default) == "now" for name in ("access_time", "modification_time"))


def _time(options: Dict[str, Any], name: str, default: str) -> Optional[float]:
    text, form = options[name] or default, options[name + "_format"]
    if text == "preserve":
        return None
    if text == "now":
        return time.time()
    try:
        return time.mktime(time.strptime(text, form))
    except (ValueError, OverflowError) as error:
        words = "Error while obtaining timestamp for time %s using format %s: %s"
        raise ModuleFailed(words % (text, form, error)) from None
