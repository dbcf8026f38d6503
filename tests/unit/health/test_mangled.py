"""No document, however mangled, makes the judge raise: saved probes and surveys with anything anywhere, or nothing."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from clusteradm import health
from clusteradm.cli.health_forms.html import html
from clusteradm.cli.health_forms.nagios import nagios
from clusteradm.cli.health_forms.prometheus import prometheus
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.table import table
from clusteradm.health import Survey, saved
from clusteradm.health.finding import Severity
from clusteradm.health.tpu import patterns
from clusteradm.health.tpu import state as tpu

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
PROBES = FIXTURES / "probes"
DOCUMENTS = [json.loads(path.read_text(encoding="utf-8"))["document"] for path in sorted(PROBES.glob("*.json"))]
# Documents come as JSON, which Python reads with NaN, infinities, numbers of any length and lone surrogates.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**400, -(10**400), "9" * 5000, "-89700", "0x1f", "8", "\ud800", "1", "0", "apex", "0000:01:00.0"]
    ),
    st.floats(),
    st.text(max_size=20),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
WHOLE_LIMITS = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LIMITS = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a document."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        found += places(each, (*path, key))
    return found


# What four boards of a lab said, and the inventory that it is judged by.
SURVEY, CLUSTER = saved.read(FIXTURES / "health" / "survey.json")
WHOLE = {"documents": SURVEY.documents, "cluster": SURVEY.cluster}
HOSTS = set(SURVEY.documents)


@st.composite
def mangled(draw: st.DrawFn, originals: Sequence[Any]) -> Any:
    """One of them in which up to five things are something else, or are gone, or are there twice."""
    document = copy.deepcopy(draw(st.sampled_from(originals)))
    for path in draw(st.lists(st.sampled_from(places(document)), min_size=1, max_size=5)):
        place, key = document, path[-1]
        try:
            for step in path[:-1]:
                place = place[step]
            how = draw(st.sampled_from(["replace", "remove", "double"]))
            if how == "replace":
                place[key] = draw(ANYTHING)
            elif how == "remove":
                del place[key]
            elif isinstance(place, list):
                place.append(copy.deepcopy(place[key]))
        except (KeyError, IndexError, TypeError):
            continue  # what it led to is gone already
    return document


def survives(document: Any, expected: Any = 8) -> None:
    findings = list(tpu.judge("h", expected, document))
    for finding in findings:
        assert all(isinstance(text, str) for text in (finding.subject, finding.cause, finding.remedy, finding.detail))
        assert finding.ok or (finding.cause and finding.remedy)
        assert isinstance(finding.severity, Severity)
    subjects = [finding.subject for finding in findings if " " in finding.subject]
    assert len(set(subjects)) == len(subjects), "one state per TPU"
    fit = {each.pci_address for each in tpu.healthy("h", document)}
    assert fit <= {subject.split(" ", 1)[1] for subject in subjects}


@LIMITS
@given(mangled(DOCUMENTS))
def test_a_probe_with_something_else_in_it(document: Any) -> None:
    survives(document)


@LIMITS
@given(ANYTHING)
@example({"tpu": {"bridges": [{"address": "a", "below": ["a", "b"]}, {"address": "b", "below": ["a", "b"]}]}})
@example({"tpu": {"bridges": [{"address": str(n), "below": [str(n + 1)]} for n in range(5000)]}})
def test_what_is_no_probe_at_all(document: Any) -> None:
    survives(document)
    survives({"tpu": document, "runtime": document, "trial": document})


def survives_whole(survey: Survey) -> None:
    """Judged, and shown in every form, as text that can be written."""
    assert CLUSTER is not None
    findings = health.judge(CLUSTER, survey, undeclared=True)
    assert {finding.host for finding in findings} >= set(survey.documents) | set(survey.errors)
    assert all(finding.ok or (finding.cause and finding.remedy) for finding in findings)
    assert set(health.slots(survey, findings)) <= set(survey.documents)
    report = HealthReport.of(CLUSTER, survey, findings)
    for text in (html(report), nagios(report)[1], prometheus(report), json.dumps(report.document())):
        assert text.encode("utf-8")
    Console(file=io.StringIO(), width=100).print(table(report, verbose=True))


def test_the_survey_itself_is_well() -> None:
    assert CLUSTER is not None and [each.name for each in health.judge(CLUSTER, SURVEY) if not each.ok] == []


@WHOLE_LIMITS
@given(mangled([WHOLE]))
def test_a_survey_with_something_else_in_it(whole: Any) -> None:
    documents = whole.get("documents")
    documents = {name: each for name, each in documents.items() if name in HOSTS} if isinstance(documents, dict) else {}
    survives_whole(Survey(documents, whole.get("cluster")))


@WHOLE_LIMITS
@given(st.dictionaries(st.sampled_from(sorted(SURVEY.documents["host-1"])), ANYTHING), ANYTHING)
def test_a_survey_of_anything(document: Any, cluster: Any) -> None:
    errors = {"host-3": ("UNREACHABLE", "no answer", "check its power")}
    survives_whole(Survey({"host-1": document, "host-2": document, "host-4": cluster}, cluster, errors))


@LIMITS
@given(st.sampled_from(["kernel", "stderr", "dkms"]), st.text())
@example("stderr", "/dev/apex_0" * 100_000)
def test_no_line_is_too_odd_for_the_table(where: str, line: str) -> None:
    found = patterns.match(where, line)
    assert found is None or found.cause
