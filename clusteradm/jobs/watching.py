"""Watching a folder for inputs: what comes is given to one job that stays open, and its results are appended."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import HostUnreachable
from clusteradm.jobs.appending import Appending
from clusteradm.jobs.inputs import SUFFIXES, File
from clusteradm.jobs.job import Jobs, Update
from clusteradm.jobs.ledger import Ledger
from clusteradm.node.spec.watching.files import Found, WholeFiles
from clusteradm.node.spec.wire.job_names import INTERRUPTED, OPEN
from clusteradm.node.spec.wire.job_requests import Collected

BATCH_FILES = 1000
BATCH_BYTES = 16 << 20  # of a batch, once it has a file
# Given to the job and not done: more waits in the folder.
MOST_FILES = 4000
MOST_BYTES = 64 << 20
PURGE_SECONDS = 3600.0
_BUSY_SECONDS = 0.05  # that the head, or the folder, is listened to while there is something to come from the other
_IDLE_SECONDS = 1.0
_NEWS_SECONDS = 1.0  # between two looks at the job
_SELDOM_SECONDS = 5.0  # the same while nothing is expected of it
_HEARD_SECONDS = 60.0  # after which a job is told that its command is there
_LOST_SECONDS = 3600.0  # that the head is sought
_RECONNECT = 300.0
_RESUMED_SECONDS = 60.0  # from the head's start until its jobs go on


class Folder:
    """A folder of this machine, whose files are given to the job. `taken`: so many, by this process."""

    def __init__(self, top: Path, ledger: Ledger) -> None:
        self._ledger, self._top = ledger, str(top)
        self._files = WholeFiles(self._top, SUFFIXES, ledger.known)
        self._gone, self._purged = False, time.monotonic()
        self._out: dict[int, tuple[int, int]] = {}  # batch -> its files and bytes
        self.taken = 0

    def close(self) -> None:
        """Watch no more."""
        self._files.close()

    def wait(self, seconds: float, say: Callable[[str], None]) -> None:
        """Wait until something may have come, for so many seconds at most."""
        self._files.wait(seconds)
        if self._files.gone != self._gone:
            self._gone = self._files.gone
            say(f"{self._top} is {'gone: waiting for it' if self._gone else 'there again'}")
        while self._files.reasons:
            say(f"warning: left out: {self._files.reasons.pop()}")
        if time.monotonic() - self._purged > PURGE_SECONDS:
            self._purged = time.monotonic()
            self._ledger.purge(self._top)

    @property
    def expecting(self) -> bool:
        """Whether the job has something of this folder."""
        return bool(self._out)

    def done(self, batch: int) -> None:
        """Note that the results of a batch are there."""
        self._out.pop(batch, None)

    def give(self, jobs: Jobs, job: str) -> bool:
        """Give the job a batch of what has come, if there is something and it has not enough to do. False where it
        takes no more. Raises HostUnreachable; the files are then given again."""
        files, size = (sum(part) for part in zip(*self._out.values(), strict=True)) if self._out else (0, 0)
        if files >= MOST_FILES or size >= MOST_BYTES:
            return True
        found = self._fitting(self._files.take(BATCH_FILES))
        batch = self._ledger.batch + 1
        while found:
            self._ledger.take(found, batch)
            try:
                failed = jobs.feed(job, batch, [_input(one) for one in found])
            except HostUnreachable:
                self._ledger.void(batch)
                for one in found:
                    self._files.put_back(one.name, changed=False)
                raise
            if failed == {}:
                self._ledger.give(batch)
                self._out[batch] = (len(found), sum(one.size for one in found))
                self.taken += len(found)
                return True
            self._ledger.drop([batch])
            if failed is None:
                return False
            found = [one for one in found if not self._put_back(one, failed)]
        return True

    def _fitting(self, found: list[Found]) -> list[Found]:
        """As many of the first as are one batch; the others come with the next."""
        size = 0
        for number, one in enumerate(found):
            size += one.size
            if number and size > BATCH_BYTES:
                for other in found[number:]:
                    self._files.put_back(other.name, changed=False)
                return found[:number]
        return found

    def _put_back(self, one: Found, failed: dict[str, str]) -> bool:
        """Whether a file is no part of the batch: it has changed, or gone."""
        if regular.readable(one.name) not in failed:
            return False
        if os.path.lexists(one.path):
            self._files.put_back(one.name)
        return True


def _input(one: Found) -> File:
    """The file, as the job is given it."""
    name, path = regular.readable(one.name), Path(one.path)
    try:
        regular.opened(path).close()
    except FileNotFoundError:
        pass  # that is seen when it is sent
    except (OSError, ValueError) as error:
        return File(name, path, 0, error=f"cannot read it: {getattr(error, 'strerror', None) or error}")
    return File(name, path, one.size, one.changed)


class Watch:
    """One open job, followed by this process. `folder`: what it is given; None where the head takes it itself."""

    def __init__(
        self, jobs: Jobs, job: str, ledger: Ledger, output: Appending, folder: Folder | None, say: Callable[[str], None]
    ) -> None:
        self._jobs, self._job, self._ledger, self._output, self._folder = jobs, job, ledger, output, folder
        self._say = say
        self._done: set[int] = set()  # in the output, and perhaps not removed from the head
        self._waiting: tuple[int, ...] = ()
        self._told = -_HEARD_SECONDS
        self._interrupted: float | None = None
        self.stopping = False
        if folder is not None and ledger.batch != ledger.given:
            ledger.void(ledger.batch)

    def stop(self) -> None:
        """Give the job no more; it ends when it has done what it has."""
        self.stopping = True
        self._jobs.end(self._job)

    def updates(self) -> Iterator[Update]:
        """Work until the job ends. Raises HostUnreachable where the head is away for an hour; HostFailed, OSError."""
        seen: tuple[int, ...] | None = None
        lost: float | None = None
        asked = 0.0
        while True:
            try:
                ended = self._turn()
                if ended or time.monotonic() - asked > (_NEWS_SECONDS if self._expecting else _SELDOM_SECONDS):
                    asked = time.monotonic()
                    news = self._jobs.news(self._job, seen)
                    if news.seen != seen or ended:
                        seen = news.seen
                        yield Update(news.status, news.progress)
                    if news.status.state not in OPEN:
                        self._told = -_HEARD_SECONDS  # what it has left is fetched
                lost = None
            except HostUnreachable:
                lost = lost or time.monotonic()
                yield Update(None)
                self._seek(lost)
                continue
            if ended:
                return

    def _seek(self, lost: float) -> None:
        """Connect again. Raises HostUnreachable an hour after the connection was lost."""
        while True:
            try:
                self._jobs.reconnect(_RECONNECT)
            except HostUnreachable:
                if time.monotonic() - lost > _LOST_SECONDS:
                    raise
            else:
                return

    @property
    def _expecting(self) -> bool:
        return bool(self._waiting or self._done or (self._folder is not None and self._folder.expecting))

    def _turn(self) -> bool:
        """Give the job what has come, and fetch what is done; whether the job has ended, and all is fetched."""
        if self._folder is None or self.stopping:
            return self._fetch(_IDLE_SECONDS)
        expecting = self._expecting
        told = time.monotonic() - self._told < _HEARD_SECONDS
        self._folder.wait(0.0 if expecting or not told else _IDLE_SECONDS, self._say)
        if not self._folder.give(self._jobs, self._job):
            self.stopping = True
        if told and not expecting and not self._expecting:
            return False
        return self._fetch(_BUSY_SECONDS)

    def _fetch(self, wait: float) -> bool:
        """Append the results of a batch, waited for so many seconds. Whether the job has ended, and has no more."""
        with tempfile.TemporaryFile() as data:
            answer = self._jobs.collect(self._job, data, done=self._done, wait=wait)
            self._told, self._waiting = time.monotonic(), answer.waiting
            self._done.clear()
            if answer.batch is not None:
                data.seek(0)
                self._output.add(self._jobs, self._job, answer.batch, data)
                self._done.add(answer.batch)
                if self._folder is not None:
                    self._folder.done(answer.batch)
                return False
        return self._ended(answer)

    def _ended(self, answer: Collected) -> bool:
        """Whether the job has come to its end. After a restart of the head it goes on by itself."""
        if answer.state != INTERRUPTED:
            self._interrupted = None
            return answer.state not in OPEN
        self._interrupted = self._interrupted or time.monotonic()
        return time.monotonic() - self._interrupted > _RESUMED_SECONDS
