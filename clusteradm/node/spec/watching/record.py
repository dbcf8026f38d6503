"""Record of the files that were taken from a folder, in a file of SQLite, so that each is taken once, whatever ends."""

import os
import sqlite3
from typing import List, Optional, Sequence

from clusteradm.node.spec.watching.files import Found

_TABLES = """
CREATE TABLE IF NOT EXISTS files (name BLOB PRIMARY KEY, size INTEGER, changed INTEGER, batch INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batches ON files (batch);
"""
_AT_ONCE = 10000  # names that are looked at in one go


class Record:
    """The record, for one thread of one process. Every method raises sqlite3.Error where the file is no record, or
    another process has it."""

    def __init__(self, path: str) -> None:
        self._base = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        try:
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.strip().split("\n"):
                self._base.execute(statement)
            self._base.execute("COMMIT")
        except sqlite3.Error:
            self._base.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def known(self, name: str, size: int, changed: int) -> bool:
        """Whether the file was taken as it is now."""
        found = self._base.execute("SELECT size, changed FROM files WHERE name = ?", (os.fsencode(name),)).fetchone()
        return bool(found == (size, changed))

    def take(self, files: Sequence[Found], batch: int) -> None:
        """Note that files are taken, as a batch, the last one; on the disk when it returns."""
        rows = [(os.fsencode(file.name), file.size, file.changed, batch) for file in files]
        with self._base:
            self._base.execute("BEGIN")
            self._base.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
            self._base.execute("INSERT OR REPLACE INTO state VALUES ('batch', ?)", (str(batch),))

    @property
    def batch(self) -> int:
        """The number of the last batch."""
        return int(self.get("batch") or 0)

    def drop(self, batches: Sequence[int]) -> None:
        """Forget the files of batches that have come to nothing: they are to be taken again."""
        with self._base:
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM files WHERE batch = ?", [(batch,) for batch in batches])

    def renumber(self) -> None:
        """Begin with the numbers of batches anew: all files of the record are done with."""
        with self._base:
            self._base.execute("BEGIN")
            self._base.execute("UPDATE files SET batch = 0")
            self._base.execute("DELETE FROM state")

    def purge(self, top: str) -> None:
        """Forget the files that are no more below the folder; none where all are gone, as if a disk were not there."""
        gone: List[bytes] = []
        kept, last = False, b""
        while True:
            query = "SELECT name FROM files WHERE name > ? ORDER BY name LIMIT ?"
            names = [row[0] for row in self._base.execute(query, (last, _AT_ONCE))]
            if not names:
                break
            last = names[-1]
            for name in names:
                if os.path.lexists(os.path.join(os.fsencode(top), name)):
                    kept = True
                else:
                    gone.append(name)
        if kept and gone:
            with self._base:
                self._base.execute("BEGIN")
                self._base.executemany("DELETE FROM files WHERE name = ?", [(name,) for name in gone])

    def get(self, key: str) -> Optional[str]:
        """A value that was kept; None for none."""
        found = self._base.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def put(self, key: str, value: str) -> None:
        """Keep a value."""
        with self._base:
            self._base.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))
