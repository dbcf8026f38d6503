#!/usr/bin/python3
"""udevadm of a virtual board: the real one, plus events of its Edge TPUs, which no kernel sends.

The Edge TPUs are plain files over /sys, which udev does not see as devices. So `udevadm trigger` also sets owner, group
and mode of their device nodes as the board's udev rules say: /dev/apex_N, and those of USB Accelerators.
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
TERM = re.compile(r'\s*([A-Z]+(?:\{[^}]*\})?)\s*(==|!=|:=|\+=|=)\s*"([^"]*)"\s*,?')
USB = "/sys/bus/usb/devices"


def rule_files(folders=RULES):
    """The rule files in udev's order: by name, the first folder that has a name wins."""
    files = {}
    for folder in folders:
        for path in glob.glob(folder + "/*.rules"):
            files.setdefault(os.path.basename(path), path)
    return [files[name] for name in sorted(files)]


def of_apex(device):
    """What rules may ask of an Edge TPU on PCI."""
    return {"SUBSYSTEM": "apex", "KERNEL": device, "ACTION": "add"}


def of_usb(folder):
    """The device node of a USB device, and what rules may ask of it."""
    name = os.path.basename(folder)
    known = {"SUBSYSTEM": "usb", "SUBSYSTEMS": "usb", "KERNEL": name, "ACTION": "add", "ENV{DEVTYPE}": "usb_device"}
    files = {}
    for file in ("idVendor", "idProduct", "busnum", "devnum"):
        with open(folder + "/" + file, encoding="ascii") as stream:
            files[file] = stream.read().strip()
    for file in ("idVendor", "idProduct"):
        known["ATTR{" + file + "}"] = known["ATTRS{" + file + "}"] = files[file]
    return "/dev/bus/usb/%03d/%03d" % (int(files["busnum"]), int(files["devnum"])), known


def permissions(lines, known):
    """Values of OWNER, GROUP and MODE that the rules assign to a device node; the last one counts."""
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


def apply(path, wanted):
    """Set owner, group and mode of a device node. A user or group that does not exist is ignored, as by udev."""
    uid = gid = 0
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(wanted.get("OWNER", "root")).pw_uid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(wanted.get("GROUP", "root")).gr_gid
    os.chown(path, uid, gid)
    # As in udev, a group that is given without a mode may read and write.
    os.chmod(path, int(wanted.get("MODE") or ("0660" if gid else "0600"), 8))


def wants(arguments, subsystem):
    """Whether the command triggers events of the devices of a subsystem."""
    if arguments[:1] != ["trigger"] or {"--dry-run", "-n"} & set(arguments):
        return False
    text = " ".join(arguments).replace("--subsystem-match ", "--subsystem-match=").replace("-s ", "--subsystem-match=")
    subsystems = re.findall(r"--subsystem-match=(\S+)", text)
    return not subsystems or any(fnmatch.fnmatchcase(subsystem, one) for one in subsystems)


def main(arguments):
    apex, usb = wants(arguments, "apex"), wants(arguments, "usb")
    if apex or usb:
        lines = []
        for path in rule_files():
            with open(path, encoding="utf-8", errors="replace") as file:
                lines += file.read().replace("\\\n", " ").splitlines()
        for path in glob.glob("/dev/apex_[0-9]*") if apex else ():
            apply(path, permissions(lines, of_apex(os.path.basename(path))))
        for folder in glob.glob(USB + "/[0-9]*-[0-9]*") if usb else ():
            if os.path.exists(folder + "/devnum"):
                path, known = of_usb(folder)
                apply(path, permissions(lines, known))
    os.execv(REAL, ["udevadm"] + arguments)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
