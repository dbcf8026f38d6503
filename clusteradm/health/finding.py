"""A finding: what was looked at, how it is, and where it is ill, the one cause and the one remedy."""

from __future__ import annotations

import enum
from dataclasses import dataclass

# The remedy of most that is not as the playbooks have it.
BOOTSTRAP = "run clusteradm bootstrap"


class Severity(enum.IntEnum):
    """How bad. A warning does not stop jobs; an error does."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """`subject`: a host, or "HOST PCI-ADDRESS" of a TPU. `detail`: what was seen, also where all is well.

    `source`: where cause and remedy are known from. `because`: the finding that this one only follows from, if any
    (its `name`); who mends that one has mended this.
    """

    subject: str
    check: str
    state: str
    severity: Severity = Severity.OK
    detail: str = ""
    cause: str = ""
    remedy: str = ""
    source: str = ""
    because: str = ""

    @property
    def host(self) -> str:
        return self.subject.split(" ")[0]

    @property
    def name(self) -> str:
        """In a few words, as `because` of another names it."""
        return f"{self.subject} {self.check}: {self.state}"

    @property
    def ok(self) -> bool:
        return self.severity is Severity.OK


def well(subject: str, check: str, detail: str = "", state: str = "OK") -> Finding:
    """A finding of health."""
    return Finding(subject, check, state, Severity.OK, detail)


def ill(
    subject: str, check: str, state: str, cause: str, remedy: str, *, detail: str = "", source: str = ""
) -> Finding:
    """A finding that keeps the host or the TPU from work."""
    return Finding(subject, check, state, Severity.ERROR, detail, cause, remedy, source)


def doubtful(
    subject: str, check: str, state: str, cause: str, remedy: str, *, detail: str = "", source: str = ""
) -> Finding:
    """A finding that wants attention, and lets work go on."""
    return Finding(subject, check, state, Severity.WARNING, detail, cause, remedy, source)
