"""Designs as a discrete simulation: processes that wait in turn for a processor, a link or a TPU, each at a cost."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

MINUTE, ENOUGH = 60.0, 0.9
INPUTS = {"a picture": 16384, "a tensor": 150528, "a check": 1}  # bytes of a request to the endpoint


class Server:
    """Something that `cores` users can have at a time; the others wait in order."""

    def __init__(self, cores: int = 1) -> None:
        self._free = [0.0] * cores
        self._asked = 0.0
        self.cores = cores

    def serve(self, now: float, seconds: float) -> float:
        """When a use that is asked for now has ended."""
        end = max(now, heapq.heappop(self._free)) + seconds
        heapq.heappush(self._free, end)
        self._asked += seconds
        return end

    def used(self, now: float) -> float:
        """Seconds of all its use so far."""
        return self._asked - sum(max(0.0, end - now) for end in self._free)


Process = Iterator[tuple[Server | None, float]]  # which server and for how long; None: time passes


class World:
    """Processes in the order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Process]] = []
        self._count = 0

    def start(self, process: Process, at: float = 0.0) -> None:
        """Go on with a process at a time."""
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, process))

    def run(self, until: float = float("inf")) -> float:
        """The time when the last process ended, or `until`."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, process = heapq.heappop(self._queue)
            step = next(process, None)
            if step is not None:
                server, seconds = step
                self.start(process, self.now + seconds if server is None else server.serve(self.now, seconds))
        return self.now if until == float("inf") else until


class Outcome(NamedTuple):
    """`value`: seconds, or inferences a second; `holds`: by MINUTE or ENOUGH; `shares`: use of each resource."""

    value: float
    holds: bool
    shares: dict[str, float]

    @property
    def busiest(self) -> str:
        """The resource that is used most."""
        return max(self.shares, key=lambda name: self.shares[name])


Costs = Mapping[str, float]


def _shares(servers: Mapping[str, Server], begin: float, seconds: float, before: Costs) -> dict[str, float]:
    """How far each is used, in the seconds after `begin`, when it had been used for `before`."""
    spent = {name: server.used(begin + seconds) - before.get(name, 0.0) for name, server in servers.items()}
    return {name: min(1.0, spent[name] / server.cores / seconds) for name, server in servers.items()}


def survey(cost: Costs, boards: int, forks: int, probes: bool) -> Outcome:
    """Every host over SSH, as fan_out does it: a bootstrap that changes nothing, or health's probes."""
    world, chance, admin = World(), random.Random(boards), Server(int(cost["cores of the admin machine"]))  # noqa: S311 - repeatable
    mine = cost["a host, both sides"] * cost["admin's share of that"]
    other = (cost["a host, both sides"] - mine) * cost["a board is slower by"]
    todo, held = iter(range(boards)), [0.0]

    def fork() -> Process:
        for _ in todo:
            begun = world.now
            yield admin, mine / 2
            yield None, (other + probes * cost["a host's probes"]) * chance.uniform(0.8, 1.2)
            yield admin, mine / 2
            held[0] += world.now - begun

    forks = min(forks, boards)
    for _ in range(forks):
        world.start(fork(), cost["start of a command"])
    seconds = world.run()
    # A fork is busy while its host is waited for, not while it waits for this machine's own processor.
    waited = min(held[0], boards * (other + probes * cost["a host's probes"]))
    shares = _shares({"processor of the admin machine": admin}, 0.0, seconds, {})
    shares["hosts at a time"] = min(1.0, waited / forks / seconds) if forks < boards else 0.0
    shares["open files"] = forks * cost["files a connection"] / cost["open files"]
    return Outcome(seconds, seconds <= MINUTE, shares)


def model(cost: Costs, boards: int) -> Outcome:
    """All boards read the model from the head at once, a megabyte at a time."""
    world, link = World(), Server()

    def board() -> Process:
        for _ in range(int(cost["a model"] / 1e6)):
            yield link, 1e6 / cost["a link"]

    for _ in range(boards):
        world.start(board())
    seconds = world.run()
    return Outcome(seconds, seconds <= MINUTE, _shares({"link of the head": link}, 0.0, seconds, {}))


def start(cost: Costs, boards: int, slower: float) -> Outcome:
    """mpirun's daemons over SSH: the head starts 64, and each of these up to 64 more (Open MPI's tree)."""
    world, head = World(), Server(int(cost["cores of the admin machine"]))
    login = cost["a host, both sides"] * cost["admin's share of that"]

    def daemon(children: int, there: Server, factor: float) -> Process:
        yield there, login * factor
        yield None, login * cost["a board is slower by"]
        own = Server(4)  # cores of a board
        for number in range(64):
            more = children // 64 + (number < children % 64)
            if more:
                world.start(daemon(more - 1, own, cost["a board is slower by"]), world.now)

    for number in range(min(64, boards)):
        world.start(daemon((boards - 1 - number) // 64, head, slower))
    seconds = world.run() + cost["mpirun on 4 hosts"]
    return Outcome(seconds, seconds <= MINUTE, _shares({"processor of the head": head}, 0.0, seconds, {}))


def _steady(
    boards: int, servers: dict[str, Server], ideal: float, fill: float, make: Callable[[World, list[int]], None]
) -> Outcome:
    """Inferences a second once the first queue, which takes `fill` seconds, has passed."""
    world, done = World(), [0]
    make(world, done)
    warm = world.run(2 * fill + 1)
    before, used = done[0], {name: server.used(warm) for name, server in servers.items()}
    # Long enough that the chunks which are under way at its ends count for little.
    seconds = world.run(warm + max(warm, 400 / boards)) - warm
    rate = (done[0] - before) / seconds
    return Outcome(rate, rate >= ENOUGH * boards * ideal, _shares(servers, warm, seconds, used))


def job(cost: Costs, boards: int, slower: float, input_bytes: float) -> Outcome:
    """A job: chunks from one dispatcher, inputs from the head over NFS. Two chunks a rank, one of them at work."""
    few, many = cost["schedule, a chunk, 100 ranks"], cost["schedule, a chunk, 1000 ranks"]
    # It looks through all ranks for each chunk: a line through what was measured.
    schedule = max(cost["schedule, a chunk, 16 ranks"], few + (many - few) / 900 * (boards - 100))
    size = int(cost["a chunk"] / cost["an inference"])
    message = cost["an MPI message"] * slower / 1e6
    give = schedule * slower / 2e6 + message
    take = give + size * cost["a result"] * slower / 1e6
    out, back = input_bytes * size / cost["a link"], cost["bytes of a result"] * size / cost["a link"]
    rank0, link, into = Server(), Server(), Server()
    chance = random.Random(boards)  # noqa: S311 - repeatable

    def make(world: World, done: list[int]) -> None:
        def credit(tpu: Server, pace: float) -> Process:
            while True:
                yield rank0, give
                yield link, out
                yield tpu, size * cost["an inference"] * pace
                yield into, back
                yield rank0, take
                done[0] += size

        def alive() -> Process:  # the signs of life, and what rank 0 does for each rank beside its chunks
            while True:
                own = message + cost["a second, of a rank"] * slower / 1e6
                yield rank0, (boards * own + cost["journal's fsync"]) / 10
                yield None, 0.1

        world.start(alive())
        for _ in range(boards):
            tpu, pace = Server(), chance.uniform(1, 1 + 2 * cost["a board's pace varies by"])
            for _ in range(2):
                world.start(credit(tpu, pace), chance.uniform(0, cost["a chunk"]))

    servers = {"processor of rank 0": rank0, "link of the head, to boards": link, "link of the head, from boards": into}
    ideal = 1 / cost["an inference"] / (1 + cost["a board's pace varies by"])
    return _steady(boards, servers, ideal, 2 * boards * max(give + take, out, back), make)


def endpoint(cost: Costs, boards: int, slower: float, kind: str) -> Outcome:
    """HAProxy before the boards, each with two requests at a time; every byte comes in and goes out of one link."""
    link, processor = Server(), Server(int(cost["cores of the admin machine"]))
    pass_on = cost[f"HAProxy, a request of {kind}"] * slower / 1e6
    carry, tpu_time = (INPUTS[kind] + 1024) / cost["a link"], cost["an inference"]
    users = int(min(2 * boards, cost["connections in HAProxy"]))

    def make(world: World, done: list[int]) -> None:
        def user(tpu: Server) -> Process:
            while True:
                yield link, carry
                yield processor, pass_on
                yield tpu, tpu_time
                done[0] += 1

        def checks() -> Process:
            while True:
                one = cost["HAProxy, a request of a check"] * slower / 1e6
                yield processor, boards / processor.cores * cost["checks of a board"] * one / 10
                yield None, 0.1

        for _ in range(processor.cores):
            world.start(checks())
        tpus = [Server() for _ in range(boards)]
        for number in range(users):
            world.start(user(tpus[number % boards]), tpu_time * number / users)

    servers = {"link of the head": link, "processor of the head": processor}
    found = _steady(boards, servers, 1 / tpu_time, users * max(carry, pass_on / processor.cores), make)
    return found._replace(shares={**found.shares, "connections": users / cost["connections in HAProxy"]})
