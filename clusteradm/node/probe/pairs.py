"""Latency and bandwidth between MPI ranks: `python3 -m clusteradm.node.probe.pairs` as each rank (probe/cluster.py).

Pair after pair sends 8 bytes to and fro, then mebibytes one way: each rank with the one after it in the ring, then each
with the second after it, and so on until that is all pairs, or, where those would be too many, with the first, second,
fourth ..., so that every host has as many links measured. All ranks go through the same list in the same order, and a
pair begins when the one before it has ended: its first rank then gets the results so far from the first rank of that
one, and neither waits for anything else. A rank that waits sleeps: MPI's own waiting takes a whole core, and on a board
with a job the figure would be one of the waiting. What ranks tell each other is JSON, not a pickle of mpi4py, which
another Python, or another mpi4py, on the other host cannot read.
"""

from __future__ import annotations

import json
import sys
import time

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import Any, Callable, List, Tuple

    # First rank, second rank, seconds one way, bytes per second.
    Row = Tuple[int, int, float, float]

# Messages per pair, and the bytes of a large one.
SMALL_MESSAGES, LARGE_MESSAGES, LARGE_BYTES = 50, 4, 1 << 20
# A pair takes 50 to 90 ms at a gigabit, and 0.4 s at 100 Mbit/s: what is not begun after so many seconds is left out.
MOST_PAIRS, SECONDS = 128, 12
_TURN, _PING, _END, _NAME = 1, 2, 3, 4
_NAP = 0.001


def turns(size: int) -> List[Tuple[int, int]]:
    """The pairs of ranks to measure, in order."""
    steps = list(range(1, size // 2 + 1))
    if size * (size - 1) // 2 > MOST_PAIRS:
        steps = [step for step in steps if not step & (step - 1)][: max(1, MOST_PAIRS // size)]
    return [(a, (a + step) % size) for step in steps for a in range(size if step * 2 < size else step)]


class Rank:
    """One rank of `world` (mpi4py's COMM_WORLD); `clock` in seconds, `nap` sleeps for so many."""

    def __init__(self, world: Any, clock: Callable[[], float], nap: Callable[[float], None]) -> None:
        self._world = world
        self._clock = clock
        self._nap = nap
        self._small, self._large, self._answer = bytearray(8), bytearray(LARGE_BYTES), bytearray(1)
        self._begun = 0.0

    def run(self, name: str, write: Callable[[str], None]) -> None:
        """Measure. Rank 0 writes one line, {"pairs": [[name, name, seconds one way, bytes per second], ...]}."""
        if self._world.rank:
            self._tell(0, _NAME, name)
        names = (
            [name] if self._world.rank else [name, *(self._hear(rank, _NAME) for rank in range(1, self._world.size))]
        )
        self._begun = self._clock()
        rows = self._measure_all()
        if self._world.rank:
            self._hear(0, _END)
            return
        write(json.dumps({"pairs": [[names[a], names[b], seconds, rate] for a, b, seconds, rate in rows]}) + "\n")
        for rank in range(1, self._world.size):
            self._tell(rank, _END, None)

    def _measure_all(self) -> List[Row]:
        """Take part in each turn that is this rank's. The results are those of all on rank 0 alone."""
        world, me = self._world, self._world.rank
        rows, before = [], 0  # type: List[Row], int
        # (0, 0): the results go to rank 0 in the end.
        for a, b in [*turns(world.size), (0, 0)]:
            if me == before != a:
                self._tell(a, _TURN, rows)
            if me == a != before:
                rows = self._hear(before, _TURN)
            if me == a != b:
                rows += self._measure(b)
            elif me == b != a:
                self._serve(a)
            before = a
        return rows

    def _measure(self, other: int) -> List[Row]:
        """As the first rank of a pair; nothing where the time for all is over."""
        world, late = self._world, self._clock() - self._begun > SECONDS
        self._small[0] = late
        world.Send(self._small, other, _PING)
        if late:
            return []
        world.Recv(self._small, other, _PING)
        start = self._clock()
        for _ in range(SMALL_MESSAGES):
            world.Send(self._small, other, _PING)
            world.Recv(self._small, other, _PING)
        middle = self._clock()
        for _ in range(LARGE_MESSAGES):
            world.Send(self._large, other, _PING)
        world.Recv(self._answer, other, _PING)
        end = self._clock()
        rate = LARGE_MESSAGES * len(self._large) / (end - middle)
        return [(world.rank, other, (middle - start) / SMALL_MESSAGES / 2, rate)]

    def _serve(self, other: int) -> None:
        """As the second rank of a pair. The first byte of the first message: whether the time for all is over."""
        world = self._world
        self._sleep_until(_PING, other)
        world.Recv(self._small, other, _PING)
        if self._small[0]:
            return
        world.Send(self._small, other, _PING)
        for _ in range(SMALL_MESSAGES):
            world.Recv(self._small, other, _PING)
            world.Send(self._small, other, _PING)
        for _ in range(LARGE_MESSAGES):
            world.Recv(self._large, other, _PING)
        world.Send(self._answer, other, _PING)

    def _tell(self, rank: int, tag: int, body: Any) -> None:
        """Send `body` as two messages: the number of its bytes, of eight, and those."""
        data = bytearray(json.dumps(body).encode())
        self._world.Send(bytearray(len(data).to_bytes(8, "big")), rank, tag)
        self._world.Send(data, rank, tag)

    def _hear(self, rank: int, tag: int) -> Any:
        """What that rank tells next."""
        self._sleep_until(tag, rank)
        size = bytearray(8)
        self._world.Recv(size, rank, tag)
        data = bytearray(int.from_bytes(size, "big"))
        self._world.Recv(data, rank, tag)
        return json.loads(data.decode())

    def _sleep_until(self, tag: int, source: int) -> None:
        while not self._world.Iprobe(source, tag):
            self._nap(_NAP)


def main() -> None:
    """The program."""
    from mpi4py import MPI

    def write(line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()

    with open("/etc/hostname") as file:
        name = file.read().strip()
    Rank(MPI.COMM_WORLD, time.perf_counter, time.sleep).run(name, write)


if __name__ == "__main__":
    main()
