"""Ledger of `infer --watch`, beside its output: the job at work, what was sent to it, what of that is in the output.

So each file is taken once, and each result written once, whatever ends in between.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.jobs.inputs import File
from clusteradm.node.spec.watching.record import Record

_TABLE = """CREATE TABLE IF NOT EXISTS stored
(batch INTEGER PRIMARY KEY, place INTEGER, size INTEGER, first INTEGER) WITHOUT ROWID"""
_KEPT = 10_000  # batches that are known to be stored: a head that has lost power may offer its last ones again


@dataclass(frozen=True)
class Stored:
    """The results of a batch in the output: from the byte `place` on, or in the file of this number, `size` bytes,
    numbered from `first` on. A place below 0: they are not wanted."""

    place: int
    size: int
    first: int


class Ledger(Record):
    """The ledger, for one process. Raises UsageError where it is none, or another process has it."""

    def __init__(self, output: Path) -> None:
        path = output.with_name(f"{output.name}.watch")
        where = regular.readable(path)
        try:
            super().__init__(str(path))
            self._base.execute(_TABLE)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise UsageError("another command watches with this output", where=where) from None
            raise UsageError(f"cannot keep the record of what is taken: {error}", where=where) from None
        except sqlite3.DatabaseError as error:
            what = f"no record of infer --watch: {error}"
            raise UsageError(what, where=where, next_step="name another --output, or remove that file") from None

    @property
    def job(self) -> str | None:
        """The job at work; None before the first, and where that came to its end."""
        return self.get("job") or None

    @property
    def what(self) -> str | None:
        """What that job was asked for."""
        return self.get("what")

    @property
    def lines(self) -> int:
        """The number of results so far."""
        return int(self.get("lines") or 0)

    def begin(self, job: str, what: str) -> None:
        """Note a new job; all that its predecessor was given is done with, or dropped."""
        with self._base:
            self._base.execute("BEGIN")
            self._base.execute("DELETE FROM stored")
            self._base.execute("UPDATE files SET batch = 0")
            for key, value in (("job", job), ("what", what), ("batch", "0"), ("given", "0")):
                self._base.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))

    @property
    def given(self) -> int:
        """The last batch that the job has for certain."""
        return int(self.get("given") or 0)

    def give(self, batch: int) -> None:
        """Note that the job has a batch."""
        self.put("given", str(batch))

    def void(self, batch: int) -> None:
        """Forget a batch of which it is not known whether the job has it: its files are taken again, as another batch,
        and results of this one are none."""
        with self._base:
            self._base.execute("BEGIN")
            self._base.execute("DELETE FROM files WHERE batch = ?", (batch,))
            self._base.execute("INSERT OR IGNORE INTO stored VALUES (?, -1, 0, 0)", (batch,))

    def end(self) -> None:
        """Note that the job is at its end, and forget what was given to it without a result."""
        left = [batch for batch in self.sent() if self.stored(batch) is None]
        self.drop(left)
        self.put("job", "")

    def sent(self) -> list[int]:
        """The batches of files that the job was given, or was to be given."""
        found = self._base.execute("SELECT DISTINCT batch FROM files WHERE batch > 0 ORDER BY batch")
        return [int(row[0]) for row in found]

    def files(self, batch: int) -> dict[str, File]:
        """The files of a batch by the names that the results have, as they were when they were taken, and are not taken
        again since. Their paths are below the folder that is watched."""
        rows = self._base.execute("SELECT name, size, changed FROM files WHERE batch = ?", (batch,))
        paths = ((Path(os.fsdecode(name)), size, changed) for name, size, changed in rows)
        files = (File(regular.readable(path), path, size, changed) for path, size, changed in paths)
        return {file.name: file for file in files}

    def stored(self, batch: int) -> Stored | None:
        """Where the results of a batch are in the output; None where they are not."""
        found = self._base.execute("SELECT place, size, first FROM stored WHERE batch = ?", (batch,)).fetchone()
        return Stored(*found) if found else None

    def last(self) -> tuple[int, Stored] | None:
        """The batch whose results were written last, or were about to be."""
        query = "SELECT * FROM stored WHERE place >= 0 ORDER BY first DESC, size DESC LIMIT 1"
        found = self._base.execute(query).fetchone()
        return (found[0], Stored(*found[1:])) if found else None

    def take_back(self, batch: int, one: Stored) -> None:
        """Forget results that were about to be written, and are not in the output."""
        with self._base:
            self._base.execute("BEGIN")
            self._base.execute("DELETE FROM stored WHERE batch = ?", (batch,))
            self._base.execute("INSERT OR REPLACE INTO state VALUES ('lines', ?)", (str(one.first),))

    def store(self, batch: int, one: Stored, count: int) -> None:
        """Note that `count` results of a batch are about to be written; on the disk when it returns."""
        with self._base:
            self._base.execute("BEGIN")
            self._base.execute("INSERT INTO stored VALUES (?, ?, ?, ?)", (batch, one.place, one.size, one.first))
            lines = str(one.first + count)
            self._base.execute("INSERT OR REPLACE INTO state VALUES ('lines', ?)", (lines,))
            self._base.execute("DELETE FROM stored WHERE batch <= ?", (batch - _KEPT,))
