"""Sees one job through: `python3 -m clusteradm.node.job.supervisor JOB-DIRECTORY`, a systemd unit on the head.

Starts mpirun; where that ends early, asks which hosts still answer and starts again on them with what the journal
lacks; writes results.jsonl when nothing is missing. Runs as the cluster user and outlives whoever asked for the job.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from clusteradm.node.job import files
from clusteradm.node.job import journal as journals
from clusteradm.node.job.plan import place, render_hostfile

# Attempts in a row that may end without a single new result.
MOST_IDLE_ATTEMPTS = 3
# After SIGTERM healthy ranks are gone within four seconds; mpirun itself may hang on a host that is frozen.
_STOP_PATIENCE = 10.0
_ASK_PATIENCE = 10.0


class Cancelled(Exception):
    """The unit was told to stop."""


class Supervisor:
    """One job, until it is complete, failed or cancelled."""

    def __init__(self, folder: str) -> None:
        spec = files.read_json(os.path.join(folder, files.SPEC))
        if spec is None:
            raise SystemExit("%s has no readable %s" % (folder, files.SPEC))
        self._folder = folder
        self._spec = spec
        self._attempts: List[Dict[str, Any]] = []
        self._started = time.monotonic()

    def run(self) -> None:
        """See the job through and leave its last word in status.json."""
        signal.signal(signal.SIGTERM, _cancel)
        try:
            counts = self._attempt_until_complete()
        except Cancelled:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._status("cancelled")
        except Failed as failure:
            self._status("failed", error=str(failure), log=files.tail(os.path.join(self._folder, files.LOG)))
            return
        else:
            self._status("complete", **counts)
        # Nobody needs the inputs any more, and a board's storage is small.
        os.unlink(os.path.join(self._folder, files.PACK))

    def _attempt_until_complete(self) -> Dict[str, int]:
        slots = self._spec["slots"]
        have, idle = len(journals.done(self._folder)), 0
        while have < self._spec["inputs"]:
            status = self._attempt(slots)
            before, have = have, len(journals.done(self._folder))
            if have == self._spec["inputs"]:
                break
            self._give_up_if_hopeless(status)
            idle = idle + 1 if have == before else 0
            if idle == MOST_IDLE_ATTEMPTS:
                raise Failed("mpirun ended %d times without a result, the last time with status %d" % (idle, status))
            slots = self._answering()
        labels = os.path.join(os.path.dirname(self._spec["model"]["path"]), "labels.txt")
        return journals.finish(self._folder, _lines(labels))

    def _attempt(self, slots: Sequence[Dict[str, Any]]) -> int:
        """Run mpirun once, on these hosts. Its exit status."""
        number = len(self._attempts) + 1
        ranks = place(slots, self._spec["ranks"])
        if not ranks:
            raise Failed("no host with a slot answers any more")
        hostfile = os.path.join(self._folder, files.HOSTFILE)
        files.write_json(os.path.join(self._folder, files.ATTEMPT % number), {"attempt": number, "ranks": ranks})
        files.write_text(hostfile, render_hostfile(self._spec["head"], ranks))
        started = time.monotonic()
        self._attempts.append(
            {"attempt": number, "started": started, "hosts": sorted({rank["host"] for rank in ranks})}
        )
        self._status("running")
        command = ["mpirun", "--hostfile", hostfile, "--map-by", "slot", "--bind-to", "none", "--tag-output"]
        # NumPy's own threads would only be in the way of the other ranks: they spin when they start.
        command += ["-np", str(len(ranks) + 1), "-x", "PYTHONPATH", "-x", "OPENBLAS_NUM_THREADS=1", "-wdir", "/"]
        command += [self._spec["python"], "-m", "clusteradm.node.job.rank", self._folder, str(number)]
        with open(os.path.join(self._folder, files.LOG), "ab") as log:
            log.write(("attempt %d: %s\n" % (number, " ".join(command))).encode("utf-8"))
            log.flush()
            status = _run(command, log)
        self._attempts[-1].update(self._measured(number, ranks), status=status)
        return status

    def _measured(self, number: int, ranks: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
        """What rank 0 said last of this attempt; it may have died up to half a second later, so the journal counts."""
        progress = files.read_json(os.path.join(self._folder, files.PROGRESS)) or {}
        if progress.get("attempt") != number:
            progress = {"first_dispatch": None, "last_result": None, "ranks": ranks}
        images = journals.counts(self._folder, number)
        return {
            "first_dispatch": progress["first_dispatch"],
            "last_result": progress["last_result"],
            "ranks": [dict(rank, images=images.get(rank["rank"], 0)) for rank in progress["ranks"]],
        }

    def _give_up_if_hopeless(self, status: int) -> None:
        """Where every rank says why it cannot work, another attempt would hear the same."""
        said = [rank.get("error") for rank in self._attempts[-1]["ranks"]]
        if status == 0 and all(said):
            raise Failed("no rank could work: " + "; ".join(sorted({str(text) for text in said})))

    def _answering(self) -> List[Dict[str, Any]]:
        """The job's hosts that can be reached from the head and see the model."""
        # A mount whose server is gone hangs: a host with one does not answer.
        look = "timeout 5 test -r " + shlex.quote(self._spec["model"]["path"])
        asked: List[Tuple[Dict[str, Any], Optional["subprocess.Popen[bytes]"]]] = []
        for slot in self._spec["slots"]:
            if slot["host"] == self._spec["head"]:
                asked.append((slot, None))
                continue
            command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", slot["host"], look]
            asked.append((slot, subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
        end = time.monotonic() + _ASK_PATIENCE
        found = []
        for slot, process in asked:
            if process is None or _ends_well(process, end):
                found.append(slot)
        return found

    def _status(self, state: str, **more: Any) -> None:
        spec = self._spec
        status = {"state": state, "model": spec["model"], "top": spec["top"], "total": spec["inputs"]}
        status.update(started=self._started, attempts=self._attempts, **more)
        files.write_json(os.path.join(self._folder, files.STATUS), status)


class Failed(Exception):
    """The job cannot be completed; the text says why."""


def _cancel(number: int, frame: Any) -> None:
    raise Cancelled


def _run(command: Sequence[str], log: Any) -> int:
    """Run mpirun to its end; whatever ends this program ends mpirun first."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ends_well(process: "subprocess.Popen[bytes]", end: float) -> bool:
    try:
        return process.wait(max(0.1, end - time.monotonic())) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def _lines(path: str) -> List[str]:
    """A text file's lines; none where it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The program."""
    folder = (sys.argv[1:] if arguments is None else arguments)[0]
    Supervisor(folder).run()


if __name__ == "__main__":
    main()
