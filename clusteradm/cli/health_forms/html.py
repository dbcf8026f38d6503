"""Health as one self-contained HTML page."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from clusteradm import __version__
from clusteradm.cli.escape import visible
from clusteradm.cli.health_forms.report import TPU, HealthReport, groups, tpu_of

# Hosts choose the names of their units and programs: no text of theirs may become markup, or turn a line around.
_ENVIRONMENT = Environment(
    loader=PackageLoader("clusteradm.cli.health_forms", "."),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=lambda value: visible(value) if type(value) is str else value,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(report: HealthReport) -> str:
    """The whole page."""
    temperatures = {
        (figure.labels["host"], figure.labels["tpu"]): figure.value
        for figure in report.figures
        if figure.name == "tpu_temperature_celsius"
    }
    tpus = [
        {"finding": each, "address": tpu_of(each), "temperature": temperatures.get((each.host, tpu_of(each)))}
        for each in report.findings
        if each.check == TPU
    ]
    hosts = []
    for name in report.hosts:
        findings = report.of_host(name)
        mine = report.count(name)
        states = list(dict.fromkeys(each.state for each in findings if not each.ok))
        hosts.append(
            {
                "name": name,
                "worst": max(each.severity for each in findings).name.lower(),
                "states": ", ".join(states) or "ok",
                "tpus": f"{mine.good} of {mine.of}" if mine.of else "",
                "checks": [each for each in findings if each.check != TPU],
            }
        )
    return _ENVIRONMENT.get_template("report.html.j2").render(
        report=report,
        worst=report.worst.name.lower(),
        hosts=hosts,
        tpus=tpus,
        groups=groups(report),
        version=__version__,
    )
