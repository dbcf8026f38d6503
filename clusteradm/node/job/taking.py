"""Inputs of a job that stays open for more, while its supervisor runs: taken from a folder of the head, or ended when
the command that sends them is no longer heard of."""

import os
import sqlite3
import threading
import time
from contextlib import suppress
from typing import Callable, List, Optional

from clusteradm.node.job import files, naming, pack, room
from clusteradm.node.job.feed import Feed
from clusteradm.node.spec.watching.files import Found, WholeFiles
from clusteradm.node.spec.watching.record import Record
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import StoredSpec, Watching

BATCH_FILES = 1000
BATCH_BYTES = 16 << 20  # of a batch, once it has a file
# What is not done with waits in the folder: the batches that ranks have, and the results that nobody fetches.
MOST_BATCHES = 16
MOST_RESULTS = 1 << 30
UNHEARD_SECONDS = 600.0
PURGE_SECONDS = 3600.0
_WAIT_SECONDS = 0.5
_AGAIN_SECONDS = 0.05  # where there is something to take, and perhaps no room for it
_LOOK_SECONDS = 2.0  # between two looks at what is not fetched
_END_SECONDS = 10.0  # for a batch that is being made
_SHARE = 20  # of the time, at most one part goes to them
# So many batches that are not fetched, and seconds between two batches then: nobody waits for them, and each is a file.
_SELDOM = ((5000, 60.0), (500, 10.0), (0, 0.0))
_MOST_FOUND = 100_000


class Taking(threading.Thread):
    """The thread. `error`: what has ended it."""

    def __init__(self, spec: StoredSpec, watch: Watching, run: str, say: Callable[[str], None]) -> None:
        super().__init__(name="taking", daemon=True)
        self._spec, self._run_folder, self._say = spec, run, say
        self._folder, self._suffixes = watch.folder, watch.suffixes
        self._feed = Feed(spec.folder, run)
        self._stopped = self._stuffed = False
        self._looked = self._added = self._seldom = self._every = 0.0
        self.error: Optional[str] = None

    def stop(self) -> None:
        """Have it end soon."""
        self._stopped = True

    def sweep(self) -> None:
        """End it, and remove what is left of the inputs: the job is complete."""
        self.stop()
        self.join(_END_SECONDS)
        with suppress(OSError):
            self._feed.sweep()

    def run(self) -> None:
        """Take what comes, until no more is wanted."""
        try:
            if self._folder is None:
                self._listen()
            else:
                self._take(self._folder)
        except (OSError, sqlite3.Error) as error:
            self.error = "no more inputs can be taken: %s" % error
        except Exception as error:
            self.error = "%s: %s" % (type(error).__name__, error)

    def _over(self) -> bool:
        return self._stopped or self._feed.ended()

    def _listen(self) -> None:
        """End the job where its command has asked for nothing for a while: it would have its TPUs for ever."""
        heard = os.path.join(self._run_folder, job_names.HEARD)
        last, since = None, time.monotonic()  # type: Optional[float], float
        while not self._over():
            with suppress(OSError):
                now = os.stat(heard).st_mtime
                if now != last:
                    last, since = now, time.monotonic()
            if time.monotonic() - since > UNHEARD_SECONDS:
                self._say("nothing is heard of the command that sends the inputs: no more are taken")
                self._feed.end()
            time.sleep(_WAIT_SECONDS)

    def _take(self, folder: str) -> None:
        record = Record(os.path.join(self._run_folder, job_names.TAKEN))
        watched = WholeFiles(folder, self._suffixes, record.known)
        gone, purged = False, time.monotonic()
        try:
            # Batches that were noted and have come to nothing: the supervisor ended in between.
            batch = record.batch
            if batch and not self._feed.has(batch) and record.get("added") != str(batch):
                record.drop([batch])
            self._feed.sweep(kept=self._feed.waiting())
            while not self._over():
                watched.wait(_WAIT_SECONDS if watched.idle else _AGAIN_SECONDS)
                self._tell(watched, gone)
                gone = watched.gone
                full = self._full()
                if full and not watched.idle:
                    time.sleep(_AGAIN_SECONDS)  # what is due and not taken ends each wait at once
                found = [] if full else watched.take(BATCH_FILES)
                if found:
                    batch += 1
                    self._add(batch, found, record, watched)
                elif time.monotonic() - purged > PURGE_SECONDS:
                    purged = time.monotonic()
                    record.purge(folder)
        finally:
            watched.close()
            record.close()

    def _full(self) -> bool:
        """Whether the next batch has to wait: for ranks, or for who fetches the results."""
        now = time.monotonic()
        if now - self._looked > self._every:
            found = len(self._feed.found())
            self._stuffed = found > _MOST_FOUND or self._feed.size() > MOST_RESULTS
            self._seldom = next(seconds for most, seconds in _SELDOM if found >= most)
            self._looked = time.monotonic()
            self._every = max(_LOOK_SECONDS, _SHARE * (self._looked - now))
        return self._stuffed or now - self._added < self._seldom or len(self._feed.waiting()) >= MOST_BATCHES

    def _tell(self, watched: WholeFiles, gone: bool) -> None:
        if watched.gone != gone:
            self._say("%s is %s" % (self._folder, "gone: waiting for it" if watched.gone else "there again"))
        while watched.reasons:
            self._say("left out: %s" % watched.reasons.pop())

    def _add(self, batch: int, found: List[Found], record: Record, watched: WholeFiles) -> None:
        """Make a batch of the files; those that are too much for it come with the next."""
        body = self._feed.body(batch)
        _remove(body)
        entries: List[pack.Entry] = []
        taken: List[Found] = []
        size = 0
        for number, one in enumerate(found):
            if entries and size + one.size > BATCH_BYTES:
                for other in found[number:]:
                    watched.put_back(other.name, changed=False)
                break
            entry = self._entry(body, one, size)
            if entry is None:
                if os.path.lexists(one.path):
                    watched.put_back(one.name)
                continue
            entries.append(entry)
            taken.append(one)
            size += entry.size
        if not entries:
            _remove(body)
            return
        record.take(taken, batch)
        room.insist(lambda: self._feed.add(batch, entries, self._spec))
        record.put("added", str(batch))
        self._added = time.monotonic()

    def _entry(self, body: str, one: Found, at: int) -> Optional[pack.Entry]:
        """The file, its bytes appended; None where it is not what it was when it was found."""
        name = one.name.encode("utf-8", "backslashreplace").decode("utf-8")
        # Whoever may write in the folder may have made it a link meanwhile.
        real = os.path.realpath(one.path)
        if not real.startswith(os.path.join(os.path.realpath(str(self._folder)), "")):
            return None
        try:
            with naming.open_input(real) as file:
                size = room.insist(lambda: pack.append(body, file))
                now = os.fstat(file.fileno())
        except pack.NoInput as error:
            return pack.Entry(name, at, 0, str(error)) if os.path.lexists(one.path) else None
        if (size, now.st_mtime_ns) == (one.size, one.changed) and now.st_size == size:
            return pack.Entry(name, at, size)
        os.truncate(body, at)
        return None


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def copy_record(before: str, run: str) -> None:
    """Begin with the record of an earlier job, by the folders of both on the head's own disk, without what that has not
    done; and with none where it has none."""
    source = os.path.join(before, job_names.TAKEN)
    if not os.path.isfile(source):
        return
    target = os.path.join(run, job_names.TAKEN)
    with open(source, "rb", opener=files.opener) as old, open(target, "xb", opener=files.opener) as new:
        for data in iter(lambda: old.read(1 << 20), b""):
            new.write(data)
    record = Record(target)
    try:
        undone = Feed("", before).waiting()
        if record.batch and record.get("added") != str(record.batch):
            undone.append(record.batch)
        record.drop(undone)
        # Batches of this job have numbers of their own.
        record.renumber()
    finally:
        record.close()
