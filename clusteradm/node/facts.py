"""Facts under Ansible's names (as they stand in `ansible_facts`), those that cost nothing to know."""

import os
import platform
import re
import time
from typing import Any, Callable, Dict


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """The host's facts."""
    return {"facts": dict(gather())}


def gather(root: str = "/") -> Dict[str, Any]:
    """Facts read below `root`; a file that is not there gives "NA", as Ansible's own do."""
    now = time.time()
    local = time.localtime(now)
    uname = os.uname()
    release = _os_release(root)
    return {
        "architecture": uname.machine,
        "date_time": {
            "date": time.strftime("%Y-%m-%d", local),
            "epoch": str(int(now)),
            "iso8601": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "time": time.strftime("%H:%M:%S", local),
            "tz": time.strftime("%Z", local),
        },
        "distribution": release.get("ID", "NA").capitalize(),
        "distribution_release": release.get("VERSION_CODENAME", "NA"),
        "distribution_version": release.get("VERSION_ID", "NA"),
        "hostname": uname.nodename.split(".")[0],
        "kernel": uname.release,
        "nodename": uname.nodename,
        "python_version": platform.python_version(),
        "system": uname.sysname,
    }


def _os_release(root: str) -> Dict[str, str]:
    try:
        with open(os.path.join(root, "etc/os-release"), encoding="utf-8") as file:
            return dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', file.read(), re.M))
    except OSError:
        return {}
