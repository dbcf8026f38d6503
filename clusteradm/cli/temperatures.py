"""Temperatures of the TPUs beside a running job, by the probe that health and top take theirs from."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clusteradm import health
from clusteradm.cli.health_forms.figures import figures
from clusteradm.cli.health_forms.report import tpu_of
from clusteradm.health import Severity
from clusteradm.health import tpu as tpus
from clusteradm.inventory import Cluster
from clusteradm.transport import Connections

_EVERY = 5.0  # seconds
_SECTIONS = ("tpu",)
_GUEST = "temperatures"  # whose conversations these are: a job is followed over the head's own meanwhile


@dataclass(frozen=True)
class Warmth:
    """A TPU's temperature, None where its driver tells none; how bad its state is, and which, where it is not ok."""

    celsius: float | None
    severity: Severity = Severity.OK
    state: str = ""


class Temperatures:
    """Measures again and again, in a thread of its own, while there is a terminal to show it on. A context manager.

    A host that does not answer, or whose key is not known yet, has none: nobody is asked about it here.
    """

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._connections, self._cluster = connections, cluster
        self._stopped = threading.Event()
        self._hosts: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None
        self._defect: Exception | None = None
        self._found: Mapping[tuple[str, str], Warmth] = {}

    def __enter__(self) -> Temperatures:
        return self

    def __exit__(self, *about: object) -> None:
        self._stopped.set()

    def watch(self, hosts: Iterable[str]) -> None:
        """Measure these hosts from now on. Raises a defect of the thread."""
        if self._defect is not None and not self._stopped.is_set():
            raise self._defect
        self._hosts = frozenset(hosts)
        if self._thread is None and self._hosts:
            self._thread = threading.Thread(target=self._run, name="clusteradm-temperatures", daemon=True)
            self._thread.start()

    def of(self, host: str, pci_address: str | None) -> Warmth | None:
        """What was measured last of a TPU."""
        return None if pci_address is None else self._found.get((host, pci_address))

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._found = measure(self._connections, self._cluster, self._hosts)
                self._stopped.wait(_EVERY)
        except Exception as error:
            self._defect = error


def measure(connections: Connections, cluster: Cluster, names: Iterable[str]) -> dict[tuple[str, str], Warmth]:
    """The TPUs of these hosts, by host and PCI address, now."""
    chosen = [cluster.hosts[name] for name in sorted(names) if name in cluster.hosts]
    known = {host.name for host in connections.acquainted(chosen)}
    chosen = [host for host in chosen if host.is_local or host.name in known]
    survey = health.collect(connections, chosen, sections=_SECTIONS, guest=_GUEST)
    celsius = {
        (each.labels["host"], each.labels["tpu"]): each.value
        for each in figures(cluster, survey)
        if each.name == "tpu_temperature_celsius"
    }
    found = {}
    for finding in health.judge(cluster, survey):
        if finding.check == tpus.CHECK and (address := tpu_of(finding)):
            place = (finding.host, address)
            found[place] = Warmth(celsius.get(place), finding.severity, "" if finding.ok else finding.state)
    return found
