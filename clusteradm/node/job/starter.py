"""Starter of a job: its supervisor as a transient systemd unit, which outlives the admin's connection."""

import os
import re
import subprocess
import sys
from typing import Iterable, List, Set

import clusteradm

_RUNNING = ("active", "activating", "deactivating", "reloading")
_LOG_LINES = 20
_STARTS, _LIMIT_SECONDS = 5, 600  # starts of a supervisor in so many seconds


def start(job: str, user: str, folder: str) -> None:
    """Start the supervisor of the job as `user`. `folder`: on its own disk. Raises OSError, systemd's message."""
    command = ["systemd-run", "--quiet", "--collect", "--unit", unit(job), "--uid", user]
    command += ["--description", "clusteradm inference job " + job]
    # The supervisor ends mpirun in order; what is left after that is ended with it.
    command += ["--property", "KillMode=mixed", "--property", "TimeoutStopSec=30"]
    # One that crashes is started again, but not for ever.
    command += ["--property", "Restart=on-failure", "--property", "RestartSec=0.2"]
    command += ["--property", "StartLimitIntervalSec=%d" % _LIMIT_SECONDS, "--property", "StartLimitBurst=%d" % _STARTS]
    if _version() >= 243:  # before, it knows no such policy, and does nothing
        # A process of the job that the kernel ends for lack of memory ends no other: the job deals with its loss.
        command += ["--property", "OOMPolicy=continue"]
    command += ["--setenv", "PYTHONPATH=" + os.path.dirname(os.path.dirname(os.path.abspath(clusteradm.__file__)))]
    command += [sys.executable, "-m", "clusteradm.node.job.supervisor", folder]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise OSError("systemd-run: " + done.stdout.decode("utf-8", "replace").strip())


def stop(job: str) -> None:
    """Stop the supervisor, if it runs, and wait until it has ended."""
    subprocess.run(["systemctl", "stop", unit(job)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def running(jobs: Iterable[str]) -> Set[str]:
    """Those of the jobs whose supervisor runs."""
    asked = list(jobs)
    states = _output(["systemctl", "is-active", *map(unit, asked)]) if asked else []
    return {job for job, state in zip(asked, states) if state in _RUNNING}


def log(job: str) -> List[str]:
    """The last lines of the supervisor's own output."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=%d" % _LOG_LINES, "--unit", unit(job)]
    return _output(command)


def unit(job: str) -> str:
    """The unit's name."""
    return "clusteradm-job-%s.service" % job


def _version() -> int:
    found = re.match(r"systemd (\d{1,6})", "".join(_output(["systemd-run", "--version"])[:1]))
    return int(found.group(1)) if found else 0


def _output(command: List[str]) -> List[str]:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode("utf-8", "replace").splitlines()
