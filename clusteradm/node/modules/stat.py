"""stat: facts about a file."""

import grp
import hashlib
import os
import pwd
import stat
from typing import Any, Dict

from clusteradm.node.context import Context

_KINDS = {"blk": "BLK", "chr": "CHR", "dir": "DIR", "fifo": "FIFO", "lnk": "LNK", "reg": "REG", "sock": "SOCK"}
_NUMBERS = ("uid", "gid", "size", "nlink", "atime", "mtime", "ctime", "blocks", "blksize", "rdev", "ino", "dev")
_NAMES = {"blksize": "block_size", "rdev": "device_type", "ino": "inode"}


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """The facts under the key `stat`; for a missing file only that it does not exist."""
    path = options["path"]
    try:
        found = os.stat(path) if options["follow"] else os.lstat(path)
    except FileNotFoundError:
        return {"stat": {"exists": False}}
    mode = found.st_mode
    about: Dict[str, Any] = {"exists": True, "path": path, "mode": "%04o" % stat.S_IMODE(mode)}
    about.update({"is" + kind: getattr(stat, "S_IS" + name)(mode) for kind, name in _KINDS.items()})
    about.update({_NAMES.get(name, name): getattr(found, "st_" + name) for name in _NUMBERS})
    for letter, bit in (("r", 4), ("w", 2), ("x", 1)):
        about.update({letter + who: bool(mode >> shift & bit) for who, shift in (("usr", 6), ("grp", 3), ("oth", 0))})
    about.update(isuid=bool(mode & stat.S_ISUID), isgid=bool(mode & stat.S_ISGID))
    about.update(readable=os.access(path, os.R_OK), writeable=os.access(path, os.W_OK))
    about["executable"] = os.access(path, os.X_OK)
    if about["islnk"]:
        about.update(lnk_source=os.path.realpath(path), lnk_target=os.readlink(path))
    try:
        about["pw_name"] = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        pass
    try:
        about["gr_name"] = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        pass
    if about["isreg"] and about["readable"] and options["get_checksum"]:
        about["checksum"] = digest(path, options["checksum_algorithm"])
    return {"stat": about}


def digest(path: str, algorithm: str) -> str:
    """Checksum of a file, read in pieces."""
    total = hashlib.new(algorithm)
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            total.update(piece)
    return total.hexdigest()
