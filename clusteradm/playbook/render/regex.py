"""Regular expressions of a playbook on texts of any kind, in bounded time.

Python cannot interrupt a search. A pattern that may take long on its text (repeats within repeats, or several repeats
on a long text) therefore runs in a process of its own, which is ended after SECONDS of
processor time.
"""

from __future__ import annotations

import functools
import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jinja2

from clusteradm.playbook.render import limits

try:
    from re import _parser as _sre  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_parse as _sre

SECONDS = 5.0  # of processor time
_WAIT_SECONDS = 60.0  # for the process, on a machine that has others to run
# Steps of a search that take far less than a second.
_FEW = 2_000_000
_STEPS_OF_A_CHARACTER = 20
_LONGEST = 10_000
# Searches of one rendering that may take SECONDS each.
_MOST_SLOW = 4

# Run by `python -I -S`: answers one search in JSON.
_PROGRAM = """
import json, re, resource, signal, sys, time
signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))  # of processor time; a search of C code ends, too
try:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
except (OSError, ValueError):
    pass  # macOS has no such limit
how, pattern, flags, text, rest = json.load(sys.stdin)
regex = re.compile(pattern, flags)
try:
    if how == "sub":
        found = regex.sub(rest[0], text, count=rest[1])
    elif how == "findall":
        found = regex.findall(text)
    else:
        match = getattr(regex, how)(text)
        found = match and [match.group(), *(match.group(group) for group in rest)]
    json.dump({"found": found, "seconds": time.process_time()}, sys.stdout)
except MemoryError:
    json.dump({"error": "it takes too much memory"}, sys.stdout)
except (re.error, IndexError) as error:
    json.dump({"error": str(error)}, sys.stdout)
"""


def sub(pattern: str, flags: int, text: str, replacement: str, count: int) -> str:
    """re.sub. Raises ValueError for a wrong pattern, TemplateRuntimeError if it does not end."""
    result: str = _run(
        "sub", pattern, flags, text, [replacement, count], lambda regex: regex.sub(replacement, text, count)
    )
    return result


def findall(pattern: str, flags: int, text: str) -> list[Any]:
    """re.findall, with the same errors as sub. Groups of a match are a list."""
    found = _run("findall", pattern, flags, text, [], lambda regex: regex.findall(text))
    return [list(one) if isinstance(one, tuple) else one for one in found]


def groups(how: str, pattern: str, flags: int, text: str, wanted: Iterable[str | int] = ()) -> list[Any] | None:
    """The match of `search` or `match` and the wanted groups of it; None without a match. Errors: as of sub."""
    names = list(wanted)

    def direct(regex: re.Pattern[str]) -> list[Any] | None:
        match = getattr(regex, how)(text)
        return match and [match.group(), *(match.group(name) for name in names)]

    found: list[Any] | None = _run(how, pattern, flags, text, names, direct)
    return found


def _run(
    how: str, pattern: str, flags: int, text: str, rest: list[Any], direct: Callable[[re.Pattern[str]], Any]
) -> Any:
    pattern = str(pattern)
    if len(pattern) > _LONGEST:
        raise ValueError(f"a regular expression of {len(pattern)} characters: there may be {_LONGEST}")
    limits.charge(len(text))
    try:
        regex = re.compile(pattern, flags)
        steps = _steps(pattern, flags, len(text)) * (len(text) + 1)
        if steps < _FEW:
            limits.charge(int(steps) // _STEPS_OF_A_CHARACTER)
            return direct(regex)
    except (re.error, IndexError) as error:
        raise ValueError(f"the regular expression {pattern!r}: {error}") from None
    except (RecursionError, OverflowError):
        raise ValueError(
            f"the regular expression {pattern[:60]!r}: nested too deeply, or its repeats too large"
        ) from None
    return _apart(how, pattern, flags, text, rest)


def _apart(how: str, pattern: str, flags: int, text: str, rest: list[Any]) -> Any:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(SECONDS)],
            input=json.dumps([how, pattern, flags, text, rest]),
            capture_output=True,
            text=True,
            timeout=_WAIT_SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C ends the run, not one search of it
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode == -signal.SIGPROF:
        raise jinja2.TemplateRuntimeError(
            f"the regular expression {pattern!r} found no end in {SECONDS:g} s on a text of {len(text)} characters;"
            " write it without repeats within repeats"
        )
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": "the search failed"}
    limits.charge(int(limits.BUDGET * answer.get("seconds", SECONDS) / (SECONDS * _MOST_SLOW)))
    if "error" in answer:
        raise ValueError(f"the regular expression {pattern!r}: {answer['error']}")
    return answer["found"]


@functools.lru_cache(maxsize=1024)
def _parsed(pattern: str, flags: int) -> Any:
    return _sre.parse(pattern, flags)


def _steps(pattern: str, flags: int, length: int) -> float:
    """Upper bound of the ways to match the pattern at one place of a text of that length."""
    return _ways(_parsed(pattern, flags), length)


def _ways(parsed: Any, length: int) -> float:
    ways = 1.0
    for name, argument in parsed:
        kind = str(name)
        if kind.endswith("_REPEAT"):
            least, most, inner = argument
            within = _ways(inner, length)
            if most > 1 and within > 1:
                return math.inf
            ways *= within * (max(min(most, length) - least, 0) + 1)
            ways *= max(1, min(least, length)) if most > 1 else 1
        elif kind == "BRANCH":
            ways *= sum(_ways(branch, length) for branch in argument[1])
        elif kind == "SUBPATTERN":
            ways *= _ways(argument[-1], length)
        elif kind == "ATOMIC_GROUP":
            ways *= _ways(argument, length)
        elif kind in ("ASSERT", "ASSERT_NOT"):
            ways *= _ways(argument[1], length)
        elif kind == "GROUPREF_EXISTS":
            ways *= sum(_ways(branch, length) for branch in argument[1:] if branch is not None)
    return ways
