#!/usr/bin/python3
"""udevadm of a virtual board: the real one, plus events of its Edge TPUs, which no kernel sends.

The Edge TPUs are plain files over /sys, which udev does not see as devices. So `udevadm trigger` also sets owner, group
and mode of /dev/apex_N as the board's udev rules say.
"""

import contextlib
import fnmatch
import glob
import grp
import os
import pwd
import re
import sys

REAL = "/bin/udevadm"
RULES = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
TERM = re.compile(r'\s*([A-Z]+)(?:\{[^}]*\})?\s*(==|!=|:=|\+=|=)\s*"([^"]*)"\s*,?')


def rule_files(folders=RULES):
    """The rule files in udev's order: by name, the first folder that has a name wins."""
    files = {}
    for folder in folders:
        for path in glob.glob(folder + "/*.rules"):
            files.setdefault(os.path.basename(path), path)
    return [files[name] for name in sorted(files)]


def permissions(lines, device):
    """Values of OWNER, GROUP and MODE that the rules assign to an Edge TPU's device node; the last one counts."""
    known = {"SUBSYSTEM": "apex", "KERNEL": device, "ACTION": "add"}
    result = {}
    for line in lines:
        assigned = {}
        for key, operator, value in TERM.findall("" if line.lstrip().startswith("#") else line):
            if operator in ("==", "!="):
                matches = key in known and any(fnmatch.fnmatchcase(known[key], one) for one in value.split("|"))
                if matches != (operator == "=="):
                    break
            elif key in ("OWNER", "GROUP", "MODE"):
                assigned[key] = value
        else:
            result.update(assigned)
    return result


def apply(device, wanted):
    """Set owner, group and mode of a device node. A user or group that does not exist is ignored, as by udev."""
    path = "/dev/" + device
    uid = gid = 0
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(wanted.get("OWNER", "root")).pw_uid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(wanted.get("GROUP", "root")).gr_gid
    os.chown(path, uid, gid)
    # As in udev, a group that is given without a mode may read and write.
    os.chmod(path, int(wanted.get("MODE") or ("0660" if gid else "0600"), 8))


def wants_apex(arguments):
    """Whether the command triggers events of the Edge TPUs."""
    if arguments[:1] != ["trigger"] or {"--dry-run", "-n"} & set(arguments):
        return False
    text = " ".join(arguments).replace("--subsystem-match ", "--subsystem-match=").replace("-s ", "--subsystem-match=")
    subsystems = re.findall(r"--subsystem-match=(\S+)", text)
    return not subsystems or any(fnmatch.fnmatchcase("apex", one) for one in subsystems)


def main(arguments):
    if wants_apex(arguments):
        lines = []
        for path in rule_files():
            with open(path, encoding="utf-8", errors="replace") as file:
                lines += file.read().replace("\\\n", " ").splitlines()
        for path in glob.glob("/dev/apex_[0-9]*"):
            device = os.path.basename(path)
            apply(device, permissions(lines, device))
    os.execv(REAL, ["udevadm"] + arguments)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
