"""Health in Prometheus' text format, version 0.0.4: one family for each figure, with its HELP and TYPE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from clusteradm.cli.escape import visible
from clusteradm.cli.health_forms import figures, serving
from clusteradm.cli.health_forms.figures import HISTOGRAM, PARTS, Family, Figure
from clusteradm.cli.health_forms.report import HealthReport, tpu_of
from clusteradm.health import Finding, Severity

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "clusteradm_"
_STATES = {
    "survey_timestamp_seconds": Family("gauge", "Time of the survey, in seconds since 1970.", ()),
    "survey_duration_seconds": Family("gauge", "Duration of the survey.", ()),
    "findings": Family("gauge", "Findings by severity.", ("severity",)),
    "host_up": Family("gauge", "1 if the host answered."),
    "host_tpus_ok": Family("gauge", "Edge TPUs of the host that are ok; 0 if it does not answer."),
    "check_severity": Family("gauge", "Severity of a check's finding: 0 ok, 1 warning, 2 error.", ("host", "check")),
    "check_state": Family("gauge", "State of the host by a check; always 1.", ("host", "check", "state")),
    "tpu_severity": Family("gauge", "Severity of the TPU's finding: 0 ok, 1 warning, 2 error.", ("host", "tpu")),
    "tpu_state": Family("gauge", "State of the TPU; always 1.", ("host", "tpu", "state")),
}
# One Prometheus may ask the exporters of several clusters, whose hosts may have the same names.
FAMILIES = {
    _PREFIX + name: dataclasses.replace(family, labels=("cluster", *family.labels))
    for name, family in {**_STATES, **figures.FAMILIES, **serving.FAMILIES}.items()
}


def prometheus(report: HealthReport) -> str:
    """The exposition. Families come in the order of FAMILIES; one without a figure is left out."""
    # Two findings of one check have the same labels, which Prometheus refuses: the worse one is kept.
    values: dict[str, dict[str, float]] = {}
    for figure in (*_states(report), *report.figures):
        samples = values.setdefault(_PREFIX + figure.name, {})
        pairs = {"cluster": report.cluster, **figure.labels}
        labels = "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items()) + "}"
        samples[labels] = max(samples.get(labels, figure.value), figure.value)
    lines = []
    for name, family in FAMILIES.items():
        names = [name + part for part in PARTS] if family.kind == HISTOGRAM else [name]
        these = [f"{each}{labels} {value:.15g}" for each in names for labels, value in values.get(each, {}).items()]
        if these:
            lines += [f"# HELP {name} {family.meaning}", f"# TYPE {name} {family.kind}", *these]
    return "\n".join(lines) + "\n"


def _states(report: HealthReport) -> Iterator[Figure]:
    if report.taken:
        yield Figure("survey_timestamp_seconds", {}, report.taken)
        yield Figure("survey_duration_seconds", {}, report.seconds)
    for severity in Severity:
        count = sum(finding.severity is severity for finding in report.findings)
        yield Figure("findings", {"severity": severity.name.lower()}, count)
    for host in report.hosts:
        yield Figure("host_up", {"host": host}, host not in report.unanswered)
        if (tpus := report.count(host)).of:
            yield Figure("host_tpus_ok", {"host": host}, tpus.good)
    of_tpus = report.tpus
    for finding in report.findings:
        about, labels = ("tpu", _tpu(finding)) if finding in of_tpus else ("check", _check(finding))
        yield Figure(f"{about}_severity", labels, finding.severity)
        yield Figure(f"{about}_state", {**labels, "state": finding.state}, 1)


def _tpu(finding: Finding) -> dict[str, str]:
    return {"host": finding.host, "tpu": tpu_of(finding)}


def _check(finding: Finding) -> dict[str, str]:
    return {"host": finding.host, "check": finding.check}


def _escaped(text: str) -> str:
    return visible(text).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
