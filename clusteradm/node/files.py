"""Files as a module changes them: attributes, atomic replacement, backups, diffs."""

import contextlib
import grp
import os
import pwd
import shutil
import stat
import tempfile
import time
from typing import Any, Dict, List, Optional

from clusteradm.node.modules import Failed

# Ansible's limit: what is larger is not shown.
MAX_DIFF_BYTES = 104448


def read(path: str) -> Optional[bytes]:
    """The file's content, or None if it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, data: bytes) -> None:
    """Replace the file in one step, keeping its owner and mode; a new one gets what umask leaves of 0666.

    A reader, a crash or a cancel sees the old file or the new one, never a part.
    """
    real = os.path.realpath(path)
    directory = os.path.dirname(real)
    if not os.path.isdir(directory):
        raise Failed("Destination directory %s does not exist" % directory)
    handle, temporary = tempfile.mkstemp(prefix=".%s." % os.path.basename(real), dir=directory)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            try:
                old = os.stat(real)
                os.fchown(handle, old.st_uid, old.st_gid)
                os.fchmod(handle, stat.S_IMODE(old.st_mode))
            except FileNotFoundError:
                os.fchmod(handle, 0o666 & ~_umask())
            file.flush()
            os.fsync(handle)
        os.rename(temporary, real)
    except BaseException:
        os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def backup(path: str) -> str:
    """Keep a copy beside the file, under Ansible's name for it; return that name."""
    copy = "%s.%d.%s" % (path, os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S~"))
    shutil.copy2(path, copy)
    old = os.stat(path)
    os.chown(copy, old.st_uid, old.st_gid)
    return copy


def attributes(path: str, options: Dict[str, Any], check: bool) -> bool:
    """Give the file the owner, group and mode that the options name; True if that is a change."""
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        return False  # in check mode: it will be made
    changed = False
    uid, gid = owner(options["owner"], check), group(options["group"], check)
    if (uid is not None and uid != now.st_uid) or (gid is not None and gid != now.st_gid):
        changed = True
        if not check:
            os.lchown(path, -1 if uid is None else uid, -1 if gid is None else gid)
    mode = options["mode"]
    if mode is not None and not stat.S_ISLNK(now.st_mode) and mode != stat.S_IMODE(now.st_mode):
        changed = True
        if not check:
            os.chmod(path, mode)
    return changed


def owner(name: Optional[str], check: bool = False) -> Optional[int]:
    """The uid of a user, by name or number."""
    if name is None:
        return None
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        if check:
            return -1  # an earlier task of this run would have made it: a change
        raise Failed("there is no user %s" % name) from None


def group(name: Optional[str], check: bool = False) -> Optional[int]:
    """The gid of a group, by name or number."""
    if name is None:
        return None
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if check:
            return -1
        raise Failed("there is no group %s" % name) from None


def diff(path: str, before: Optional[bytes], after: Optional[bytes]) -> List[Dict[str, Any]]:
    """Ansible's diff of a content: both texts, or a word on why they are not shown."""
    for data in (before, after):
        if data is not None and len(data) > MAX_DIFF_BYTES:
            return [{"dst_larger": MAX_DIFF_BYTES, "before_header": path, "after_header": path}]
        if data is not None and b"\0" in data:
            return [{"dst_binary": 1, "before_header": path, "after_header": path}]
    return [
        {
            "before": (before or b"").decode("utf-8", "replace"),
            "after": (after or b"").decode("utf-8", "replace"),
            "before_header": path,
            "after_header": path,
        }
    ]


def replace(path: str, before: Optional[bytes], after: bytes, options: Dict[str, Any], context: Any) -> Dict[str, Any]:
    """What every module that writes a whole content does: compare, keep a backup, write, set the attributes."""
    result: Dict[str, Any] = {"path": path, "changed": before != after}
    if before != after:
        if context.diff:
            result["diff"] = diff(path, before, after)
        if not context.check:
            if before is not None and options.get("backup"):
                result["backup_file"] = backup(path)
            write(path, after)
    if attributes(path, options, context.check):
        result["changed"] = True
    return result


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
