"""mount: a file system in fstab, and its mount."""

import contextlib
import os
from typing import Any, Dict, List, Optional

from clusteradm.node import files, paths
from clusteradm.node.context import Context, ModuleFailed

_FSTAB = "/etc/fstab"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Bring fstab and the mount to `state`."""
    state, path = options["state"], options["path"]
    if state in ("mounted", "present") and not (options["src"] and options["fstype"]):
        missing = ", ".join(name for name in ("src", "fstype") if not options[name])
        raise ModuleFailed("state is %s but all of the following are missing: %s" % (state, missing))
    if not options["boot"]:
        options["opts"] += ",noauto"
    result = {key: options[key] for key in ("src", "fstype", "opts", "dump", "passno")}
    result.update(name=path, fstab=_FSTAB, boot="yes" if options["boot"] else "no", backup_file="", changed=False)
    return dict(result, **_STATES[state](path, options, context))


def _absent(path: str, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    changes = _in_fstab(path, None, options, context)
    if changes["changed"] and not context.check:
        if _is_mounted(path):
            _do(context, "Error unmounting %s" % path, ["umount", path])
        if os.path.exists(path):
            try:
                os.rmdir(path)
            except OSError as error:
                raise ModuleFailed("Error rmdir %s: %s" % (path, error)) from None
    return changes


def _absent_from_fstab(path: str, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    return _in_fstab(path, None, options, context)


def _present(path: str, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    return _in_fstab(path, _fields(path, options), options, context)


def _unmounted(path: str, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    mounted = _is_mounted(path)
    if mounted and not context.check:
        _do(context, "Error unmounting %s" % path, ["umount", path])
    return {"changed": mounted}


def _remounted(path: str, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    if not context.check:
        how = "remount" if options["opts"] == "defaults" else "remount," + options["opts"]
        done = context.run(["mount", "-o", how, path])
        if done.rc and how != "remount":
            raise ModuleFailed(
                "Options were specified with remounted, but the remount command failed (%s): unmount it, and mount it "
                "with the options wanted" % done.tail()
            )
        if done.rc:
            _do(context, "Error remounting %s" % path, ["umount", path], ["mount", path])
    return {"changed": True}


def _mounted(path: str, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    was, fstab = _is_mounted(path), files.read(_FSTAB)
    old = _entry(path, (fstab or b"").decode("utf-8", "surrogateescape").splitlines())
    wanted = _fields(path, options)
    made = [] if context.check else files.missing(path)
    for folder in made:
        files.make_folder(folder)
    paths.real(path)  # raises UnsafePath for a link that root does not follow
    changes = _in_fstab(path, wanted, options, context)
    if context.check or (was and not changes["changed"]):
        return dict(changes, changed=changes["changed"] or not was)
    try:
        if not was:
            _do(context, "Error mounting %s" % path, ["mount", path])
        # A mounted file system can take other options, but not another source.
        elif old is None or old[0] != wanted[0] or context.run(["mount", "-o", "remount", path]).rc:
            _do(context, "Error mounting %s" % path, ["umount", path], ["mount", path])
    except ModuleFailed:
        if fstab is not None:  # an entry that cannot be mounted may stop the next boot
            files.write(_FSTAB, fstab)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise
    return dict(changes, changed=True)


_STATES: Dict[str, Any] = {
    "absent": _absent,
    "absent_from_fstab": _absent_from_fstab,
    "mounted": _mounted,
    "present": _present,
    "remounted": _remounted,
    "unmounted": _unmounted,
}


def _fields(path: str, options: Dict[str, Any]) -> List[str]:
    fields = [options["src"], path, *(options[name] for name in ("fstype", "opts", "dump", "passno"))]
    return [_escaped(field) for field in fields]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\134").replace(" ", "\\040").replace("&", "\\046")


def _entry(path: str, lines: List[str]) -> Optional[List[str]]:
    """The fields of the path's line in fstab; None if there is none."""
    found = [line.split("#")[0].split() for line in lines if _is_of(line, path)]
    return found[-1] if found else None


def _is_of(line: str, path: str) -> bool:
    fields = line.split("#")[0].split()
    return 4 <= len(fields) <= 6 and fields[1] == _escaped(path)


def _in_fstab(path: str, wanted: Optional[List[str]], options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Write these fields to fstab, or remove the path's line."""
    before = files.read(_FSTAB) or b""
    lines = before.decode("utf-8", "surrogateescape").splitlines(True)
    after = []
    for line in lines:
        if not _is_of(line, path):
            after.append(line)
        elif wanted is not None:
            after.append(line if line.split("#")[0].split() == wanted else " ".join(wanted) + "\n")
    if wanted is not None and not any(_is_of(line, path) for line in lines):
        if after and not after[-1].endswith("\n"):
            after[-1] += "\n"
        after.append(" ".join(wanted) + "\n")
    if after == lines:
        return {"changed": False}
    kept = ""
    if not context.check:
        kept = files.backup(_FSTAB) if options["backup"] else ""
        files.write(_FSTAB, "".join(after).encode("utf-8", "surrogateescape"))
    return {"changed": True, "backup_file": kept}


def _is_mounted(path: str) -> bool:
    """By the kernel's table, which has bind mounts as well."""
    wanted = path.rstrip("/") or "/"
    with open("/proc/self/mountinfo", "r", errors="surrogateescape") as file:
        return any(line.split()[4].replace("\\040", " ").replace("\\134", "\\") == wanted for line in file)


def _do(context: Context, what: str, *commands: List[str]) -> None:
    for command in commands:
        done = context.run(command)
        if done.rc:
            raise ModuleFailed("%s: %s" % (what, done.tail()), rc=done.rc)
