"""Batches of inputs of a job that stays open for more, on the head: each until its results are fetched."""

import os
import re
from contextlib import suppress
from typing import Any, Container, Dict, Iterator, List, Sequence

from clusteradm.node import atomic, paths
from clusteradm.node.job import files, journal, pack
from clusteradm.node.job.folders import Folders
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Counted, StoredSpec

_BATCH, _BODY = (
    re.compile(re.escape(name).replace("%d", "([0-9]{1,11})")) for name in (job_names.BATCH, job_names.FEED_PACK)
)
_TOO_MANY = "more than %d inputs at once: make several files of them" % pack.MOST_INPUTS


class Feed:
    """The batches of one job."""

    def __init__(self, share: str, run: str) -> None:
        """`share`: the job's folder on the shared file system; `run`: that on the head's own disk."""
        self.share, self.run = share, run

    @classmethod
    def of(cls, job: Folders) -> "Feed":
        """That of a started job."""
        return cls(job.share, job.run)

    def make(self) -> None:
        """Make its folders."""
        for name in (job_names.FEED, job_names.FOUND):
            os.mkdir(os.path.join(self.run, name), 0o755)

    @property
    def open_or_waiting(self) -> bool:
        """Whether the job has inputs that are not done with, or may get more."""
        return not self.ended() or bool(self.waiting())

    def lines(self, batch: int) -> str:
        """Path of the lines of the inputs of a batch."""
        return os.path.join(self.run, job_names.FEED, job_names.BATCH % batch)

    def body(self, batch: int) -> str:
        """Path of their bytes."""
        return os.path.join(self.share, job_names.FEED_PACK % batch)

    def results(self, batch: int) -> str:
        """Path of the results of a batch."""
        return os.path.join(self.run, job_names.FOUND, job_names.BATCH % batch)

    def waiting(self) -> List[int]:
        """The batches that are not done with."""
        return _numbers(os.path.join(self.run, job_names.FEED))

    def found(self) -> List[int]:
        """The batches with results that were not fetched."""
        return _numbers(os.path.join(self.run, job_names.FOUND))

    def has(self, batch: int) -> bool:
        """Whether the batch was added, and its results are not fetched."""
        return os.path.lexists(self.lines(batch)) or os.path.lexists(self.results(batch))

    def ended(self) -> bool:
        """Whether no more inputs come."""
        return os.path.lexists(os.path.join(self.run, job_names.END))

    def end(self) -> None:
        """Take no more inputs."""
        with suppress(FileNotFoundError), open(os.path.join(self.run, job_names.END), "wb"):
            pass

    def add(self, batch: int, entries: Sequence[pack.Entry], spec: StoredSpec) -> int:
        """Add a batch, whose pack is written: its number of inputs. It is on the disk then, and ranks may get it."""
        whole = self.body(batch)
        with open(whole, "ab", opener=files.opener):  # there, if empty
            pass
        os.chmod(whole, 0o644)
        files.sync(whole)
        model = spec.model
        lines = pack.index(whole, entries, *map(pack.wanted, (model.input, *model.more)))
        try:
            return self._write(batch, lines)
        except pack.PackError as error:
            return self._write(batch, (pack.refused(entry.name, str(error)) for entry in entries))

    def _write(self, batch: int, lines: Iterator[Dict[str, Any]]) -> int:
        count = 0
        with atomic.replacing(self.lines(batch), mode=0o644) as file:
            for count, line in enumerate(lines, 1):
                if count > pack.MOST_INPUTS:
                    raise pack.PackError(_TOO_MANY)
                file.write(files.line(line).encode("utf-8", "backslashreplace"))
        return count

    def settle(self, batch: int) -> None:
        """Have the results of a batch on the disk, and remove its inputs."""
        with suppress(FileNotFoundError):  # they are fetched already
            files.sync(self.results(batch))
        # The lines last: as long as they are there, the next rank 0 settles the batch again.
        for path in (self.body(batch), self.lines(batch)):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def sweep(self, kept: Container[int] = ()) -> None:
        """Remove the bytes of the inputs of every other batch: also those of one that was not given to the job, as what
        made it has ended, or been told that no more are taken."""
        for name in os.listdir(self.share):
            match = _BODY.fullmatch(name)
            if match and int(match.group(1)) not in kept:
                with suppress(OSError):  # any board can put a folder in its place
                    os.unlink(os.path.join(self.share, name))

    def remove(self, batches: Sequence[int]) -> None:
        """Remove the results of batches, which are stored elsewhere, with their large outputs."""
        for batch in batches:
            path = self.results(batch)
            for line in files.read_lines(path):
                for name in journal.output_files(line):
                    self._remove_output(name)
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _remove_output(self, name: str) -> None:
        folder, _, base = name.partition("/")
        with suppress(OSError):  # any board can put a link in the place of the folder
            fd = os.open(os.path.join(self.share, folder), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.unlink(os.path.join(paths.by_descriptor(fd), base))
            finally:
                os.close(fd)

    def counted(self) -> Counted:
        """The results of the batches that are done with."""
        return files.read(Counted, self._count()) or Counted(0, 0, 0)

    def count(self, counted: Counted) -> None:
        """Keep their number. Raises OSError."""
        files.write_json(self._count(), counted)

    def _count(self) -> str:
        return os.path.join(self.run, job_names.COUNTED)

    def size(self) -> int:
        """Bytes of the results that were not fetched."""
        return sum(map(files.size, map(self.results, self.found())))


def _numbers(folder: str) -> List[int]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(match.group(1)) for match in map(_BATCH.fullmatch, names) if match)


def inputs(batch: int, count: int) -> range:
    """The numbers within the job of the inputs of a batch of so many."""
    return range(batch * job_names.BATCH_INPUTS, batch * job_names.BATCH_INPUTS + count)
