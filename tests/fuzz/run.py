"""Fuzz run of every reader: python -m tests.fuzz.run [TARGET ...], for FUZZ_SECONDS (600).

A child process per target and round mutates the target's seeds, the same way for the same FUZZ_SEED (1), and tells
before each input what it tries; what it dies of is a find, too. Finds are minimised and saved to FUZZ_FINDS (the
corpus), where the unit test of the corpus then fails until they are mended. Our own mutations, no library: the
readers are pure Python, in which a coverage-guided fuzzer needs a build of its own for each supported version.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.mutate import mutate, smaller
from tests.fuzz.targets import TARGETS, made_seeds

CORPUS = Path(__file__).parent / "corpus"
_CPU_SECONDS = 5.0  # for one input
_MEBIBYTES = 512  # beyond those of the start
_ROUND_SECONDS = 10.0
_WAIT_SECONDS = 60.0  # for an answer, beyond the CPU time: the machine may be busy
_CONTEXT = multiprocessing.get_context("fork")


def seeds(target: str) -> list[bytes]:
    """The target's seeds: of the repository and of the corpus."""
    return made_seeds(target) + [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


def failure(target: str, data: bytes) -> str | None:
    """How a child ends with this input: None if well, else the reason."""
    mine, other = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_child, args=(other, target, [data]))
    process.start()
    other.close()
    return _watch(mine, process, _WAIT_SECONDS)[1]


def _child(answer: Connection, target: str, inputs: list[bytes], seed: int = 0, seconds: float = 0.0) -> None:
    """Try the inputs; then mutations of the target's seeds for so many seconds."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    end = time.monotonic() + seconds
    chance = random.Random(seed)  # noqa: S311 - the same inputs every time
    known = seeds(target) if seconds else []
    while inputs or time.monotonic() < end:
        data = inputs.pop() if inputs else mutate(chance.choice(known), known, chance)
        answer.send(data)
        reason = _tried(target, data, used + (_MEBIBYTES << 20))
        if reason is not None:
            answer.send(reason)
            return
    answer.send(None)


def _tried(target: str, data: bytes, memory: int) -> str | None:
    """Why this input failed, within the limits of CPU time and memory; None if it did not."""
    before = time.process_time()
    limit = int(before + _CPU_SECONDS) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))
    reason = None
    try:
        TARGETS[target](data)
    except BaseException:
        reason = traceback.format_exc()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if reason is None and time.process_time() - before > _CPU_SECONDS:
        reason = f"it took {time.process_time() - before:.0f} CPU seconds"
    return reason


def _watch(
    answer: Connection, process: multiprocessing.process.BaseProcess, seconds: float
) -> tuple[bytes, str | None, int]:
    """(the last input, why it failed, the number of inputs) of a child."""
    data, count = b"", 0
    end = time.monotonic() + seconds
    reason: str | None = ""
    try:
        while True:
            if not answer.poll(max(0.0, end - time.monotonic())):
                reason = "it waited for something"
                break
            said = answer.recv()
            if not isinstance(said, bytes):
                reason = said
                break
            data, count = said, count + 1
    except EOFError:
        pass
    if process.is_alive():
        process.join(2)
        process.kill()
    process.join()
    if reason == "":
        reason = (
            f"it ended without an answer: exit status {process.exitcode} (-24: too much CPU time; -9, -11: a crash)"
        )
    return data, reason, count


def fuzz(target: str, seed: int, seconds: float) -> tuple[bytes, str | None, int]:
    """One round: as _watch."""
    mine, other = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_child, args=(other, target, [], seed, seconds))
    process.start()
    other.close()
    return _watch(mine, process, seconds + _WAIT_SECONDS)


def minimised(target: str, data: bytes, reason: str, seconds: float = 60.0) -> bytes:
    """The smallest input found that fails by the same kind of error."""
    end = time.monotonic() + seconds
    again = True
    while again:
        again = False
        for less in smaller(data):
            if time.monotonic() > end:
                return data
            found = failure(target, less)
            if found is not None and _last(found) == _last(reason):
                data, again = less, True
                break
    return data


def _last(reason: str) -> str:
    return reason.strip().splitlines()[-1].partition(":")[0]


def main() -> int:
    """Fuzz all targets, or those that are named; 1 where something was found."""
    names = sys.argv[1:] or list(TARGETS)
    total = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    finds = Path(os.environ.get("FUZZ_FINDS", CORPUS))
    end = time.monotonic() + total
    each = min(_ROUND_SECONDS, total / len(names))
    counts = dict.fromkeys(names, 0)
    found: dict[str, str] = {}
    while names and time.monotonic() < end:
        for name in list(names):
            data, reason, count = fuzz(name, seed, each)
            counts[name] += count
            if reason is None:
                continue
            names.remove(name)  # the same defect would be found again and again
            found[name] = reason
            data = minimised(name, data, reason)
            path = finds / name / hashlib.sha256(data).hexdigest()[:16]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"{name}: {path}\n{reason}", flush=True)
        seed += 1
    for name, count in counts.items():
        print(f"{name:12} {count:9,} inputs  {'FOUND: ' + _last(found[name]) if name in found else 'ok'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
