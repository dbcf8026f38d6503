"""Files, as modules change them: content, attributes, backups, diffs.

Every path is walked as node/paths.py says: root is led nowhere by a link in a folder that another user can write.
"""

import contextlib
import grp
import os
import pwd
import re
import shlex
import shutil
import stat
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

from clusteradm.node import atomic, paths
from clusteradm.node.context import Context, ModuleFailed

# Ansible's limit: a larger file is not shown in a diff.
MAX_DIFF_BYTES = 104448


def read(path: str) -> Optional[bytes]:
    """The file's content; None if it is missing."""
    try:
        with open(path, "rb", opener=paths.opener) as file:
            return file.read()
    except FileNotFoundError:
        return None


def make_folder(path: str, mode: int = 0o777) -> None:
    """Make a folder. Raises OSError where its parent is missing."""
    with paths.named(path), paths.place(path.rstrip("/")) as here:
        os.mkdir(here.name, mode, dir_fd=here.folder)


def make_folders(path: str) -> None:
    """Make the folder and its parents, as far as they are missing."""
    for folder in missing(path):
        make_folder(folder)


def remove(path: str) -> None:
    """Remove a file or a link."""
    with paths.named(path), paths.place(path) as here:
        os.unlink(here.name, dir_fd=here.folder)


def missing(folder: str) -> List[str]:
    """The missing ones of the folder and its parents, the outermost first."""
    found: List[str] = []
    folder = folder.rstrip("/")
    while folder and not os.path.exists(folder):
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return found


def write(
    path: str,
    data: Union[bytes, Iterable[bytes]],
    follow: bool = True,
    prepare: Optional[Callable[[Any], None]] = None,
) -> None:
    """Replace the file in one step, keeping owner and mode; a new one gets what the umask leaves of 0666.

    A link is followed, or replaced. `prepare` is called with the new file, open, before it takes the old one's place.
    """
    try:
        with paths.named(path), paths.place(path, follow) as here:
            _write(here, data, prepare)
    except (FileNotFoundError, NotADirectoryError):
        directory = os.path.dirname(os.path.realpath(path) if follow else path) or "."
        if os.path.isdir(directory):
            raise
        raise ModuleFailed("Destination directory %s does not exist" % directory) from None


def _write(here: paths.Place, data: Union[bytes, Iterable[bytes]], prepare: Optional[Callable[[Any], None]]) -> None:
    with atomic.replacing(here.path) as file:
        for piece in [data] if isinstance(data, bytes) else data:
            file.write(piece)
        with contextlib.ExitStack() as stack:
            try:
                fd = os.open(here.name, paths.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here.folder)
                stack.callback(os.close, fd)
                old: Optional[os.stat_result] = os.fstat(fd)
            except FileNotFoundError:
                old = None
            if old is not None and not stat.S_ISLNK(old.st_mode):
                with contextlib.suppress(PermissionError):  # a user who may write here, but is not root
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                # Access lists as well.
                shutil.copystat(paths.by_descriptor(fd), paths.by_descriptor(file.fileno()))
            else:
                os.fchmod(file.fileno(), 0o666 & ~_umask())
        file.flush()
        if prepare is not None:
            prepare(file)
        os.utime(file.fileno())


def backup(path: str) -> str:
    """Copy the file to one beside it, named as Ansible names it; the copy's path."""
    copy = "%s.%d.%s" % (path, os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S~"))
    with open(path, "rb", opener=paths.opener) as source, paths.named(copy), paths.place(copy) as here:
        with atomic.replacing(here.path) as file:
            shutil.copyfileobj(source, file)
            old = os.fstat(source.fileno())
            file.flush()
            os.fchown(file.fileno(), old.st_uid, old.st_gid)
            shutil.copystat(paths.by_descriptor(source.fileno()), paths.by_descriptor(file.fileno()))
    return copy


def attributes(path: str, options: Dict[str, Any], check: bool, shown: Optional[Dict[str, Any]] = None) -> bool:
    """Set the owner, group and mode that the options name; True if that is a change.

    `shown`: a diff of attributes, to which the change is added.
    """
    try:
        with paths.look(path, bool(options.get("follow"))) as (fd, now):
            return _attributes(path, fd, now, options, check, shown)
    except FileNotFoundError:
        return False  # in check mode: it would be created


def attributes_of(file: Any, options: Dict[str, Any]) -> None:
    """Set the owner, group and mode that the options name, of an open file that is this process's own."""
    _attributes(file.name, file.fileno(), os.fstat(file.fileno()), options, False, None)


def _attributes(
    path: str, fd: int, now: os.stat_result, options: Dict[str, Any], check: bool, shown: Optional[Dict[str, Any]]
) -> bool:
    changes: Dict[str, Tuple[Any, Any]] = {}
    uid, gid = owner(options["owner"], check), group(options["group"], check)
    if uid is not None and uid != now.st_uid:
        changes["owner"] = (now.st_uid, uid)
    if gid is not None and gid != now.st_gid:
        changes["group"] = (now.st_gid, gid)
    if changes and not check:
        paths.alone(now, path)
        os.chown(paths.by_descriptor(fd), -1 if uid is None else uid, -1 if gid is None else gid)
        now = os.fstat(fd)  # chown clears the set-uid bit
    if options["mode"] is not None and not stat.S_ISLNK(now.st_mode):
        old, new = stat.S_IMODE(now.st_mode), permissions(options["mode"], now.st_mode)
        if old != new:
            changes["mode"] = ("%#05o" % old, "%#05o" % new)
            if not check:
                paths.alone(now, path)
                os.chmod(paths.by_descriptor(fd), new)
    for side, diff in enumerate(("before", "after")):
        if shown is not None and changes:
            shown.setdefault(diff, {}).update({name: pair[side] for name, pair in changes.items()})
    return bool(changes)


_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SPECIAL = {"us": stat.S_ISUID, "gs": stat.S_ISGID, "ot": stat.S_ISVTX}


def permissions(wanted: Union[int, str], now: int) -> int:
    """The mode that `wanted` (a number, or chmod's letters) makes of the st_mode `now`."""
    if isinstance(wanted, int):
        return wanted
    mode = stat.S_IMODE(now)
    for clause in wanted.split(","):
        users, *steps = re.split("([-+=])", clause)
        free = 0o7777 if users else ~_umask()
        for operator, letters in zip(steps[::2], steps[1::2]):
            for user in users.replace("a", "ugo") or "ugo":
                shift, special = _SHIFTS[user], _SPECIAL.get(user + "s", 0) | _SPECIAL.get(user + "t", 0)
                bits = 0
                for letter in letters:
                    if letter in _BITS:
                        bits |= _BITS[letter] << shift & free
                    elif letter in _SHIFTS:
                        bits |= (mode >> _SHIFTS[letter] & 7) << shift
                    elif letter == "X":
                        bits |= (stat.S_ISDIR(now) or mode & 0o111 != 0) << shift
                    else:
                        bits |= _SPECIAL.get(user + letter, 0)
                if operator == "=":
                    mode &= ~(7 << shift | special)
                mode = mode & ~bits if operator == "-" else mode | bits
    return mode


def kind(path: str) -> str:
    """Kind of the file, in Ansible's words: absent, directory, file, hard or link."""
    if os.path.islink(path):
        return "link"
    if os.path.isdir(path):
        return "directory"
    if not os.path.lexists(path):
        return "absent"
    return "hard" if os.stat(path).st_nlink > 1 else "file"


def describe(path: str) -> Dict[str, Any]:
    """The fields of a result that describe an existing file."""
    if not os.path.exists(path):
        return {}
    found = os.lstat(path)
    return {
        "uid": found.st_uid,
        "gid": found.st_gid,
        "owner": user_name(found.st_uid),
        "group": group_name(found.st_gid),
        "mode": "0%03o" % stat.S_IMODE(found.st_mode),
        "state": kind(path),
        "size": found.st_size,
    }


def user_name(uid: int) -> str:
    """The name of a user; the number, as text, if no user has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group; the number, as text, if no group has it."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def owner(name: Optional[str], check: bool = False) -> Optional[int]:
    """The uid of a user, by name or number."""
    if name is None:
        return None
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        if check:
            return -1  # an earlier task of this run would have created the user: a change
        raise ModuleFailed("chown failed: failed to look up user %s" % name) from None


def group(name: Optional[str], check: bool = False) -> Optional[int]:
    """The gid of a group, by name or number."""
    if name is None:
        return None
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if check:
            return -1
        raise ModuleFailed("chgrp failed: failed to look up group %s" % name) from None


def diff(path: str, before: Optional[bytes], after: Optional[bytes]) -> List[Dict[str, Any]]:
    """Ansible's diff of a file's content: both texts, or why they are not shown."""
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


def replace(
    path: str, before: Optional[bytes], after: bytes, options: Dict[str, Any], context: Context
) -> Dict[str, Any]:
    """Give the file this content: compare, back up, validate, write, set the attributes. The result of a module.

    A link is followed unless the option `follow` says otherwise.
    """
    follow = options.get("follow", True)
    through = follow and os.path.islink(path)  # the attributes are then the link's own
    result: Dict[str, Any] = {"changed": before != after or (not follow and os.path.islink(path))}

    def prepare(temporary: Any) -> None:
        if not through:
            attributes_of(temporary, options)
        if options.get("validate"):
            # A path that the program, another process, can open as well.
            _validate(options["validate"], os.readlink(paths.by_descriptor(temporary.fileno())), context)

    if result["changed"]:
        if context.diff:
            result["diff"] = diff(path, before, after)
        if not context.check:
            if before is not None and options.get("backup"):
                result["backup_file"] = backup(path)
            write(path, after, follow, prepare)
    if (through or not result["changed"]) and attributes(path, options, context.check):
        result["changed"] = True
    return result


def _validate(command: str, path: str, context: Context) -> None:
    if "%s" not in command:
        raise ModuleFailed("validate must contain %%s: %s" % command)
    done = context.run(shlex.split(command.replace("%s", shlex.quote(path))))
    if done.rc:
        raise ModuleFailed("failed to validate", exit_status=done.rc, stdout=done.stdout, stderr=done.stderr)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
