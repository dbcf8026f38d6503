"""Survey: the documents that the probes of a cluster's hosts returned, and the errors of hosts that returned none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from clusteradm.errors import UsageError
from clusteradm.inventory import Host

# Sections that the document of a whole survey has for every host.
SECTIONS = {"clock", "network", "runtime", "share", "system", "tpu"}

# Sections that may be asked for repeatedly beside a running job: all but those that open TPUs or start processes on
# every host.
LIGHT = ("system", "machine", "tpu", "network", "links", "login", "share", "export", "runtime")

# Sections that decide where a job may run.
FOR_JOBS = ("tpu", "share")


@dataclass
class Survey:
    """One round of probes.

    `documents`: host -> document of its probe (clusteradm/node/probe); `errors`: host -> (kind, text, remedy) of a host
    that returned none, kind UNREACHABLE or FAILED. `cluster`: document of the head's cluster probe; `cluster_error`:
    why there is none although it was asked for. `taken`: end of the survey, seconds since 1970, 0 if unknown (surveys
    saved by early versions); `seconds`: its duration.
    """

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    cluster: dict[str, Any] | None = None
    errors: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    cluster_error: str = ""
    taken: float = 0.0
    seconds: float = 0.0

    def only(self, hosts: Iterable[Host]) -> Survey:
        """The part of the survey about these hosts. Raises UsageError if it has none of them."""
        names = {host.name for host in hosts}
        documents = {name: document for name, document in self.documents.items() if name in names}
        errors = {name: text for name, text in self.errors.items() if name in names}
        if not documents and not errors:
            there = ", ".join([*self.documents, *self.errors]) or "no host"
            raise UsageError(f"the survey has none of the hosts asked for; it is of {there}")
        return replace(self, documents=documents, errors=errors)
