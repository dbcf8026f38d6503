"""Call of a function in a process of its own, which measures what it costs."""

from __future__ import annotations

import multiprocessing
import resource
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Result of a call, or its exception's text; CPU seconds; the most memory that it held beyond the start, in MiB."""

    result: Any
    error: str
    seconds: float
    mebibytes: float


def measured(call: Callable[..., Any], *arguments: Any) -> Cost:
    """The call, in a child that may take 60 CPU seconds and 4 GiB."""
    context = multiprocessing.get_context("fork")
    mine, other = context.Pipe()
    process = context.Process(target=_run, args=(other, call, arguments))
    process.start()
    other.close()
    try:
        cost: Cost = mine.recv()
    except EOFError:
        raise AssertionError("the child ended without an answer: too much time or memory") from None
    finally:
        process.join()
    return cost


def _run(answer: Connection, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    # A fork begins with its parent's peak: what is measured is the growth of the resident memory over the present one.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, started = _peak(), _seconds()
    result, error = None, ""
    try:
        result = call(*arguments)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}" if str(raised) else traceback.format_exc()
    answer.send(Cost(result, error, _seconds() - started, _peak() - before))


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024
