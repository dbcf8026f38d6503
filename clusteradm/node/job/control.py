"""The head's answers to `clusteradm infer`: make a job, start it, tell of it, end it, give out its results.

Every file of a job is written and read as the cluster user; root only talks to systemd.
"""

import base64
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List

import clusteradm
from clusteradm.node import blobs
from clusteradm.node.account import AccountError, as_user
from clusteradm.node.job import files, pack

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_FETCHABLE = re.compile(r"results\.jsonl|log|outputs-[0-9a-f-]+/[0-9]+-[0-9]+\.npy")
_FETCH_BYTES = 1 << 20
_PIECES = "pieces.jsonl"  # while the job is being made: the names and sizes of the files in the pack
_ABANDONED = 24 * 3600.0  # seconds after which a job that was never started is removed
_UNFINISHED = ("running", "starting")

Reply = Callable[[Dict[str, Any]], None]


def create(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """{"shared", "user"} -> {"job"}: an empty job, invisible until it is started."""
    job = "%s-%s" % (time.strftime("%Y%m%d-%H%M%S"), secrets.token_hex(3))

    def work() -> None:
        jobs = os.path.join(request["shared"], "jobs")
        for name in os.listdir(jobs):
            path = os.path.join(jobs, name)
            if name.startswith(".") and time.time() - os.path.getmtime(path) > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)
        os.mkdir(os.path.join(jobs, "." + job))

    as_user(request["user"], work)
    return {"job": job}


def add_part(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """{"shared", "user", "job", "blob": sha256, "files": [{"name", "size"}]}: bytes of the inputs, in order.

    `files` are those that begin in this part; a large one goes on in the next. The blob is removed: a board's storage
    is small. {"taken": false} where another job has removed it before.
    """
    folder = _making(request)
    path = blobs.path_of(request["blob"])
    try:
        blob = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return {"taken": False}
    with blob:

        def work() -> None:
            pack.append(os.path.join(folder, files.PACK), blob)
            with open(os.path.join(folder, _PIECES), "a", encoding="utf-8") as file:
                file.writelines(files.line(piece) for piece in request["files"])

        as_user(request["user"], work)
    with suppress(FileNotFoundError):
        os.unlink(path)
    return {"taken": True}


def add_paths(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """Take inputs that are on the head already.

    {"shared", "user", "job", "paths", "suffixes"} -> {"files": n, "bytes": n}, or {"refused": why}
    """
    folder = _making(request)
    paths = [os.path.join(request["shared"], path) for path in request["paths"]]

    def work() -> Dict[str, Any]:
        count = size = 0
        with open(os.path.join(folder, _PIECES), "a", encoding="utf-8") as pieces:
            for name, path in pack.find(paths, request["suffixes"]):
                with open(path, "rb") as file:
                    added = pack.append(os.path.join(folder, files.PACK), file)
                pieces.write(files.line({"name": name, "size": added}))
                count, size = count + 1, size + added
        return {"files": count, "bytes": size}

    return _refusable(request["user"], work)


def start(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """Index the inputs, make the job visible, start its supervisor.

    {"shared", "user", "job", "spec"} -> {"inputs": n}, or {"refused": why}
    """
    folder, job, user = _making(request), request["job"], request["user"]
    final = _folder(request)

    def work() -> Dict[str, Any]:
        tensor = request["spec"]["model"]["input"]
        wanted = pack.Wanted(tensor["dtype"], tuple(tensor["shape"]))
        whole = os.path.join(folder, files.PACK)
        entries: List[pack.Entry] = []
        at = 0
        for piece in files.read_lines(os.path.join(folder, _PIECES)):
            entries.append(pack.Entry(piece["name"], at, piece["size"]))
            at += piece["size"]
        if not entries or os.path.getsize(whole) != at:
            raise pack.PackError("the inputs did not arrive whole")
        count = pack.write_index(os.path.join(folder, files.INPUTS), pack.index(whole, entries, wanted))
        os.unlink(os.path.join(folder, _PIECES))
        files.write_json(os.path.join(folder, files.SPEC), dict(request["spec"], job=job, inputs=count))
        files.write_json(os.path.join(folder, files.STATUS), {"state": "starting", "total": count, "attempts": []})
        os.rename(folder, final)
        return {"inputs": count}

    answer = _refusable(user, work)
    if "refused" in answer:
        return answer
    command = ["systemd-run", "--quiet", "--collect", "--unit", _unit(job), "--uid", user]
    command += ["--description", "clusteradm inference job " + job]
    # The supervisor ends mpirun in order; what is left after that is ended with it.
    command += ["--property", "KillMode=mixed", "--property", "TimeoutStopSec=30"]
    command += ["--setenv", "PYTHONPATH=" + os.path.dirname(os.path.dirname(os.path.abspath(clusteradm.__file__)))]
    command += [sys.executable, "-m", "clusteradm.node.job.supervisor", final]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise OSError("systemd-run: " + done.stdout.decode("utf-8", "replace").strip())
    return answer


def _refusable(user: str, work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """The work's answer; {"refused": why} where the inputs are no use, which is the asker's mistake, not the host's."""

    def careful() -> Dict[str, Any]:
        try:
            return work()
        except pack.PackError as error:
            return {"refused": str(error)}

    return dict(as_user(user, careful))


def follow(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """What is new about a job.

    {"shared", "user", "job", "seen": previous answer's "seen" or null, "wait": seconds} -> {"seen", "status",
    "progress"}. Answers as soon as there is something new, or after `wait`: so a connection that was lost is taken up
    by asking again.
    """
    folder = _folder(request)

    def work() -> Dict[str, Any]:
        if not os.path.isdir(folder):
            raise AccountError("there is no job %s here" % request["job"])
        end = time.monotonic() + request["wait"]
        while True:
            seen = [_stamp(os.path.join(folder, name)) for name in (files.STATUS, files.PROGRESS)]
            if seen != request["seen"] or time.monotonic() > end:
                return {
                    "seen": seen,
                    "status": files.read_json(os.path.join(folder, files.STATUS)) or {"state": "starting"},
                    "progress": files.read_json(os.path.join(folder, files.PROGRESS)),
                }
            time.sleep(0.1)

    answer: Dict[str, Any] = as_user(request["user"], work)
    if answer["status"]["state"] in _UNFINISHED and not _unit_runs(request["job"]):
        # It may have written its last word and ended between the two looks.
        status = as_user(request["user"], lambda: files.read_json(os.path.join(folder, files.STATUS)))
        if status is None or status["state"] in _UNFINISHED:
            said = _output(
                ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", "--unit", _unit(request["job"])]
            )
            status = {"state": "failed", "error": "its supervisor ended without a word", "log": said, "attempts": []}
        answer["status"] = status
    return answer


def cancel(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """{"job"} -> {}: stop the job, if it still runs; its supervisor has ended when this answers."""
    _check(request["job"])
    subprocess.run(["systemctl", "stop", _unit(request["job"])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {}


def discard(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """{"shared", "user", "job"} -> {}: remove a job that was never started."""
    folder = _making(request)
    as_user(request["user"], lambda: shutil.rmtree(folder, ignore_errors=True))
    return {}


def fetch(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """{"shared", "user", "job", "file"} -> {"data": base64} replies, then {"size"}: a file of the job."""
    if not _FETCHABLE.fullmatch(request["file"]):
        raise ValueError("%s is no file that a job gives out" % request["file"])
    path = os.path.join(_folder(request), request["file"])
    size = offset = 0
    while True:
        data = as_user(request["user"], lambda: _read(path, offset))  # noqa: B023 - called at once
        if not data:
            return {"size": size}
        reply({"data": data})
        offset += _FETCH_BYTES
        size += len(base64.b64decode(data))


def _read(path: str, offset: int) -> str:
    with open(path, "rb") as file:
        file.seek(offset)
        return base64.b64encode(file.read(_FETCH_BYTES)).decode("ascii")


def _check(job: str) -> str:
    if not _ID.fullmatch(job):
        raise ValueError("%r is no job id" % job)
    return job


def _folder(request: Dict[str, Any]) -> str:
    return os.path.join(request["shared"], "jobs", _check(request["job"]))


def _making(request: Dict[str, Any]) -> str:
    """Where a job lies until it is started: no listing shows it."""
    return os.path.join(request["shared"], "jobs", "." + _check(request["job"]))


def _unit(job: str) -> str:
    return "clusteradm-job-%s.service" % job


def _unit_runs(job: str) -> bool:
    return _output(["systemctl", "is-active", _unit(job)])[:1] in (
        ["active"],
        ["activating"],
        ["deactivating"],
        ["reloading"],
    )


def _output(command: List[str]) -> List[str]:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode("utf-8", "replace").splitlines()


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
