"""Cluster probe, on the head as the cluster user: whether MPI starts a process on every host, and all see one share."""

import json
import os
import shutil
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

from clusteradm.node import child
from clusteradm.node.account import as_user
from clusteradm.node.probe.programs import run_all
from clusteradm.node.spec.wire.job_names import JOBS

# Time limits: for everything; for MPI to start and measure, which it does in seconds or not at all; for a login.
_SECONDS, _MPI_SECONDS, _LOGIN_SECONDS = 120.0, 35, 5.0
# For mpirun on one host alone, which only writes its name; and how many such run at the same time.
_ALONE_SECONDS, _AT_ONCE = 12, 8
# For mpirun to end its processes when its time is over; and for what comes after all programs.
_GRACE, _RESERVE = 5, 10.0
# Exit codes of timeout(1) when it has ended, or killed, the program.
_LATE = (124, 137)
# Of mpirun's standard error: its messages are long.
_LINES = 60
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=3")


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """One MPI process per host writes its name, and those that can use the share write a file to its jobs/.

    `request`: {"user", "shared", "hosts": [names], "writers": [those of them that can use the share]}. The document:
    "hosts": those started together, "hello": the result of that, "login": host -> whether the user can log in there,
    "apart": host -> the result of that host alone, if it was not among the others or did not answer with them, and
    there was time. Raises OSError if the head's own share cannot be used, or the probe does not end in time.
    """
    begun = time.monotonic()
    hosts, writers = request["hosts"], request["writers"]
    document = as_user(request["user"], lambda: _ask(hosts, request["shared"], writers), _SECONDS)
    document.update(time=time.time(), writers=writers, seconds=round(time.monotonic() - begun, 3))
    return {"document": document}


def _ask(hosts: Sequence[str], shared: str, writers: Sequence[str]) -> Dict[str, Any]:
    """As the cluster user. A host that cannot start a process keeps mpirun from starting any; it is singled out."""
    end = time.monotonic() + _SECONDS - _RESERVE
    folder = tempfile.mkdtemp(prefix=".probe-", dir=os.path.join(shared, JOBS))
    try:
        # A host that cannot use the share may not be reachable at all: it is tried alone, if the user can log in.
        together = [host for host in hosts if host in writers]
        separate = [host for host in hosts if host not in writers]
        mpirun = [_mpirun(together, folder, writers, _MPI_SECONDS, child.PYTHON)] if together else []
        ends = run_all([*mpirun, *map(_login, separate)], _MPI_SECONDS + _GRACE, _LINES)
        login = dict(zip(separate, map(_logged_in, ends[len(mpirun) :])))
        hello = _hello(ends[0], together, folder) if together else _NO_HOSTS
        silent = [host for host in together if host not in hello["said"]]
        login.update(zip(silent, map(_logged_in, run_all([*map(_login, silent)], _LOGIN_SECONDS))))
        if not all(login[host]["ok"] for host in silent):
            together = [host for host in together if host not in silent or login[host]["ok"]]
            hello = _NO_HOSTS
            if together:
                mpirun = [_mpirun(together, folder, writers, _MPI_SECONDS, child.PYTHON)]
                hello = _hello(run_all(mpirun, _MPI_SECONDS + _GRACE, _LINES)[0], together, folder)
            silent = [host for host in together if host not in hello["said"]]
        alone = [host for host in (*silent, *separate) if login[host]["ok"]]
        return {
            "login": {host: login.get(host, {"ok": True}) for host in hosts},
            "hello": hello,
            "apart": _one_by_one(alone, folder, writers, end),
            "hosts": together,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _one_by_one(hosts: Sequence[str], folder: str, writers: Sequence[str], end: float) -> Dict[str, Any]:
    """Results of mpirun on each host alone, some side by side, as long as there is time."""
    found = {}  # type: Dict[str, Any]
    limit = _ALONE_SECONDS + _GRACE
    for first in range(0, len(hosts), _AT_ONCE):
        # run_all() waits a second for a program that it kills.
        if time.monotonic() + limit + 1 > end:
            break
        some = hosts[first : first + _AT_ONCE]
        ends = run_all([_mpirun([host], folder, writers, _ALONE_SECONDS, "") for host in some], limit, _LINES)
        found.update((host, _hello(ended, [host], folder)) for host, ended in zip(some, ends))
    return found


def _login(host: str) -> List[str]:
    """A login as MPI does it: without a terminal, with the cluster's key and known hosts alone."""
    return ["ssh", *_SSH_OPTIONS, host, "true"]


def _logged_in(ended: Dict[str, Any]) -> Dict[str, Any]:
    if ended["status"] == 0:
        return {"ok": True}
    lines = ended["err"] or ["no answer in time" if ended["timeout"] else "ssh ended with %d" % ended["status"]]
    return {"ok": False, "error": lines[-1]}


def _mpirun(hosts: Sequence[str], folder: str, writers: Sequence[str], seconds: int, python: str) -> List[str]:
    """The command that starts on each host a process that writes its name, and measures if `python` is there."""
    script = (
        'name=$(cat /etc/hostname) && echo "$name" && '
        'case " $3 " in *" $name "*) echo "$name" >"$0/$name" ;; esac; '
        'if [ -x "$1" ]; then export PYTHONPATH="$2"; exec "$1" -m clusteradm.node.probe.pairs; fi'
    )
    return [
        # mpirun answers SIGTERM by ending its processes on every host; SIGKILL would leave them.
        *("timeout", "-k", str(_GRACE), str(seconds)),
        *(child.mpirun(), "--bind-to", "none", "--map-by", "node", "--host", ",".join(hosts), "-np", str(len(hosts))),
        *("--mca", "plm_rsh_args", " ".join(_SSH_OPTIONS), "--mca", "mpi_yield_when_idle", "1"),
        *("sh", "-c", script, folder, python, child.package_folder(), " ".join(writers)),
    ]


# The result of no hosts at all.
_NO_HOSTS = {"ok": True, "said": [], "wrote": [], "pairs": [], "seconds": 0.0}  # type: Dict[str, Any]


def _hello(ended: Dict[str, Any], hosts: Sequence[str], folder: str) -> Dict[str, Any]:
    """Result of one mpirun: the hosts that wrote their names, those whose files are there, and the measured pairs."""
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
        late = ended["timeout"] or ended["status"] in _LATE
        how = "mpirun did not end in time" if late else "mpirun ended with %s" % ended["status"]
        result["error"] = "%s: %s" % (how, told) if late and told else told or how
    return result


def _pairs(lines: Sequence[str]) -> List[Any]:
    """[host, host, seconds one way, bytes per second] of each pair; [] if the ranks measured nothing."""
    for line in lines:
        if line.startswith('{"pairs"') and line.endswith("}"):
            return list(json.loads(line)["pairs"])
    return []
