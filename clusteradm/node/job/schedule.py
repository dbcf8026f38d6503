"""Schedule of a job's inputs over its ranks, without MPI or a clock.

Workers pull. Each has two chunks, one in work and one to read and decode meanwhile. A chunk takes about 400 ms of its
worker's measured time, and no less than LEAST inputs, for each chunk costs three processes a wake-up or more. Near the
end no chunk is more than a third of the worker's share of what is left, by its pace, so that all end together, or than
20 ms; and after its first a worker gets none that the faster ones would be done with before it. A fixed split over 16
TPUs of which some are slow reaches 0.02 to 0.3 of the sum of their rates (measured).
"""

from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

from clusteradm.node.job.numbers import Numbers, Pending

CREDITS = 2
CHUNK_SECONDS = 0.4
LEAST = 4  # inputs
SHORTEST_SECONDS = 0.02  # of a chunk near the end: the next takes as long to come
FIRST_CHUNK = 4  # inputs, before a worker's pace is known
LARGEST_CHUNK = 512
MOST_NUMBERS = 400000  # in the results of a chunk: some 8 MiB of text, which rank 0 reads at once
_MOST_LATE = 2  # ranks that are late with the same input, or were lost by it


class Chunk(NamedTuple):
    """Inputs that one rank works on."""

    number: int
    rank: int
    inputs: List[int]


class Schedule:
    """State of one attempt's inputs: pending, in flight, done."""

    def __init__(self, todo: Iterable[int], suspects: Sequence[int] = (), batch: int = 1, least: int = LEAST) -> None:
        """`suspects`: inputs that a rank of an earlier attempt may have been lost by; `batch`: how many inputs the
        model takes at once, of which a rank gets whole ones, as one that is half empty takes it as long; `least`:
        inputs of a chunk, while there are enough."""
        self._batch, self._least = batch, least
        self._todo = Pending(todo, frozenset(suspects))
        self._missing = Numbers(todo)
        self._out: Dict[int, Chunk] = {}
        self._pace: Dict[int, Optional[float]] = {}  # rank -> seconds an input
        self._begun: Set[int] = set()  # ranks that have had a chunk
        self._measured: Set[int] = set()  # ranks whose pace is one of chunks
        self._refused: Set[int] = set()  # ranks that got none, as the others were faster
        self._number = 0
        self._most: Dict[int, int] = {}  # rank -> inputs of a chunk
        self._taken_back: Dict[int, Chunk] = {}  # from ranks that were lost, which may deliver them yet
        self._late: Dict[int, Set[int]] = {}  # input -> ranks that were passed over with it
        self._suspects: Set[int] = set(suspects)  # inputs that a rank may have been lost by

    def add(self, more: Sequence[int]) -> None:
        """Add inputs that have come since."""
        self._todo.put_last(more)
        self._missing |= set(more)

    @property
    def finished(self) -> bool:
        """Whether every input has a result."""
        return not self._missing

    @property
    def at_work(self) -> bool:
        """Whether a rank has a chunk."""
        return bool(self._out)

    @property
    def suspects(self) -> List[int]:
        """Inputs that a rank may have been lost by."""
        return sorted(self._suspects)

    @property
    def ranks(self) -> List[int]:
        """The ranks that have joined and are not lost."""
        return sorted(self._pace)

    @property
    def kept_waiting(self) -> List[int]:
        """The ranks that got nothing when they were asked last, as faster ones would be done before them: with what
        becomes of those, that may change."""
        return sorted(self._refused & self._pace.keys())

    def join(self, rank: int, pace: Optional[float] = None, numbers: int = 0) -> None:
        """Add a rank that is ready, or one again that was late or lost. `pace`: seconds that an input is likely to
        take it; `numbers`: that a result has, about.

        What it was given before it still works on: that is its own again, where no other rank has it yet.
        """
        self._pace.setdefault(rank, pace)
        if numbers > 0:
            self._most[rank] = max(1, min(LARGEST_CHUNK, MOST_NUMBERS // numbers))
        for chunk in [chunk for chunk in self._taken_back.values() if chunk.rank == rank]:
            self._out[chunk.number] = self._taken_back.pop(chunk.number)
            for index in chunk.inputs:
                self._late.get(index, set()).discard(rank)
        # To be given an input twice would be more than a rank can tell apart.
        mine = self._held(rank)
        if mine:
            self._todo.drop(mine)

    def take(self, rank: int) -> Optional[Chunk]:
        """The next chunk for this rank; None where it has CREDITS chunks, or nothing is left for it."""
        while self._todo and self._todo.first not in self._missing:  # its first rank has delivered it after all
            self._todo.take()
        if rank not in self._pace or not self._todo:
            return None
        if sum(chunk.rank == rank for chunk in self._out.values()) >= CREDITS:
            return None
        size = self._size(rank)
        if not size:
            self._refused.add(rank)
            return None
        self._refused.discard(rank)
        self._begun.add(rank)
        self._number += 1
        chunk = Chunk(self._number, rank, self._next(size))
        self._out[chunk.number] = chunk
        return chunk

    def held(self) -> Dict[int, int]:
        """How many inputs each rank has, of those that have any."""
        found: Dict[int, int] = {}
        for chunk in self._out.values():
            found[chunk.rank] = found.get(chunk.rank, 0) + len(chunk.inputs)
        return found

    def seconds(self, chunk: Chunk) -> float:
        """How long a chunk is likely to take its rank; 0 where that was not measured yet."""
        return (self._pace.get(chunk.rank) or 0.0) * len(chunk.inputs) if chunk.rank in self._measured else 0.0

    def busy(self, rank: int) -> bool:
        """Whether this rank has a chunk."""
        return any(chunk.rank == rank for chunk in self._out.values())

    def inputs(self, rank: int, number: int) -> Optional[List[int]]:
        """The inputs of a chunk that this rank has, or had when it was lost; None where it never had it."""
        chunk = self._out.get(number) or self._taken_back.get(number)
        return chunk.inputs if chunk is not None and chunk.rank == rank else None

    def finish(self, number: int, seconds: float, answered: Optional[int] = None) -> List[int]:
        """Take a chunk back after `seconds` of its rank's work; returns those of its inputs that had no result yet.

        Of a chunk that was given to other ranks meanwhile, that is what they have not delivered. `answered`: on how
        many of its inputs the model was run, all if not said.
        """
        chunk = self._out.pop(number, None) or self._taken_back.pop(number, None)
        if chunk is None:
            return []
        fresh = [index for index in chunk.inputs if index in self._missing]
        self._missing -= set(fresh)
        # Inputs that cannot be used take no time, and those after them do.
        worked = len(chunk.inputs) if answered is None else answered
        if chunk.rank in self._pace and worked:
            pace = seconds / worked
            # Not with what it said itself: one inference, while others loaded the model beside it.
            before = self._pace[chunk.rank] if chunk.rank in self._measured else None
            self._pace[chunk.rank] = pace if before is None else (before + pace) / 2
            self._measured.add(chunk.rank)
        return fresh

    def pass_over(self, rank: int) -> None:
        """Give the chunks of a rank that is late to one other rank. It may deliver them yet, and joins again then.

        Of an input with which a second rank is late no third is to be lost: it waits for what becomes of these two.
        """
        self._pace.pop(rank, None)
        left = self._leave(rank)
        held = self._held()
        for chunk in left:
            for index in reversed([index for index in chunk.inputs if index in self._missing]):
                late = self._late.setdefault(index, set())
                late.add(rank)
                if len(late) + (index in self._suspects) < _MOST_LATE and not (index in held or index in self._todo):
                    self._todo.put_first(index)

    def lose(self, rank: int, suspects: Sequence[int] = ()) -> List[int]:
        """Remove a rank; its chunks are the next that other ranks get.

        `suspects`: inputs of these by which it may have been lost. Each is given to one other rank, last and alone.
        Returns those by which a second one was lost: they are given to none.
        """
        self._pace.pop(rank, None)
        self._begun.discard(rank)
        passed = [chunk for chunk in self._taken_back.values() if chunk.rank == rank]
        had = [index for chunk in self._leave(rank) for index in reversed(chunk.inputs)]
        for index in (index for chunk in passed for index in chunk.inputs):
            self._late.get(index, set()).discard(rank)
        elsewhere = self._elsewhere()
        had += [index for chunk in passed for index in reversed(chunk.inputs)]
        spent: List[int] = []
        again: List[int] = []
        for index in dict.fromkeys(had):
            if index not in self._missing:
                continue
            if index in suspects:
                (spent if index in self._suspects else again).append(index)
            elif index not in elsewhere and index not in self._todo:
                self._todo.put_first(index)
        self._todo.put_last(index for index in reversed(again) if index not in elsewhere and index not in self._todo)
        self._suspects.update(again)
        self._missing -= set(spent)
        return sorted(spent)

    def forget(self, rank: int) -> None:
        """Expect nothing more of what a rank had when it was lost: it begins anew."""
        self._taken_back = {number: chunk for number, chunk in self._taken_back.items() if chunk.rank != rank}

    def _leave(self, rank: int) -> List[Chunk]:
        """Take the rank's chunks from it, the last first."""
        chunks = sorted((chunk for chunk in self._out.values() if chunk.rank == rank), reverse=True)
        for chunk in chunks:
            del self._out[chunk.number]
            self._taken_back[chunk.number] = chunk
        return chunks

    def _elsewhere(self) -> Set[int]:
        """Inputs that a rank has, or that one is late with."""
        return self._held().union(index for index, ranks in self._late.items() if ranks)

    def _held(self, rank: Optional[int] = None) -> Set[int]:
        """Inputs that a rank, or this one, has."""
        chunks = [chunk for chunk in self._out.values() if rank in (None, chunk.rank)]
        return set().union(*(chunk.inputs for chunk in chunks))

    def _next(self, most: int) -> List[int]:
        """Take inputs from the pending ones, up to `most`: a suspect alone."""
        # None of these is a suspect, nor was given to a rank: all are missing.
        taken = self._todo.take_between(most)
        if taken:
            return taken
        taken = [self._todo.take()]
        while len(taken) < most and self._todo and self._suspects.isdisjoint((taken[0], self._todo.first)):
            index = self._todo.take()
            if index in self._missing:
                taken.append(index)
        return taken

    def _size(self, rank: int) -> int:
        """Inputs of the next chunk of this rank; 0 where the others are better to have them."""
        pace, most = self._pace[rank], self._most.get(rank, LARGEST_CHUNK)
        known = [seconds for seconds in self._pace.values() if seconds]
        if not pace or not known:  # nothing is known of it
            share = len(self._todo) // (2 * len(self._pace))
            return self._whole(min(FIRST_CHUNK if pace is None else LARGEST_CHUNK, share, most))
        # Of a rank that has delivered nothing yet, as of the average one.
        rate = sum(1 / seconds for seconds in known) * len(self._pace) / len(known)
        # Not before its first chunk: what it says may be wrong, and is then never measured.
        if pace > 2 * min(known) and rank in self._begun:
            waiting = sum(len(chunk.inputs) for chunk in self._out.values() if chunk.rank == rank)
            if pace * (waiting + 1) > len(self._missing) / rate:
                return 0
        left = len(self._todo) / rate
        share = int(max(left / 3, min(left / 2, SHORTEST_SECONDS)) / pace)
        return self._whole(min(max(self._least, int(CHUNK_SECONDS / pace)), share, most))

    def _whole(self, size: int) -> int:
        """So many inputs, one at least, filled up to whole batches."""
        return -(-max(1, size) // self._batch) * self._batch
