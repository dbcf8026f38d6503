"""Output of `infer --watch`: the results of each batch are appended once, and are on the disk before the head removes
its own; then its pictures are drawn, if that is asked for.

What a command that was killed had begun to append is taken back by the next one, as the head still has it. A batch that
is in the output and is offered again is not appended again; its pictures have the same numbers, and so the same names.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from clusteradm.jobs import annotate, formats
from clusteradm.jobs.inputs import SUFFIXES, File
from clusteradm.jobs.job import Jobs
from clusteradm.jobs.ledger import Ledger, Stored
from clusteradm.jobs.lines import Lines
from clusteradm.jobs.parts import Parts
from clusteradm.jobs.results import Results
from clusteradm.jobs.similar import Query, Similar, order
from clusteradm.node.spec.wire.result import Result

MOST_SIMILAR = 10  # inputs that are remembered
_MOST_SAID = 3  # pictures of a batch that are not drawn
_CHANGED = "it has changed since, or is gone"


@dataclass(frozen=True)
class Drawing:
    """Where annotated pictures go, and the folder that is watched."""

    into: Path
    watched: Path


class Appending:
    """One output: a file, or for formats.PARQUET a folder. `images`, `errors`: results that this process has written;
    `drawn`: pictures; `similar`: the inputs of these that are the most similar to the query."""

    def __init__(
        self,
        output: Path,
        form: str,
        task: str,
        ledger: Ledger,
        say: Callable[[str], None] = lambda text: None,
        drawing: Drawing | None = None,
        query: Query | None = None,
    ) -> None:
        self._above, self._ledger, self._say, self._drawing, self._query = output.parent, ledger, say, drawing, query
        self._sheet: Lines | Parts
        if form == formats.PARQUET:
            self._sheet = Parts(output, task, query, fresh=not ledger.lines)
        else:
            self._sheet = Lines(output, form, task, query)
        self._whole = False  # all that was begun is known to be written
        self._begun: tuple[int, Sequence[Result]] = (0, ())  # a batch, by this process
        self.images = self.errors = self.drawn = 0
        self.similar: list[Similar] = []

    def settle(self) -> None:
        """Take back what was begun and is not whole. Raises OSError."""
        if self._whole:
            return
        last = self._ledger.last()
        if last is not None and not self._sheet.settle(last[1]):
            self._ledger.take_back(*last)
        elif last is not None and last[0] == self._begun[0]:
            self._count(self._begun[1])
        self._begun, self._whole = (0, ()), True

    def add(self, jobs: Jobs, job: str, batch: int, data: BinaryIO) -> None:
        """Append the results of a batch, unless they are there. Raises HostFailed where they are damaged, OSError."""
        self.settle()
        results = Results(job, jobs.head, data)
        before = self._ledger.stored(batch)
        if before is not None and before.place < 0:
            return

        def fetch(name: str, into: BinaryIO) -> None:
            jobs.fetch(job, name, into)

        first = before.first if before else self._ledger.lines
        numbered = [replace(result, index=number) for number, result in enumerate(results.lines(), first)]
        if before is None:
            results.save_tensors(self._above, fetch)
            place = self._sheet.end()
            body = self._sheet.body(results, numbered, place) if numbered else b""
            self._begun, self._whole = (batch, numbered), False
            self._ledger.store(batch, Stored(place, len(body), first), len(numbered))
            if body:
                self._sheet.put(body, place)
            self.settle()
        if self._drawing is not None:
            self._draw(self._drawing, numbered, batch, fetch)

    def _count(self, results: Sequence[Result]) -> None:
        """Count results that are in the output; remember which inputs are the most similar, and say it of a new first
        one."""
        self.images += len(results)
        self.errors += sum(result.error is not None for result in results)
        if self._query is None:
            return
        before = self.similar[:1]
        found = [*self.similar, *map(self._query.of, results)]
        self.similar = heapq.nsmallest(MOST_SIMILAR, found, key=order)
        for best in self.similar[:1]:
            if [best] != before and best.similarity is not None:
                self._say(f"the most similar so far: {best.input}, {best.similarity:.4f}")

    def _draw(self, drawing: Drawing, results: Sequence[Result], batch: int, fetch: annotate.Fetch) -> None:
        taken = self._ledger.files(batch)
        # One that was written again since is of another batch.
        pictures = {
            result.input: taken.get(result.input, File(result.input, Path(), 0, error=_CHANGED))
            for result in results
            if result.input.lower().endswith(SUFFIXES)
        }
        for name, file in pictures.items():
            if file.error is None:
                pictures[name] = replace(file, path=drawing.watched / file.path)
        failed = []
        for result, why in annotate.draw(iter(results), pictures, drawing.into, fetch):
            self.drawn += why is None
            if why is not None:
                failed.append(f"{result.input}: {why}")
        for text in failed[:_MOST_SAID]:
            self._say(f"warning: not drawn: {text}")
        if len(failed) > _MOST_SAID:
            self._say(f"warning: not drawn: {len(failed) - _MOST_SAID} more")
