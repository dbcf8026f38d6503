"""A job of clusteradm on this host alone: its folder made, and its ranks run by mpirun as its supervisor runs them."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import processes

from clusteradm.node.job import files, launch, pack
from clusteradm.node.job.plan import render_hostfile
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import AttemptPlan, InputForm, ModelFile, Progress, RankPlace, StoredSpec

_ID = "20260101-000000-abcdef"
_LOOK_SECONDS = 0.2  # each takes the processor from the job, of 64 ranks some milliseconds


@dataclass(frozen=True)
class Done:
    """A finished job. Seconds: from the first chunk to the last result; of the processor for an input, of all its
    processes, in that time. Mebibytes (PSS): of each rank, both processes."""

    seconds: float
    cpu: float
    memory: list[float]
    classes: list[int]


class Job:
    """Images and a model as a job's files, which each run begins anew."""

    def __init__(self, folder: Path, model: Path, images: Path, count: int) -> None:
        """`images`: a .npy file of the model's pixels; `count`: of its rows, inputs of the job."""
        self.share, self.own = folder / "jobs" / _ID, folder / "own" / _ID
        self.run_ = self.own / job_names.RUN
        self.share.mkdir(parents=True)
        self.run_.mkdir(parents=True)
        shape = (1, 224, 224, 3)
        with images.open("rb") as file:
            size = pack.append(str(self.share / job_names.PACK), file)
        entries = [pack.Entry(images.name, 0, size)]
        lines = list(pack.index(str(self.share / job_names.PACK), entries, pack.Wanted("uint8", shape)))
        self.inputs = pack.write_index(str(self.run_ / job_names.INPUTS), (lines[n % len(lines)] for n in range(count)))
        sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
        self._host = socket.gethostname()
        file_ = ModelFile(model.stem, 1, str(model), sha256, InputForm("uint8", shape))
        spec = StoredSpec(file_, self._host, (), None, 1, sys.executable, _ID, self.inputs, str(self.share))
        files.write_json(str(self.own / job_names.SPEC), spec)

    def run(self, ranks: int, env: dict[str, str]) -> Done:
        """Run it with so many ranks, to its end."""
        (self.share / job_names.JOURNAL).unlink(missing_ok=True)
        progress = self.run_ / job_names.PROGRESS
        progress.unlink(missing_ok=True)
        places = [RankPlace(number, self._host, None) for number in range(1, ranks + 1)]
        files.write_json(str(self.run_ / (job_names.ATTEMPT % 1)), AttemptPlan(1, tuple(places)))
        hostfile = str(self.run_ / job_names.HOSTFILE)
        files.write_text(hostfile, render_hostfile("localhost", [RankPlace(p.rank, "localhost", None) for p in places]))
        command = launch.command(hostfile, ranks, sys.executable, str(self.own), 1)
        log = (self.share / job_names.LOG).open("wb")
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        meter = processes.Meter(process.pid)
        memory: list[float] = []
        seen: Progress | None = None
        while process.poll() is None:
            time.sleep(_LOOK_SECONDS)
            meter.look(anew=seen is None or seen.first_dispatch is None)
            seen = files.read(Progress, str(progress))
            if not memory and seen is not None and seen.phase != "finished" and seen.done > self.inputs // 2:
                memory = _memory(processes.tree(process.pid))
        seen = files.read(Progress, str(progress))
        if process.returncode or seen is None or seen.done != self.inputs or seen.errors:
            log_text = (self.share / job_names.LOG).read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"the job ended with status {process.returncode}:\n{log_text[-2000:]}")
        if seen.last_result is None or seen.first_dispatch is None:
            raise SystemExit("the job says nothing of its times")
        found: dict[int, int] = {}
        for line in files.read_lines(str(self.share / job_names.JOURNAL)):
            found.update({result["i"]: result["top"][0][0] for result in line["results"]})
        seconds = seen.last_result - seen.first_dispatch
        classes = [found[number] for number in range(self.inputs)]
        cpu = meter.between(seen.first_dispatch, seen.last_result) / self.inputs
        return Done(seconds, cpu, memory, classes)


def _memory(tree: dict[int, int]) -> list[float]:
    """Mebibytes of each rank: a process of MPI's and the worker process that it has started."""
    found = []
    for pid, parent in tree.items():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if (
                b"clusteradm.node.job.rank" in words
                and parent in tree
                and len(words) > words.index(b"clusteradm.node.job.rank") + 4
            ):
                found.append(processes.memory(pid) + processes.memory(parent))
        except OSError:
            continue
    return found
