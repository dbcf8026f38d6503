"""Facts under Ansible's names (as in `ansible_facts`), those that need no program to find out."""

import os
import platform
import pwd
import re
import time
from typing import Any, Callable, Dict

from clusteradm.node.texts import read


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """The host's facts."""
    return {"facts": dict(gather())}


def gather(root: str = "/") -> Dict[str, Any]:
    """The facts, read below `root`; a missing file gives "NA", as in Ansible."""
    uname = os.uname()
    account = pwd.getpwuid(os.geteuid())
    names = uname.nodename.split(".")
    return {
        **_distribution(root),
        **_memory(root),
        "architecture": uname.machine,
        "date_time": _date_time(),
        "domain": ".".join(names[1:]),
        "effective_group_id": os.getegid(),
        "effective_user_id": os.geteuid(),
        "hostname": names[0],
        "kernel": uname.release,
        "kernel_version": uname.version,
        "machine": uname.machine,
        "machine_id": read(root, "etc/machine-id") or "NA",
        "nodename": uname.nodename,
        "pkg_mgr": "apt" if os.path.exists(os.path.join(root, "usr/bin/apt-get")) else "unknown",
        # PyPy has no sched_getaffinity.
        "processor_nproc": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "python_version": platform.python_version(),
        "real_group_id": os.getgid(),
        "real_user_id": os.getuid(),
        "service_mgr": read(root, "proc/1/comm") or "NA",
        "system": uname.sysname,
        "uptime_seconds": int(float((read(root, "proc/uptime") or "0").split()[0])),
        "user_dir": account.pw_dir,
        "user_gecos": account.pw_gecos,
        "user_gid": account.pw_gid,
        "user_id": account.pw_name,
        "user_shell": account.pw_shell,
        "user_uid": account.pw_uid,
    }


def _distribution(root: str) -> Dict[str, Any]:
    """Name and version. On Debian itself debian_version is more exact than os-release; on a derivative it is not."""
    release = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', read(root, "etc/os-release") or "", re.M))
    version = release.get("VERSION_ID", "NA")
    exact = read(root, "etc/debian_version") or ""
    if release.get("ID") == "debian" and re.match(r"[0-9]+\.[0-9]+", exact):
        version = exact
    # As in Ansible, to which Mendel is unknown: an unknown distribution is its own family.
    known = release.get("ID") in ("debian", "ubuntu")
    name = release["ID"].capitalize() if known else release.get("NAME", "NA")
    return {
        "distribution": name,
        "distribution_major_version": version.split(".")[0],
        "distribution_release": release.get("VERSION_CODENAME", "NA"),
        "distribution_version": version,
        "os_family": "Debian" if known else name,
    }


def _memory(root: str) -> Dict[str, Any]:
    """Memory and swap in MiB, as in Ansible."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read(root, "proc/meminfo") or "", re.M))
    names = ("MemTotal", "MemFree", "SwapTotal", "SwapFree")
    return {name.lower() + "_mb": int(sizes.get(name, 0)) // 1024 for name in names}


def _date_time() -> Dict[str, str]:
    now = time.time()
    local, utc = time.localtime(now), time.gmtime(now)
    zone = time.tzname
    return {
        "date": time.strftime("%Y-%m-%d", local),
        "day": time.strftime("%d", local),
        "epoch": str(int(now)),
        "epoch_int": str(int(now)),
        "hour": time.strftime("%H", local),
        "iso8601": time.strftime("%Y-%m-%dT%H:%M:%SZ", utc),
        "iso8601_basic_short": time.strftime("%Y%m%dT%H%M%S", local),
        "minute": time.strftime("%M", local),
        "month": time.strftime("%m", local),
        "second": time.strftime("%S", local),
        "time": time.strftime("%H:%M:%S", local),
        "tz": time.strftime("%Z", local),
        "tz_dst": zone[1],
        "tz_offset": time.strftime("%z", local),
        "weekday": time.strftime("%A", local),
        "weekday_number": time.strftime("%w", local),
        "weeknumber": time.strftime("%W", local),
        "year": time.strftime("%Y", local),
    }
