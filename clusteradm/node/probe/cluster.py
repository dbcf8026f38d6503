"""Cluster probes, on the head as the cluster user: can MPI start a process on every host, and do all see one share?"""

import json
import os
import shutil
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

from clusteradm.node.account import as_user
from clusteradm.node.probe.attempt import together

# For everything; for MPI to start and measure, which it does in seconds or not at all; for a login.
_SECONDS, _MPI_SECONDS, _LOGIN_SECONDS = 120.0, 35, 5.0
_APART = 8
# Of what mpirun says: its messages are long.
_LINES = 60
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=3")
# The ranks' Python, on every host (playbooks/runtime.yml).
PYTHON = "/opt/clusteradm/bin/python3"
_SMALL, _LARGE = 50, 4
# On each rank. Every pair in turn sends 8 bytes to and fro, then mebibytes one way. A rank whose turn it is measures
# its links to those after it, and passes the turn on with all that is known. Who waits sleeps: MPI's own waiting takes
# a whole core, and on a board with a job the figure would be one of the waiting.
_PAIRS = """
import json, time
from mpi4py import MPI
world = MPI.COMM_WORLD
me, last, name = world.rank, world.size - 1, open("/etc/hostname").read().strip()
small, large, answer = bytearray(8), bytearray(1 << 20), bytearray(1)
TURN, PING, END = 1, 2, 3
def asleep(tag, source):
    while not world.Iprobe(source, tag):
        time.sleep(0.001)
def serve(a):
    asleep(PING, a)
    for _ in range(SMALL + 1):
        world.Recv(small, a, PING); world.Send(small, a, PING)
    for _ in range(LARGE):
        world.Recv(large, a, PING)
    world.Send(answer, a, PING)
def measure(b):
    world.Send(small, b, PING); world.Recv(small, b, PING)
    start = time.perf_counter()
    for _ in range(SMALL):
        world.Send(small, b, PING); world.Recv(small, b, PING)
    middle = time.perf_counter()
    for _ in range(LARGE):
        world.Send(large, b, PING)
    world.Recv(answer, b, PING)
    end = time.perf_counter()
    return [me, b, (middle - start) / SMALL / 2, LARGE * len(large) / (end - middle)]
for a in range(me):
    serve(a)
names, pairs = [], []
if me:
    asleep(TURN, me - 1)
    names, pairs = world.recv(source=me - 1, tag=TURN)
names.append(name)
pairs += [measure(b) for b in range(me + 1, last + 1)]
if me < last:
    world.send([names, pairs], dest=me + 1, tag=TURN)
    asleep(END, last)
    world.recv(source=last, tag=END)
else:
    print(json.dumps({"pairs": [[names[a], names[b], seconds, rate] for a, b, seconds, rate in pairs]}), flush=True)
    for rank in range(last):
        world.send(None, dest=rank, tag=END)
""".replace("SMALL", str(_SMALL)).replace("LARGE", str(_LARGE))


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """One MPI process per host says its name, and those that can use the share write a file there.

    `request`: {"user", "shared", "hosts": [names], "writers": [those of them that can use the share]}. The document:
    "hosts": who was asked together, "hello": how that went, "login": host -> whether the user can log in there,
    "apart": host -> how it went with that host alone, where it was not among the others, or did not answer with them.
    Raises OSError where the head's own share cannot be used, or mpirun does not come to its end.
    """
    begun = time.monotonic()
    hosts, writers = request["hosts"], request["writers"]
    document = as_user(request["user"], lambda: _ask(hosts, request["shared"], writers), _SECONDS)
    document.update(time=time.time(), writers=writers, seconds=round(time.monotonic() - begun, 3))
    return {"document": document}


def _ask(hosts: Sequence[str], shared: str, writers: Sequence[str]) -> Dict[str, Any]:
    """As the cluster user. One host that cannot start a process keeps mpirun from starting any: it is found out who."""
    folder = tempfile.mkdtemp(prefix=".probe-", dir=shared)
    try:
        # Who cannot use the share may not be reached at all: such a one is asked alone, once it lets the user in.
        sound = [host for host in hosts if host in writers]
        doubtful = [host for host in hosts if host not in writers]
        *logins, ended = together([*map(_login, doubtful), _mpirun(sound, folder, writers)], _MPI_SECONDS + 5, _LINES)
        login = dict(zip(doubtful, map(_logged_in, logins)))
        hello = _hello(ended, sound, folder)
        lacking = [host for host in sound if host not in hello["said"]]
        login.update(zip(lacking, map(_logged_in, together([*map(_login, lacking)], _LOGIN_SECONDS))))
        if not all(login[host]["ok"] for host in lacking):
            sound = [host for host in sound if host not in lacking or login[host]["ok"]]
            (ended,) = _started([sound], folder, writers)
            hello = _hello(ended, sound, folder)
            lacking = [host for host in sound if host not in hello["said"]]
        alone = [host for host in (*lacking, *doubtful) if login[host]["ok"]][:_APART]
        apart = _started([[host] for host in alone], folder, writers)
        return {
            "login": {host: login.get(host, {"ok": True}) for host in hosts},
            "hello": hello,
            "apart": {host: _hello(ended, [host], folder) for host, ended in zip(alone, apart)},
            "hosts": sound,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(groups: Sequence[Sequence[str]], folder: str, writers: Sequence[str]) -> List[Dict[str, Any]]:
    """How mpirun ended on each group of hosts, side by side."""
    return together([_mpirun(hosts, folder, writers) for hosts in groups], _MPI_SECONDS + 5, _LINES)


def _login(host: str) -> List[str]:
    """As MPI does: without a terminal, with the cluster's key and known hosts alone."""
    return ["ssh", *_SSH_OPTIONS, host, "true"]


def _logged_in(ended: Dict[str, Any]) -> Dict[str, Any]:
    if ended["status"] == 0:
        return {"ok": True}
    lines = ended["err"] or ["no answer in time" if ended["timeout"] else "ssh ended with %d" % ended["status"]]
    return {"ok": False, "error": lines[-1]}


def _mpirun(hosts: Sequence[str], folder: str, writers: Sequence[str]) -> List[str]:
    """One process on each host. Without hosts, nothing that succeeds."""
    if not hosts:
        return ["false"]
    script = (
        'name=$(cat /etc/hostname) && echo "$name" && '
        'case " $3 " in *" $name "*) echo "$name" >"$0/$name" ;; esac; '
        'if [ -x "$1" ]; then exec "$1" -c "$2"; fi'
    )
    return [
        # mpirun answers SIGTERM by ending its processes on every host; SIGKILL would leave them.
        *("timeout", "-k", "5", str(_MPI_SECONDS)),
        *("mpirun", "--bind-to", "none", "--map-by", "node", "--host", ",".join(hosts), "-np", str(len(hosts))),
        *("--mca", "plm_rsh_args", " ".join(_SSH_OPTIONS), "--mca", "mpi_yield_when_idle", "1"),
        *("sh", "-c", script, folder, PYTHON, _PAIRS, " ".join(writers)),
    ]


def _hello(ended: Dict[str, Any], hosts: Sequence[str], folder: str) -> Dict[str, Any]:
    """Which of the hosts said their names, whose files are there, and what the ranks measured."""
    lines = ended["out"].splitlines()
    result = {
        "ok": ended["status"] == 0,
        "said": sorted(line for line in lines if line in hosts),
        "wrote": sorted(os.listdir(folder)),
        "pairs": _pairs(lines),
        "seconds": ended["seconds"],
    }
    if not result["ok"]:
        told = " ".join([line for line in ended["err"] if line.strip(" -")][:3])[:400]
        result["error"] = told or "mpirun ended with %s" % ended["status"]
    return result


def _pairs(lines: Sequence[str]) -> List[Any]:
    """[host, host, seconds one way, bytes per second] of every pair; [] where the ranks' Python did not get there."""
    for line in lines:
        if line.startswith('{"pairs"') and line.endswith("}"):
            return list(json.loads(line)["pairs"])
    return []
