"""Inputs of a job as rank 0 has them: all at its start, or in batches while it runs, each with its results."""

import json
import os
import threading
import time
from array import array
from queue import SimpleQueue
from typing import Any, Collection, Dict, List, Optional, Sequence, Tuple

from clusteradm.node import atomic
from clusteradm.node.job import feed as feeds
from clusteradm.node.job import files, journal, room
from clusteradm.node.job.feed import Feed
from clusteradm.node.job.numbers import Numbers
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Counted, StoredSpec

LOOK_SECONDS = 0.02  # between two looks for new batches
# Of a journal, beyond which the results of batches that are done with are taken out of it.
MOST_JOURNAL = 32 << 20
_TOGETHER = 200  # results in a line of such a journal


class Index:
    """Where the inputs of a file of lines are, in some twenty bytes each: rank 0 holds those of millions, on a head
    that may have 1 GB. Their names are for the results alone."""

    def __init__(self, path: str) -> None:
        self._offsets, self._sizes, self._forms = array("q"), array("q"), array("i")
        self._known: List[Any] = []  # forms: those of a job are few, but for its errors
        numbers: Dict[str, int] = {}
        for line in files.read_lines(path):
            number = numbers.setdefault(repr(line["form"]), len(self._known))
            if number == len(self._known):
                self._known.append(line["form"])
            self._offsets.append(line["offset"])
            self._sizes.append(line["size"])
            self._forms.append(number)

    def __len__(self) -> int:
        return len(self._offsets)

    def piece(self, number: int) -> List[Any]:
        """Offset, size and form of one."""
        return [self._offsets[number], self._sizes[number], self._known[self._forms[number]]]


class Listed:
    """Inputs that are all known. `todo`: the numbers of those without a result; `earlier`, `errors`: results of earlier
    attempts, and of these errors."""

    open = False  # for more

    def __init__(self, spec: StoredSpec, run: str) -> None:
        self._index = Index(os.path.join(run, job_names.INPUTS))
        have = journal.done(spec.folder, spec.inputs)
        self.todo: Collection[int] = Numbers(index for index in range(len(self._index)) if index not in have)
        self.earlier, self.errors = len(have), 0
        self.total = len(self._index)

    def more(self) -> List[int]:
        """The inputs that have come since."""
        return []

    def piece(self, index: int) -> List[Any]:
        """What a rank has to know of an input."""
        return [index, *self._index.piece(index)]

    def keep(self, at: int, results: Sequence[Dict[str, Any]]) -> None:
        """Note that results are in the journal, in the line at that place."""

    def close(self) -> None:
        """Write what there is to write yet."""


class Stream:
    """Inputs that come in batches; as Listed. What rank 0 says of its progress may be of before its last results: these
    are counted by the batches that are done with, and by the journal."""

    def __init__(self, spec: StoredSpec, run: str, book: journal.Journal) -> None:
        self._folder, self._book = spec.folder, book
        self._feed = Feed(spec.folder, run)
        self._before = self._feed.counted()
        self._writer = Writer(self._feed, spec.folder, files.labels(spec.model.path), self._before)
        self._batches: Dict[int, Index] = {}
        self._missing: Dict[int, int] = {}
        self._wrong: Dict[int, int] = {}  # results that are errors
        self._places = journal.places(spec.folder)
        self._most = MOST_JOURNAL
        self._looked = 0.0
        self.earlier, self.errors = self._before.done, self._before.errors
        self.total = self.earlier
        self._ended = False
        self.todo: Collection[int] = self.more()

    @property
    def open(self) -> bool:
        """Whether more may come, or results are to be written yet."""
        return not self._ended or bool(self._batches)

    def more(self) -> List[int]:
        """The inputs that have come since. Raises what the writing of results has raised."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return []
        self._looked = now
        self._forget(self._writer.written())
        ended = self._feed.ended()  # before the look: what is added is added before
        new = [index for batch in self._feed.waiting() if batch not in self._batches for index in self._load(batch)]
        self._ended = ended
        return new

    def _load(self, batch: int) -> List[int]:
        self._batches[batch] = index = Index(self._feed.lines(batch))
        numbers, results = feeds.inputs(batch, len(index)), self._feed.results(batch)
        if os.path.lexists(results):  # a rank 0 before this one has ended while it wrote them
            missing: List[int] = []
            self._wrong[batch] = sum("error" in result for result in files.read_lines(results))
            self._put(batch, None)
        else:
            missing = [number for number in numbers if number not in self._places]
            places = {number: self._places[number] for number in numbers if number in self._places}
            with journal.Found(self._folder, places) as found:
                self._wrong[batch] = sum("error" in (found.result(number) or {}) for number in places)
            if not missing:
                self._finish(batch)
        self._missing[batch] = len(missing)
        if batch != self._before.batch:  # that was counted, and no more done with
            self.earlier += len(index) - len(missing)
            self.errors += self._wrong[batch]
            self.total += len(index)
        return missing

    def piece(self, index: int) -> List[Any]:
        """What a rank has to know of an input."""
        batch, number = divmod(index, job_names.BATCH_INPUTS)
        return [index, *self._batches[batch].piece(number), batch]

    def keep(self, at: int, results: Sequence[Dict[str, Any]]) -> None:
        """Note that results are in the journal, in the line at that place."""
        for result in results:
            batch = result["i"] // job_names.BATCH_INPUTS
            self._places[result["i"]] = at
            self._wrong[batch] += "error" in result
            self._missing[batch] -= 1
            if not self._missing[batch]:
                self._finish(batch)

    def _finish(self, batch: int) -> None:
        numbers = feeds.inputs(batch, len(self._batches[batch]))
        self._put(batch, {number: self._places[number] for number in numbers})

    def _put(self, batch: int, places: Optional[Dict[int, int]]) -> None:
        self._writer.put(batch, places, (len(self._batches[batch]), self._wrong[batch]))

    def _forget(self, batches: Sequence[int]) -> None:
        """Forget batches whose results are written, and take these out of the journal, so that it does not grow."""
        for batch in batches:
            for number in feeds.inputs(batch, len(self._batches.pop(batch))):
                self._places.pop(number, None)
            del self._missing[batch], self._wrong[batch]
        if not self._batches:
            if batches:
                self._book.clear()
                self._places.clear()
        elif self._book.size > self._most and self._writer.idle:
            with journal.Found(self._folder, self._places) as found:
                left = [result for result in map(found.result, sorted(self._places)) if result is not None]
            self._book.clear()
            for first in range(0, len(left), _TOGETHER):
                part = left[first : first + _TOGETHER]
                at = self._book.append(0, part)
                self._places.update((result["i"], at) for result in part)
            self._most = max(MOST_JOURNAL, 2 * self._book.size)

    def close(self) -> None:
        """Write the results of the batches that have all of them. Raises what that raises."""
        self._writer.end()


class Writer:
    """A thread that writes the results of whole batches: rank 0 is not to wait for a disk."""

    def __init__(self, feed: Feed, folder: str, labels: Sequence[str], counted: Counted) -> None:
        self._feed, self._folder, self._labels, self._counted = feed, folder, labels, counted
        self._queue: "SimpleQueue[Any]" = SimpleQueue()
        self._written: "SimpleQueue[Any]" = SimpleQueue()
        self._put = self._got = 0
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self._put == self._got

    def put(self, batch: int, places: Optional[Dict[int, int]], count: Tuple[int, int]) -> None:
        """Have the results of a batch written, which are in the journal at these places; None: they are written.
        `count`: of them, and of those that are errors."""
        self._put += 1
        self._queue.put((batch, places, count))

    def written(self) -> List[int]:
        """The batches that are written since the last call. Raises what has ended the thread."""
        found = []
        while not self._written.empty():
            one = self._written.get()
            if isinstance(one, BaseException):
                raise one
            found.append(one)
            self._got += 1
        return found

    def end(self) -> None:
        """Wait for what is to be written."""
        self._queue.put(None)
        self._thread.join()
        self.written()

    def _run(self) -> None:
        try:
            for batch, places, count in iter(self._queue.get, None):
                if places is not None:
                    room.insist(lambda: self._write(batch, places))  # noqa: B023 - called at once
                room.insist(lambda: self._count(batch, *count))  # noqa: B023 - called at once
                self._feed.settle(batch)
                self._written.put(batch)
        except BaseException as error:
            self._written.put(error)

    def _count(self, batch: int, done: int, errors: int) -> None:
        """Count the results of a batch, once, before it is done with."""
        before = self._counted
        if batch != before.batch:
            counted = Counted(batch, before.done + done, before.errors + errors)
            self._feed.count(counted)
            self._counted = counted

    def _write(self, batch: int, places: Dict[int, int]) -> None:
        # To be seen at once, and on the disk before the inputs are removed.
        path = self._feed.results(batch)
        with journal.Found(self._folder, places) as found, atomic.replacing(path, mode=0o644, durable=False) as file:
            numbers = feeds.inputs(batch, len(places))
            for index, line in zip(numbers, files.read_lines(self._feed.lines(batch))):
                result = found.result(index)
                if result is None:
                    raise journal.JournalError("input %d (%s) has no result" % (index, line["input"]))
                record = journal.record(line["input"], index, result, self._labels)
                file.write((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
