"""Section "runtime": which Python, TFLite runtime, pycoral and libedgetpu the ranks would use.

Found out by that Python, in a child process as the cluster user: a library that does not fit can crash its process. No
TPU is opened; whether it all works together is what the trial shows (trial.py).
"""

import json
import subprocess
from typing import Any, Dict, Optional

from clusteradm.node import child
from clusteradm.node.child import PYTHON
from clusteradm.node.probe.attempt import attempt
from clusteradm.node.probe.programs import output

_SECONDS = 30.0


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Versions by name (None: not installed), and the devices that the library lists."""
    return {"package": package("libedgetpu1-std") or package("libedgetpu1-max"), **ask(options["user"])}


def package(name: str) -> Optional[str]:
    """The installed version of a Debian package."""
    said = output(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name])
    status, _, version = (said or "").partition(" ")
    return version if status == "installed" else None


def ask(user: str) -> Dict[str, Any]:
    """The report of edgetpu/versions.py by the ranks' Python, with the fields of attempt()."""
    return attempt(user, _SECONDS, _versions)


def _versions() -> Dict[str, Any]:
    command = child.command(PYTHON, "edgetpu.versions")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=child.environment())
    if done.returncode < 0:
        return {"ok": False, "error": "Python ended by signal %d" % -done.returncode, "signal": -done.returncode}
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return {"ok": False, "error": lines[-1] if lines else "Python ended with %d" % done.returncode}
    about: Dict[str, Any] = json.loads(done.stdout.decode("utf-8"))
    return about
