"""Conditions of a benchmark: the load of its hosts, the state and temperature of its TPUs, by the probe of health."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from clusteradm import health
from clusteradm.cli.health_forms.figures import figures
from clusteradm.cli.health_forms.report import TPU, tpu_of
from clusteradm.health import Finding
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster
from clusteradm.transport import Connections

_SECTIONS = ("system", "tpu")
LOADED = 0.5  # processes that want to run, for each processor
_DEV_BOARD = "Phanbell"  # in the model of a Coral Dev Board

Place = tuple[str, str]


@dataclass(frozen=True)
class Conditions:
    """`loads`: for each processor, by host; `celsius` and `findings`: by host and PCI address; `dev_boards`: hosts."""

    loads: Mapping[str, float] = field(default_factory=dict)
    celsius: Mapping[Place, float] = field(default_factory=dict)
    findings: Mapping[Place, Finding] = field(default_factory=dict)
    dev_boards: frozenset[str] = frozenset()

    @property
    def loaded(self) -> Iterator[tuple[str, float]]:
        """The hosts that something else keeps busy, with their loads."""
        return ((host, load) for host, load in self.loads.items() if load > LOADED)

    @property
    def ill(self) -> Iterator[tuple[Place, Finding]]:
        """The TPUs that are not as they should be, throttled ones for example."""
        return ((place, finding) for place, finding in self.findings.items() if not finding.ok)


def now(connections: Connections, cluster: Cluster, names: Iterable[str]) -> Conditions:
    """The conditions on these hosts; of one that does not answer nothing."""
    survey = health.collect(connections, [cluster.hosts[name] for name in names], sections=_SECTIONS)
    values = {(each.name, *each.labels.values()): each.value for each in figures(cluster, survey)}
    loads = {
        host: values["host_load", host] / values["host_processors", host]
        for host in survey.documents
        if ("host_load", host) in values and values.get(("host_processors", host))
    }
    findings = {
        (finding.host, tpu_of(finding)): finding
        for finding in health.judge(cluster, survey)
        if finding.check == TPU and tpu_of(finding)
    }
    celsius = {place: values[key] for place in findings if (key := ("tpu_temperature_celsius", *place)) in values}
    boards = {
        host
        for host, document in survey.documents.items()
        if _DEV_BOARD in (Reading(document).part("system").text("model") or "")
    }
    return Conditions(loads, celsius, findings, frozenset(boards))
