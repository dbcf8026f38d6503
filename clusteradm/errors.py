"""The errors that a user is meant to read. Each says what happened, where, and what to do next.

Anything else that reaches the top of the program is a defect of clusteradm and exits 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ClusteradmError(Exception):
    """Base of every expected error; `exit_code` is the process's exit status (DESIGN section 5)."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.next_step}" if self.next_step else text


class UsageError(ClusteradmError):
    """A bad argument, or a request that makes no sense."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One defect of an input file. `line` counts from 1; 0 where no line can be named."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


class InputErrors(UsageError):
    """Every defect of an input file at once, found before any connection was made."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class HostFailed(ClusteradmError):
    """Work on a host failed (the host answers)."""

    exit_code = 3


class HostUnreachable(ClusteradmError):
    """A host does not answer, refuses the login, or shows another host key."""

    exit_code = 4
