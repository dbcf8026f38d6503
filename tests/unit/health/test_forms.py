"""Every form from one report (tests/fixtures/health/report.json), compared with what it was when it was last looked at.

CLUSTERADM_GOLDEN=write writes what the forms give now: look at the difference before you commit it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from clusteradm.cli.health_forms import prometheus as exposition
from clusteradm.cli.health_forms.figures import Figure
from clusteradm.cli.health_forms.html import _scale, html
from clusteradm.cli.health_forms.nagios import nagios, unknown
from clusteradm.cli.health_forms.prometheus import prometheus
from clusteradm.cli.health_forms.report import HealthReport, groups, subjects
from clusteradm.cli.health_forms.table import table
from clusteradm.health import Finding, Severity

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests/fixtures/health"


def load() -> HealthReport:
    body = json.loads((FIXTURES / "report.json").read_text(encoding="utf-8"))
    findings = [Finding(**{**each, "severity": Severity[each["severity"].upper()]}) for each in body["findings"]]
    figures = [Figure(**each) for each in body["figures"]]
    return HealthReport(body["cluster"], findings, figures, body["taken"], body["seconds"])


@pytest.fixture
def report() -> HealthReport:
    return load()


def ok(report: HealthReport) -> HealthReport:
    figures = [each for each in report.figures if each.name != "host_tpus_expected"]
    return dataclasses.replace(report, findings=[each for each in report.findings if each.ok], figures=figures)


def shown(report: HealthReport, *, verbose: bool = False) -> str:
    console = Console(file=io.StringIO(), width=160, markup=False, emoji=False, highlight=False, soft_wrap=True)
    console.print(table(report, verbose=verbose))
    assert isinstance(console.file, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())


FORMS: dict[str, Callable[[HealthReport], str]] = {
    "table.txt": lambda report: shown(report),
    "table-verbose.txt": lambda report: shown(report, verbose=True),
    "metrics.prom": prometheus,
    "nagios.txt": lambda report: nagios(report)[1] + "\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_as_it_was(report: HealthReport, name: str) -> None:
    text, path = FORMS[name](report), FIXTURES / name
    if os.environ.get("CLUSTERADM_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_hosts_that_are_alike_are_one_line(report: HealthReport) -> None:
    lines = shown(ok(report)).splitlines()
    assert re.fullmatch(r"coral-\[0-8\] +ok +6 ok", lines[1]) and len([line for line in lines if line]) == 3


def test_the_table_says_simulated(report: HealthReport) -> None:
    simulated = [dataclasses.replace(each, detail="/dev/apex_0, SIMULATED") for each in report.findings]
    assert "6 ok, SIMULATED" in shown(dataclasses.replace(ok(report), findings=[each for each in simulated if each.ok]))
    assert "SIMULATED" not in shown(report)


def test_what_asks_for_the_same_is_one_group_and_the_worst_comes_first(report: HealthReport) -> None:
    found = groups(report)
    assert [group.severity for group in found] == sorted((group.severity for group in found), reverse=True)
    (stale,) = [group for group in found if group.state == "STALE"]
    assert stale.subjects == "coral-[7-8]" and list(stale.causes) == ["/srv/cluster does not answer"]


def test_a_host_does_not_speak_to_the_terminal(report: HealthReport) -> None:
    rude = Finding("h", "units", "FAILED", Severity.ERROR, "", "\x1b]0;x\x07\x1b[31ma\nb", "c\x9bd")
    for text in (
        shown(HealthReport("coral", [rude])),
        shown(HealthReport("coral", [rude]), verbose=True),
        nagios(HealthReport("", [rude]))[1],
    ):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert r"cause:  \x1b]0;x\x07\x1b[31ma b" + "\n" in shown(HealthReport("coral", [rude]))


def test_subjects() -> None:
    assert subjects(["c-1", "c-2 0001:01:00.0", "c-3", "c-2"]) == "c-[1-3], c-2 0001:01:00.0"


def test_what_is_absent_or_silent_counts_against_what_is_declared() -> None:
    """Of eight declared three are there; a host that is silent has one; an undeclared one is of a failed probe."""
    findings = [Finding(f"w1 0000:0{number}:00.0", "tpu", "OK") for number in range(3)]
    findings += [Finding("w1", "tpu", "ABSENT", Severity.ERROR, "", "5 of 8", "reseat")]
    findings += [Finding("w2", "ssh", "UNREACHABLE", Severity.ERROR, "", "no answer", "power")]
    findings += [Finding("w3", "tpu", "UNKNOWN", Severity.ERROR, "", "the probe failed", "report")]
    figures = [Figure("host_tpus_expected", {"host": host}, value) for host, value in (("w1", 8), ("w2", 1))]
    report = HealthReport("c", findings, figures)
    assert [report.count(host) for host in ("w1", "w2", "w3")] == [(3, 8), (0, 1), (0, 1)]
    assert report.document()["tpus"]["ok"] == 3 and report.document()["tpus"]["of"] == 10
    assert report.document()["tpus"]["hosts"]["w1"] == {"ok": 3, "of": 8}
    text = shown(report)
    assert "3 of 8 ok" in text and "UNREACHABLE  0 of 1 ok" in text and "3 of 10 Edge TPUs OK" in text
    assert "3 of 10 Edge TPUs OK" in nagios(report)[1] and "tpus=3;;;0;10" in nagios(report)[1]
    page = html(report)
    assert "TPUs 3 of 8<" in page and "TPUs 0 of 1<" in page and "3 of 10 Edge TPUs OK" in page
    metrics = prometheus(report)
    assert 'clusteradm_host_tpus_ok{cluster="c",host="w1"} 3' in metrics
    assert 'clusteradm_host_tpus_ok{cluster="c",host="w2"} 0' in metrics
    assert 'clusteradm_host_tpus_expected{cluster="c",host="w2"} 1' in metrics


def test_no_finding_at_all() -> None:
    nothing = HealthReport("coral", ())
    assert nagios(nothing)[0] == 0 and "0 hosts" in shown(nothing) and "0 hosts" in html(nothing)
    assert list(text_string_to_metric_families(prometheus(nothing)))


def test_prometheus_reads_it(report: HealthReport) -> None:
    """By the parser of Prometheus' own Python client."""
    text = prometheus(report)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = [sample for family in families.values() for sample in family.samples]
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in samples}) == len(samples)
    assert all(family.type in ("gauge", "counter") and family.documentation for family in families.values())
    temperature = families["clusteradm_tpu_temperature_celsius"].samples
    assert {sample.labels["host"]: sample.value for sample in temperature}["coral-2"] == -89.7
    states = {sample.labels["host"]: sample.labels["state"] for sample in families["clusteradm_tpu_state"].samples}
    assert states["coral-2"] == "WEDGED" and states["coral-0"] == "OK" and "coral-3" not in states
    up = {sample.labels["host"]: sample.value for sample in families["clusteradm_host_up"].samples}
    assert up == {f"coral-{number}": float(number != 9) for number in range(10)}


def test_the_exposition_keeps_to_its_grammar(report: HealthReport) -> None:
    """Line by line (Prometheus, text format 0.0.4), and each family in one piece, HELP and TYPE before it."""
    label = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
    sample = re.compile(rf"([a-z][a-z0-9_]*)(?:\{{{label}(?:,{label})*\}})? (-?[0-9.]+(?:e[+-][0-9]+)?)")
    seen: list[str] = []
    for line in prometheus(report).rstrip("\n").split("\n"):
        kind, _, rest = line.partition(" ") if line.startswith("#") else ("", "", line)
        if kind:
            word, name, text = rest.split(" ", 2)
            assert word in ("HELP", "TYPE") and text
            if word == "HELP":
                assert name not in seen
                seen.append(name)
            assert name == seen[-1]
        else:
            match = sample.fullmatch(line)
            assert match, line
            assert match[1] == seen[-1]


def test_a_sample_has_the_labels_of_its_family(report: HealthReport) -> None:
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", prometheus(report), re.MULTILINE):
        assert tuple(re.findall(r'(\w+)="', labels)) == exposition.FAMILIES[name].labels


def test_names_by_convention() -> None:
    """prometheus.io/docs/practices/naming: a prefix, base units in the plural, _total for counters and nothing else."""
    units = ("seconds", "bytes", "celsius")
    for name, family in exposition.FAMILIES.items():
        assert re.fullmatch(r"clusteradm(_[a-z]+)+", name) and family.meaning.endswith(".")
        assert name.endswith("_total") is (family.kind == "counter")
        assert not re.search(r"_(ms|mb|kb|millidegrees|minutes|percent)(_|$)", name)
        assert not any(unit in name for unit in units) or name.removesuffix("_total").endswith(units)


def test_two_findings_of_one_check_are_one_sample_and_the_worse_wins() -> None:
    findings = [Finding("h", "disk", "FULL", severity) for severity in (Severity.ERROR, Severity.WARNING)]
    text = prometheus(HealthReport("coral", findings))
    assert (
        'clusteradm_check_severity{cluster="coral",host="h",check="disk"} 2\n' in text
        and text.count("check_severity{") == 1
    )


def test_nagios_has_one_line_and_its_own_status(report: HealthReport) -> None:
    status, line = nagios(report)
    assert status == 2 and "\n" not in line and line.count("|") == 1 and line.startswith("CLUSTERADM CRITICAL - ")
    assert nagios(ok(report))[0] == 0
    warnings = [each for each in report.findings if each.severity is not Severity.ERROR]
    assert nagios(dataclasses.replace(report, findings=warnings))[0] == 1
    assert unknown("a: b\n  next | step") == (3, "CLUSTERADM UNKNOWN - a: b next / step")


def test_performance_data_keeps_to_its_grammar(report: HealthReport) -> None:
    """'label'=value[UOM];[warn];[crit];[min];[max], of the Monitoring Plugins' guidelines."""
    number = r"-?\d+(?:\.\d+)?"
    one = rf"(?:'[^'=|]+'|[^\s'=|]+)={number}(?:s|%|B|c)?(?:;(?:{number})?){{0,4}}"
    data = nagios(report)[1].split(" | ")[1]
    assert re.fullmatch(rf"{one}(?: {one})*", data)
    assert "'coral-4 0001:01:00.0'=91.05;84.8;89.8" in data and "hosts=9;;;0;10" in data and "tpus=6;;;0;10" in data


class Page(HTMLParser):
    """Tags in order, what they refer to, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [each for each in attrs if each[0] in ("src", "href", "srcset", "data", "action", "background")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_but_itself(report: HealthReport) -> None:
    text = html(report)
    page = Page(text)
    assert {place[:6] for _, place in page.refers if place} == {"#host-"} and not {
        "script",
        "link",
        "iframe",
        "img",
        "object",
    } & set(page.tags)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "@media print" in text and "default-src 'none'" in text


def test_the_page_says_everything_and_nothing_of_it_is_markup(report: HealthReport) -> None:
    page = Page(html(report))
    words = " ".join(page.text.split())
    for finding in report.findings:
        for said in (finding.host, finding.state, finding.cause, finding.remedy):
            assert " ".join(said.split()) in words
    assert "2025-11-2" in words and "44.5 °C" in words and '<script>alert("x")</script>' in page.text


def in_racks(report: HealthReport) -> HealthReport:
    """coral-0 to coral-4 in the rack "A <b>", from the bottom up, coral-5 and 6 in B, the others in none."""
    places = [(f"coral-{number}", "A <b>", str(5 - number)) for number in range(5)]
    places += [("coral-5", "B", ""), ("coral-6", "B", "1")]
    figures = [Figure("host_place", {"host": host, "rack": rack, "slot": slot}, 1) for host, rack, slot in places]
    return dataclasses.replace(report, figures=[*figures, *report.figures])


def test_hosts_by_rack_and_slot(report: HealthReport) -> None:
    placed = in_racks(report)
    rest = [host for host in report.hosts if host not in {f"coral-{number}" for number in range(7)}]
    assert placed.racks == {
        "A <b>": ["coral-4", "coral-3", "coral-2", "coral-1", "coral-0"],
        "B": ["coral-6", "coral-5"],
        "": rest,
    }
    assert report.racks == {"": report.hosts}
    lines = shown(placed).splitlines()
    assert lines[0].split()[:2] == ["RACK", "HOSTS"]
    racks = [line.split("  ")[0] for line in lines[1:] if line.split("  ")[0] in ("A <b>", "B", "-")]
    assert racks == sorted(racks, key=["A <b>", "B", "-"].index) and len(set(racks)) == 3
    page = html(placed)
    assert "rack A &lt;b&gt;" in page and "in no rack" in page and page.index("rack A") < page.index("rack B")
    assert page.index(">1: coral-4<") < page.index(">5: coral-0<")
    assert 'rack="A <b>",slot="5"' in prometheus(placed)
    assert "in no rack" not in html(report) and "RACK" not in shown(report)


def test_the_scale_of_a_temperature() -> None:
    assert _scale(None, []) is None and _scale(-89.7, [85.0]) is None
    assert _scale(65.0, [65.0, 110.0]) == (50.0, [(65.0, 50.0), (110.0, 100.0)], "warning")
    assert [_scale(number, [85.0, 90.0]).severity for number in (84.9, 85.0, 90.0)] == ["ok", "warning", "error"]  # type: ignore[union-attr]
    assert _scale(500.0, []).here == 100 and _scale(0.0, []).here == 0  # type: ignore[union-attr]


def test_the_matrix_has_a_letter_for_every_host_and_check(report: HealthReport) -> None:
    body = re.search(r'<table id="matrix">(.*?)</table>', html(report), re.DOTALL)
    assert body is not None
    head, *rows = body[1].split("<tr>")[1:]
    checks = re.findall(r"<span>([\w-]+)</span>", head)
    assert checks == list(dict.fromkeys(each.check for each in report.findings)) and len(rows) == len(report.hosts)
    for host, row in zip(report.hosts, rows, strict=True):
        letters = re.findall(r'<td class="cell (\w*)" title="[^"]*">(\w?)</td>', row)
        for check, (severity, letter) in zip(checks, letters, strict=True):
            mine = [each.severity for each in report.of_host(host) if each.check == check]
            assert (severity, letter) == ((max(mine).name.lower(), "oWE"[max(mine)]) if mine else ("", ""))


def test_what_is_simulated_says_so_in_every_form(report: HealthReport) -> None:
    simulated = dataclasses.replace(
        report,
        findings=[
            dataclasses.replace(each, detail=f"{each.detail}, SIMULATED by x") if each.check == "tpu" else each
            for each in report.findings
        ],
    )
    assert simulated.simulated == [f"coral-{number}" for number in range(9)]
    for text in (shown(simulated), shown(simulated, verbose=True), nagios(simulated)[1], html(simulated)):
        assert "SIMULATED" in text
    assert report.document()["simulated"] == [] and simulated.document()["simulated"] == simulated.simulated
    figure = Figure("host_tpus_simulated", {"host": "coral-0"}, 1)
    assert 'clusteradm_host_tpus_simulated{cluster="coral",host="coral-0"} 1\n' in prometheus(
        dataclasses.replace(report, figures=[figure])
    )
    for text in (shown(report), nagios(report)[1], html(report)):
        assert "SIMULATED" not in text


def test_findings_caused_by_another_are_grouped_under_it(report: HealthReport) -> None:
    """And make no group of their own, but no host that has one is ok."""
    root = Finding("coral-0", "export", "NOT_SERVING", Severity.ERROR, "", "it is stopped", "start it")
    findings = [
        dataclasses.replace(each, because=root.name) if each.state == "STALE" else each for each in report.findings
    ]
    dead = dataclasses.replace(report, findings=[root, *findings])
    assert [group.state for group in groups(dead)].count("STALE") == 0
    (group,) = [group for group in groups(dead) if group.state == "NOT_SERVING"]
    assert group.effects == "coral-[7-8] nfs: STALE"
    text = shown(dead)
    assert "  effect: coral-[7-8] nfs: STALE\n" in text and "\ncoral-[7-8]  STALE" in text
    assert "5 errors, 2 warnings, 2 more grouped under them" in text.splitlines()[-1]
    assert "effect: coral-[7-8] nfs: STALE" in html(dead)
    assert sum(each["because"] == root.name for each in dead.document()["findings"]) == 2
