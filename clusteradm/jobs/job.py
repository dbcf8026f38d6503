"""Jobs on the head: made, started, followed, ended, their results fetched."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, UsageError
from clusteradm.inventory import Cluster
from clusteradm.jobs.inputs import SUFFIXES, HeadInputs, LocalInputs, parts
from clusteradm.transport import Connections

RESULTS = "results.jsonl"

# What mpirun starts on every host; bootstrap puts it there.
PYTHON = "/opt/clusteradm/bin/python3"

_WAIT = 1.0  # seconds that the head may hold a question when there is nothing new
_RECONNECT = 300.0
_ANSWER = 60.0  # seconds for an answer that needs no work


@dataclass(frozen=True)
class Slot:
    """The TPUs of one host that a job may use; pci_address None: that host's CPU."""

    host: str
    tpus: tuple[str | None, ...]


@dataclass(frozen=True)
class Update:
    """What is new about a job. `status` and `progress`: the head's files, as node/job/files.py has them."""

    status: Mapping[str, Any]
    progress: Mapping[str, Any] | None
    lost: bool = False  # the connection; the job goes on


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._connections = connections
        self._head = cluster.head
        self._place = {"shared": cluster.setting("cluster_shared"), "user": cluster.setting("cluster_user")}

    def directory(self, job: str) -> str:
        """The job's directory on the head."""
        return f"{self._place['shared']}/jobs/{job}"

    def submit(
        self,
        inputs: LocalInputs | HeadInputs,
        *,
        model: Mapping[str, Any],
        slots: Sequence[Slot],
        ranks: int | None,
        top: int,
        progress: Callable[[int, int], None],
    ) -> tuple[str, int]:
        """Bring the inputs to the head, start the job: (its id, its number of inputs).

        `model`: name, version, path, sha256, and input {dtype, shape}. `progress` is told bytes sent, and bytes in all.
        Whatever ends this early leaves no job behind.
        """
        job = str(self._call("job-create")["job"])
        try:
            if isinstance(inputs, LocalInputs):
                self._send(job, inputs, progress)
            else:
                self._call("job-paths", job=job, paths=list(inputs.paths), suffixes=list(SUFFIXES), timeout=None)
            spec = {
                "model": dict(model),
                "head": self._head.name,
                "slots": [
                    {"host": slot.host, "tpus": [{"pci_address": address} for address in slot.tpus]} for slot in slots
                ],
                "ranks": ranks,
                "top": top,
                "python": PYTHON,
            }
            count = self._call("job-start", job=job, spec=spec, timeout=None)["inputs"]
        except BaseException:
            # Also on Ctrl-C, whose half-read answer makes the conversation useless: begin a new one.
            with contextlib.suppress(ClusteradmError):
                self.cancel(job)
                self._call("job-discard", job=job)
            raise
        return job, int(count)

    def _send(self, job: str, inputs: LocalInputs, progress: Callable[[int, int], None]) -> None:
        sent = 0
        for part in parts(inputs.files):
            digest = hashlib.sha256(part.data).hexdigest()
            pieces = [{"name": file.name, "size": file.size} for file in part.files]

            def tell(done: int, _: int, before: int = sent) -> None:
                progress(before + done, inputs.bytes)

            taken = False
            while not taken:
                # Another job may have used up the same bytes between the two steps: then they are sent again.
                self._connections.node(self._head).put_blobs({digest: part.data}, tell)
                taken = self._call("job-part", job=job, blob=digest, files=pieces)["taken"]
            sent += len(part.data)
            progress(sent, inputs.bytes)

    def follow(self, job: str) -> Iterator[Update]:
        """Every change of the job until it ends; the last update's state is "complete", "failed" or "cancelled".

        A lost connection is an update of its own; then the head is sought again for five minutes, and the job taken up.
        """
        seen: Any = None
        while True:
            try:
                answer = self._call("job-follow", job=job, seen=seen, wait=_WAIT)
            except HostUnreachable as error:
                yield Update({"state": "unknown", "error": str(error)}, None, lost=True)
                self._connections.reconnect(self._head, _RECONNECT)
                seen = None
                continue
            if answer["seen"] != seen or answer["status"]["state"] not in ("starting", "running"):
                seen = answer["seen"]
                yield Update(answer["status"], answer["progress"])
            if answer["status"]["state"] not in ("starting", "running"):
                return

    def failure(self, job: str, status: Mapping[str, Any]) -> HostFailed:
        """The error that a failed job's last status tells, with the end of its log."""
        lines = "".join(f"\n    {line}" for line in status.get("log", ()))
        return HostFailed(
            f"job {job} failed: {status.get('error', 'no reason given')}{lines}",
            where=self._head.name,
            next_step=f"clusteradm health says what is ill; the whole log is {self.directory(job)}/log there",
        )

    def cancel(self, job: str) -> None:
        """End the job and wait until it has ended.

        Over a new connection: the present one may be in the middle of an answer.
        """
        self._connections.drop(self._head)
        self._call("job-cancel", job=job)

    def fetch(self, job: str, name: str, into: BinaryIO) -> None:
        """Copy a file of the job. Raises HostUnreachable or HostFailed where it did not come whole."""
        replies = self._connections.node(self._head).ask(
            "job-fetch", timeout=_ANSWER, **self._place, job=job, file=name
        )
        size = 0
        while True:
            try:
                reply = next(replies)
            except StopIteration as end:
                if end.value["size"] != size:
                    raise HostFailed(f"{name} has {end.value['size']} bytes, of which {size} came") from None
                return
            size += into.write(base64.b64decode(reply["data"]))

    def _call(self, do: str, timeout: float | None = _ANSWER, **fields: Any) -> dict[str, Any]:
        answer = self._connections.node(self._head).call(do, timeout=timeout, **self._place, **fields)
        if "refused" in answer:
            raise UsageError(answer["refused"])
        return answer
