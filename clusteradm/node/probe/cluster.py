"""Cluster probes, on the head as the cluster user: can MPI start a process on every host, and do all see one share?"""

import json
import os
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, List

from clusteradm.node.probe.attempt import attempt, together

_SECONDS = 40.0
_APART = 8
# The ranks' Python, on every host (playbooks/runtime.yml).
PYTHON = "/opt/clusteradm/bin/python3"
_SMALL, _LARGE = 50, 4
# On each rank: every pair in turn sends 8 bytes to and fro, then mebibytes one way; the first rank tells of all.
_PAIRS = """
import json, time
from mpi4py import MPI
world = MPI.COMM_WORLD
me, names = world.rank, world.allgather(open("/etc/hostname").read().strip())
small, large, answer = bytearray(8), bytearray(1 << 20), bytearray(1)
found = []
for a in range(world.size):
    for b in range(a + 1, world.size):
        world.Barrier()
        if me == a:
            world.Send(small, b); world.Recv(small, b)
            start = time.perf_counter()
            for _ in range(SMALL):
                world.Send(small, b); world.Recv(small, b)
            middle = time.perf_counter()
            for _ in range(LARGE):
                world.Send(large, b)
            world.Recv(answer, b)
            end = time.perf_counter()
            found.append([names[a], names[b], (middle - start) / SMALL / 2, LARGE * len(large) / (end - middle)])
        elif me == b:
            for _ in range(SMALL + 1):
                world.Recv(small, a); world.Send(small, a)
            for _ in range(LARGE):
                world.Recv(large, a)
            world.Send(answer, a)
found = world.gather(found)
if me == 0:
    print(json.dumps({"pairs": [row for rows in found for row in rows]}), flush=True)
""".replace("SMALL", str(_SMALL)).replace("LARGE", str(_LARGE))


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """One MPI process per host says its name, and those that can use the share write a file there.

    `request`: {"user", "shared", "hosts": [names], "writers": [those of them that can use the share]}.
    """
    begun = time.monotonic()
    user, shared, hosts, writers = (request[key] for key in ("user", "shared", "hosts", "writers"))
    logins = attempt(user, 15.0, lambda: _logins(hosts))
    alone = {host: logins.get(host, {"ok": False, "error": logins.get("error", "")}) for host in hosts}
    able = [host for host in hosts if alone[host]["ok"]]
    hello: Dict[str, Any] = {"ok": False, "error": "no host"}
    if able:
        hello = attempt(user, _SECONDS, lambda: _hello(able, shared, writers))
    lacking = [host for host in able if host not in hello.get("said", ())]
    # One host that cannot start a process keeps mpirun from starting any: which one, shows when each is asked alone.
    apart = {host: attempt(user, 15.0, lambda host=host: _hello([host], shared, writers)) for host in lacking[:_APART]}  # type: ignore[misc]
    document = {"time": time.time(), "login": alone, "hello": hello, "apart": apart, "hosts": able, "writers": writers}
    return {"document": dict(document, seconds=round(time.monotonic() - begun, 3))}


def _logins(hosts: List[str]) -> Dict[str, Any]:
    """Log in to all at once as MPI will: without a terminal, with the cluster's key and known hosts alone."""
    command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    found = {}
    for host, ended in zip(hosts, together([[*command, host, "true"] for host in hosts], 12.0)):
        lines = ended["err"] or ["no answer in time" if ended["timeout"] else "ssh ended with %d" % ended["status"]]
        found[host] = {"ok": True} if ended["status"] == 0 else {"ok": False, "error": lines[-1]}
    return found


def _hello(hosts: List[str], shared: str, writers: List[str]) -> Dict[str, Any]:
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
        script = (
            'name=$(cat /etc/hostname) && echo "$name" && '
            'case " $3 " in *" $name "*) echo "$name" >"$0/$name" ;; esac; '
            'if [ -x "$1" ]; then exec "$1" -c "$2"; fi'
        )
        done = subprocess.run(
            [*command, "sh", "-c", script, folder, PYTHON, _PAIRS, " ".join(writers)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        said = sorted(line for line in lines if line in hosts)
        result: Dict[str, Any] = {"said": said, "wrote": sorted(os.listdir(folder)), "pairs": _pairs(lines)}
        if done.returncode:
            lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip(" -")]
            result.update(ok=False, error=" ".join(lines[:3])[:400] or "mpirun ended with %d" % done.returncode)
        return result
    finally:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def _pairs(lines: List[str]) -> List[Any]:
    """[host, host, seconds one way, bytes per second] of every pair; [] where the ranks' Python did not get there."""
    for line in lines:
        if line.startswith('{"pairs"'):
            return list(json.loads(line)["pairs"])
    return []
