"""Finding of one check on one subject: its state and severity and, where it is not ok, one cause and one remedy."""

from __future__ import annotations

import enum
from dataclasses import dataclass

# Remedy of a host that differs from what the playbooks set up.
BOOTSTRAP = "run clusteradm bootstrap"


class Severity(enum.IntEnum):
    """Severity of a finding. A host or TPU with a warning can run jobs; one with an error may not be able to."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """State of one subject by one check.

    `subject`: a host, or "HOST PCI-ADDRESS" for a TPU. `detail`: values read, set for ok findings too. `source`: where
    cause and remedy are documented. `because`: the `name` of the finding that causes this one, if any; to repair that
    one repairs this.
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
        """Subject, check and state: what `because` of another finding refers to."""
        return f"{self.subject} {self.check}: {self.state}"

    @property
    def ok(self) -> bool:
        return self.severity is Severity.OK


def ok(subject: str, check: str, detail: str = "", state: str = "OK") -> Finding:
    """Finding of a check that passed."""
    return Finding(subject, check, state, Severity.OK, detail)


def error(
    subject: str, check: str, state: str, cause: str, remedy: str, *, detail: str = "", source: str = ""
) -> Finding:
    """Finding that keeps the host or the TPU from work."""
    return Finding(subject, check, state, Severity.ERROR, detail, cause, remedy, source)


def warning(
    subject: str, check: str, state: str, cause: str, remedy: str, *, detail: str = "", source: str = ""
) -> Finding:
    """Finding that needs attention but does not stop work."""
    return Finding(subject, check, state, Severity.WARNING, detail, cause, remedy, source)
