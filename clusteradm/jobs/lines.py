"""Results that are appended to a file, in whole lines: JSON Lines, or CSV."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from clusteradm.jobs import formats
from clusteradm.jobs.ledger import Stored
from clusteradm.jobs.results import Results
from clusteradm.jobs.similar import Query
from clusteradm.node.spec.wire.result import Result


class Lines:
    """One such file. `form`: formats.JSONL or CSV; `query`: to which the results' similarity is written, too."""

    def __init__(self, path: Path, form: str, task: str, query: Query | None) -> None:
        self._path, self._form, self._task, self._query = path, form, task, query

    def end(self) -> int:
        """Where the next results go: the bytes that are there."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def body(self, results: Results, numbered: Sequence[Result], place: int) -> bytes:
        """The results of a batch that go there. `numbered`: the same with the numbers that they have in the output."""
        text = io.BytesIO()
        if self._form == formats.JSONL:
            for document, result in zip(results.documents(), numbered, strict=True):
                document["index"] = result.index
                if self._query is not None:
                    document["similarity"] = self._query.of(result).similarity
                text.write(json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            return text.getvalue()
        formats.write(self._form, self._task, lambda: numbered, text, self._query)
        data = text.getvalue()
        return data[data.index(b"\n") + 1 :] if place else data

    def put(self, body: bytes, place: int) -> None:
        """Write them there, which is the end."""
        with self._path.open("ab") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())

    def settle(self, last: Stored) -> bool:
        """Whether the results that were to be written last are there, or were, in a file that was taken away since.
        A part of them is removed."""
        if not last.place <= self.end() < last.place + last.size:
            return True
        if self.end():
            os.truncate(self._path, last.place)
        return False
