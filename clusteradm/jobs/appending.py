"""Output of `infer --watch`: results are appended in whole lines, each batch once, and on the disk before the head
removes its own."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from clusteradm.jobs import formats
from clusteradm.jobs.job import Jobs
from clusteradm.jobs.ledger import Ledger, Stored
from clusteradm.jobs.results import Results
from clusteradm.node.spec.wire.result import Result


class Appending:
    """One output file. `form`: formats.JSONL or CSV. `images`, `errors`: results that this process has written."""

    def __init__(self, output: Path, form: str, task: str, ledger: Ledger) -> None:
        self._output, self._form, self._task, self._ledger = output, form, task, ledger
        self.images = self.errors = 0

    def add(self, jobs: Jobs, job: str, batch: int, data: BinaryIO) -> None:
        """Append the results of a batch, unless they are there. Raises HostFailed where they are damaged, OSError."""
        results = Results(job, jobs.head, data)
        before, first = self._ledger.stored(batch), self._ledger.lines
        if before is not None and before.place < 0:
            return
        if before is None:
            results.save_tensors(self._output.parent, lambda name, file: jobs.fetch(job, name, file))
        with self._output.open("ab") as file:
            end = file.tell()
            text, count, errors = self._lines(results, before.first if before else first, at_start=not end)
            if before is None:
                self._ledger.store(batch, Stored(end, len(text), first), count)
                self.images, self.errors = self.images + count, self.errors + errors
                left = text
            else:
                # A command that has ended since was about to write them, and may have written a part.
                written = min(max(0, end - before.place), before.size)
                left = text[written:] if before.place + written == end else b""
            file.write(left)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self, results: Results, first: int, *, at_start: bool) -> tuple[bytes, int, int]:
        """The results in the output's format, numbered from `first` on; their number, and that of errors."""
        errors = len(results.failures(1 << 60))
        text = io.BytesIO()
        if self._form == formats.JSONL:
            count = 0
            for count, document in enumerate(results.documents(), 1):
                document["index"] = first + count - 1
                text.write(json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            return text.getvalue(), count, errors
        numbered = [replace(result, index=first + number) for number, result in enumerate(results.lines())]

        def lines() -> Iterator[Result]:
            return iter(numbered)

        formats.write(self._form, self._task, lines, text)
        data = text.getvalue()
        return data if at_start else data[data.index(b"\n") + 1 :], len(numbered), errors
