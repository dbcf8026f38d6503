"""No document, however mangled, makes the judge of TPUs raise: saved probes with anything anywhere, or nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clusteradm.health import patterns, tpu
from clusteradm.health.finding import Severity

PROBES = Path(__file__).resolve().parents[2] / "fixtures" / "probes"
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
LIMITS = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a document."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        found += places(each, (*path, key))
    return found


PLACES = [places(document) for document in DOCUMENTS]


@st.composite
def mangled(draw: st.DrawFn) -> Any:
    """A saved probe in which up to five things are something else, or are gone, or are there twice."""
    number = draw(st.integers(0, len(DOCUMENTS) - 1))
    document = copy.deepcopy(DOCUMENTS[number])
    for path in draw(st.lists(st.sampled_from(PLACES[number]), min_size=1, max_size=5)):
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
@given(mangled())
def test_a_probe_with_something_else_in_it(document: Any) -> None:
    survives(document)


@LIMITS
@given(ANYTHING)
@example({"tpu": {"bridges": [{"address": "a", "below": ["a", "b"]}, {"address": "b", "below": ["a", "b"]}]}})
@example({"tpu": {"bridges": [{"address": str(n), "below": [str(n + 1)]} for n in range(5000)]}})
def test_what_is_no_probe_at_all(document: Any) -> None:
    survives(document)
    survives({"tpu": document, "runtime": document, "trial": document})


@LIMITS
@given(st.sampled_from(["kernel", "stderr", "dkms"]), st.text())
@example("stderr", "/dev/apex_0" * 100_000)
def test_no_line_is_too_odd_for_the_table(where: str, line: str) -> None:
    told = patterns.explain(where, line)
    assert told is None or told.cause
