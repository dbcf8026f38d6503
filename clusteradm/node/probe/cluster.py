"""Cluster probes, on the head as the cluster user: can MPI start a process on every host, and do all see one share?"""

import os
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, List

from clusteradm.node.probe.attempt import attempt

_SECONDS = 40.0


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """`request`: {"user", "shared", "hosts": [names]}. One MPI process per host says its name and writes a file."""
    user, shared, hosts = request["user"], request["shared"], list(request["hosts"])
    alone = {host: attempt(user, 15.0, lambda host=host: _login(host)) for host in hosts}  # type: ignore[misc]
    able = [host for host in hosts if alone[host]["ok"]]
    together = attempt(user, _SECONDS, lambda: _hello(able, shared)) if able else {"ok": False, "error": "no host"}
    return {"document": {"time": time.time(), "login": alone, "hello": together, "hosts": able}}


def _login(host: str) -> Dict[str, Any]:
    """Log in as MPI will: without a terminal, with the cluster's key and known hosts alone."""
    done = subprocess.run(
        ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", host, "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return {"ok": False, "error": lines[-1] if lines else "ssh ended with %d" % done.returncode}
    return {}


def _hello(hosts: List[str], shared: str) -> Dict[str, Any]:
    folder = tempfile.mkdtemp(prefix=".probe-", dir=shared)
    try:
        # mpirun answers SIGTERM by ending its processes on every host; SIGKILL would leave them.
        command = [
            "timeout",
            "-k",
            "5",
            "30",
            "mpirun",
            "--bind-to",
            "none",
            "--map-by",
            "node",
            "--host",
            ",".join(hosts),
            "-np",
            str(len(hosts)),
        ]
        script = 'name=$(cat /etc/hostname) && echo "$name" && { echo "$name" >"$0/$name" || :; }'
        done = subprocess.run(
            [*command, "sh", "-c", script, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said = sorted(done.stdout.decode("utf-8", "replace").split())
        result: Dict[str, Any] = {"said": said, "wrote": sorted(os.listdir(folder))}
        if done.returncode:
            lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip(" -")]
            result.update(ok=False, error=" ".join(lines[:3])[:400] or "mpirun ended with %d" % done.returncode)
        return result
    finally:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
