"""Schedule of a job's inputs over its ranks, without MPI or a clock.

Workers pull. Each has two chunks, one in work and one to read and decode meanwhile. A chunk takes about 50 ms of its
worker's measured time, and no less than LEAST inputs, for each chunk costs rank 0 and the network as much. Near the end
no chunk is more than half of the worker's share of what is left, by its pace, so that all end together; and after its
first a worker gets none that the faster ones would be done with before it. A fixed split over 16 TPUs of which some
are slow reaches 0.02 to 0.3 of the sum of their rates (measured).
"""

from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence, Set

CREDITS = 2
CHUNK_SECONDS = 0.05
LEAST = 4  # inputs
FIRST_CHUNK = 4  # inputs, before a worker's pace is known
LARGEST_CHUNK = 512


class Chunk(NamedTuple):
    """Inputs that one rank works on."""

    number: int
    rank: int
    inputs: List[int]


class Schedule:
    """State of one attempt's inputs: pending, in flight, done."""

    def __init__(self, todo: Sequence[int], suspects: Sequence[int] = ()) -> None:
        """`suspects`: inputs that a rank of an earlier attempt may have been lost by."""
        self._todo: Deque[int] = deque(sorted(todo, key=frozenset(suspects).__contains__))
        self._missing: Set[int] = set(todo)
        self._out: Dict[int, Chunk] = {}
        self._pace: Dict[int, Optional[float]] = {}  # rank -> seconds an input
        self._begun: Set[int] = set()  # ranks that have had a chunk
        self._number = 0
        self._taken_back: Dict[int, int] = {}  # chunk -> the rank that had it when it was lost
        self._suspects: Set[int] = set(suspects)  # inputs that a rank may have been lost by

    @property
    def finished(self) -> bool:
        """Whether every input has a result."""
        return not self._missing

    @property
    def suspects(self) -> List[int]:
        """Inputs that a rank may have been lost by."""
        return sorted(self._suspects)

    @property
    def ranks(self) -> List[int]:
        """The ranks that have joined and are not lost."""
        return sorted(self._pace)

    def join(self, rank: int, pace: Optional[float] = None) -> None:
        """Add a rank that is ready. `pace`: seconds that an input is likely to take it."""
        self._pace.setdefault(rank, pace)

    def take(self, rank: int) -> Optional[Chunk]:
        """The next chunk for this rank; None where it has CREDITS chunks, or nothing is left for it."""
        if rank not in self._pace or not self._todo:
            return None
        if sum(chunk.rank == rank for chunk in self._out.values()) >= CREDITS:
            return None
        size = self._size(rank)
        if not size:
            return None
        self._begun.add(rank)
        self._number += 1
        chunk = Chunk(self._number, rank, self._next(size))
        self._out[chunk.number] = chunk
        return chunk

    def inputs(self, rank: int, number: int) -> Optional[List[int]]:
        """The inputs of a chunk that this rank has; none of one that was taken from it; None where it never had it."""
        chunk = self._out.get(number)
        if chunk is not None and chunk.rank == rank:
            return chunk.inputs
        return [] if self._taken_back.get(number) == rank else None

    def finish(self, number: int, seconds: float) -> List[int]:
        """Take a chunk back after `seconds` of its rank's work; returns those of its inputs that had no result yet.

        Of a chunk that was given to other ranks meanwhile, that is what they have not delivered.
        """
        chunk = self._out.pop(number, None)
        if chunk is None:
            return []
        fresh = [index for index in chunk.inputs if index in self._missing]
        self._missing.difference_update(fresh)
        if chunk.rank in self._pace and chunk.inputs:
            pace = seconds / len(chunk.inputs)
            before = self._pace[chunk.rank]
            self._pace[chunk.rank] = pace if before is None else (before + pace) / 2
        return fresh

    def lose(self, rank: int, suspects: Sequence[int] = ()) -> List[int]:
        """Remove a rank; its chunks are the next that other ranks get.

        `suspects`: inputs of these by which it may have been lost. Each is given to one other rank, last and alone.
        Returns those by which a second one was lost: they are given to none.
        """
        self._pace.pop(rank, None)
        self._begun.discard(rank)
        spent: List[int] = []
        for chunk in sorted((c for c in self._out.values() if c.rank == rank), reverse=True):
            del self._out[chunk.number]
            self._taken_back[chunk.number] = rank
            back = [index for index in chunk.inputs if index in self._missing]
            again = [index for index in back if index in suspects]
            spent += [index for index in again if index in self._suspects]
            self._todo.extend(index for index in again if index not in self._suspects)
            self._todo.extendleft(index for index in reversed(back) if index not in again)
            self._suspects.update(again)
        self._missing.difference_update(spent)
        return spent

    def _next(self, most: int) -> List[int]:
        """Take inputs from the pending ones, up to `most`: a suspect alone."""
        taken = [self._todo.popleft()]
        while len(taken) < most and self._suspects.isdisjoint((taken[0], self._todo[0])):
            taken.append(self._todo.popleft())
        return taken

    def _size(self, rank: int) -> int:
        """Inputs of the next chunk of this rank; 0 where the others are better to have them."""
        pace = self._pace[rank]
        known = [seconds for seconds in self._pace.values() if seconds]
        if not pace or not known:  # nothing is known of it
            share = len(self._todo) // (2 * len(self._pace))
            return max(1, min(FIRST_CHUNK if pace is None else LARGEST_CHUNK, share))
        # Of a rank that has delivered nothing yet, as of the average one.
        rate = sum(1 / seconds for seconds in known) * len(self._pace) / len(known)
        # Not before its first chunk: what it says may be wrong, and is then never measured.
        if pace > 2 * min(known) and rank in self._begun:
            waiting = sum(len(chunk.inputs) for chunk in self._out.values() if chunk.rank == rank)
            if pace * (waiting + 1) > len(self._missing) / rate:
                return 0
        share = int(len(self._todo) / (2 * rate * pace))
        return max(1, min(max(LEAST, int(CHUNK_SECONDS / pace)), share, LARGEST_CHUNK))
