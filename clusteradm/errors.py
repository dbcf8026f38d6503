"""The errors that a user is meant to read: what happened, where, and what to do next.

    ClusteradmError               1
      UsageError                  2   bad argument, or a request that cannot be done
        InputErrors               2   every defect of an input file
        NotADeb                   2   fetch.deb: a file that is no Debian package
        NotAModel                 2   models.tflite.inspect: a file that is no usable TFLite model
      HostFailed                  3   work on a host failed
        NodeError                 3   transport.node: the node program answered with an error
        NoPython                  3   transport.python: the host has no Python interpreter
      HostUnreachable             4   a host does not answer
        Silent                    4   transport.node: a connected host sent nothing in time
        Refused                   4   transport.errors: the host shows another key or refuses the login
          LoginRefused            4   transport.errors: it refuses this user and key
          WrongPassword           4   transport.password: it refuses this password
      TooManyOpenFiles            1   this process may open no more files
      FetchFailed                 1   fetch.errors: a file cannot be fetched
        WrongContent              1   fetch.errors: an address gives another file than the expected one
      ChildFailed                 1   models.child: a process of this machine that converts or computes crashed
      LabError                    1   lab.machine: this machine cannot run a lab

The number is the process's exit status. Any other exception is a defect of clusteradm: "internal error", exit status 1;
but for OutputFailed, and for BrokenPipeError where the reader of the output has gone.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass


class ClusteradmError(Exception):
    """Base of every expected error. `exit_code`: the exit status of a process that ends with it."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.next_step}" if self.next_step else text


class Interrupted(KeyboardInterrupt):
    """Ctrl-C at a moment after which something is left that a person may want to end. `what`: that."""

    def __init__(self, what: str, *, next_step: str) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step


class OutputFailed(OSError):
    """Standard output takes no more: its disk is full, for example."""


class UsageError(ClusteradmError):
    """A bad argument, or a request that cannot be done."""

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
    """Every defect of an input file at once, found before any connection is made."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class HostFailed(ClusteradmError):
    """Work failed on a host that answers."""

    exit_code = 3


class HostUnreachable(ClusteradmError):
    """A host does not answer, refuses the login, or shows another host key."""

    exit_code = 4


class TooManyOpenFiles(ClusteradmError):
    """This process, or this machine, may open no more files (EMFILE, ENFILE). Each connection needs one to five."""

    def __init__(self, *, where: str = "") -> None:
        super().__init__(
            "too many open files on this machine",
            where=where,
            next_step="raise the limit (ulimit -n 4096), or connect to fewer hosts at a time (--forks 16)",
        )

    @staticmethod
    def is_cause(error: BaseException) -> bool:
        """Whether the system refused to open a file, in this exception or in what it was raised from."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
                return True
            cause = cause.__cause__ or cause.__context__
        return False
