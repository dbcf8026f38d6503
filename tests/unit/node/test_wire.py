"""The decoder, and replies of every kind, mangled: whatever a node sends is a value of the type, or HostFailed."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import time
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusteradm.errors import HostFailed
from clusteradm.node.spec.wire import (
    copying,
    fleet,
    job,
    job_requests,
    locate,
    node,
    power,
    repository,
    serving,
    serving_requests,
    timeline,
    versions,
)
from clusteradm.node.spec.wire.decode import MOST_DEPTH, MOST_ITEMS, MOST_VALUES, WireError, decode, limits, loads
from clusteradm.node.spec.wire.request import Request, Streaming
from clusteradm.transport.node import Node, Silent


@dataclasses.dataclass(frozen=True)
class Inner:
    number: int
    names: tuple[str, ...] = dataclasses.field(default=(), metadata=limits("[a-z]+", most=5))


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    share: float = 0.0
    anything: Any = None
    ok: bool = True


def test_what_fits_is_decoded() -> None:
    found = decode(
        Outer, {"inner": [{"number": 3, "names": ["ab"], "later": 1}], "share": 1, "anything": {"a": [None]}}
    )
    assert found == Outer((Inner(3, ("ab",)),), 1.0, {"a": [None]})
    assert isinstance(found.share, float)
    assert json.loads(json.dumps(found, default=vars))["inner"] == [{"number": 3, "names": ["ab"]}]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected an object, not a list"),
        ({}, "inner: missing"),
        ({"inner": {}}, "inner: expected a list, not an object"),
        ({"inner": [{"number": 1}, {"number": "1"}]}, "inner[1].number: expected a whole number, not text"),
        ({"inner": [{"number": True}]}, "inner[0].number: expected a whole number, not true or false"),
        ({"inner": [{"number": 1.0}]}, "inner[0].number: expected a whole number, not a number"),
        ({"inner": [{"number": 1 << 80}]}, "inner[0].number: a whole number of more than 63 bits"),
        ({"inner": [{"number": 1, "names": ["a", "A"]}]}, "inner[0].names[1]: 'A' does not match [a-z]+"),
        ({"inner": [{"number": 1, "names": ["a\n"]}]}, "inner[0].names[0]: 'a\\n' does not match [a-z]+"),
        ({"inner": [{"number": 1, "names": ["abcdef"]}]}, "inner[0].names[0]: a text of 6 characters, more than 5"),
        ({"inner": [{"number": 1, "names": None}]}, "inner[0].names: expected a list, not null"),
        ({"inner": [], "share": float("inf")}, "share: a number without bounds"),
        ({"inner": [], "share": "1"}, "share: expected a number, not text"),
        ({"inner": [], "ok": 1}, "ok: expected true or false, not a number"),
        ({"inner": [None] * (MOST_ITEMS + 1)}, f"inner: {MOST_ITEMS + 1} entries, more than {MOST_ITEMS}"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(value: Any, message: str) -> None:
    with pytest.raises(WireError) as refused:
        decode(Outer, value)
    assert str(refused.value) == message


def test_depth_is_bounded() -> None:
    deep: Any = []
    for _ in range(MOST_DEPTH + 2):
        deep = [deep]
    with pytest.raises(WireError, match="anything: nested more than"):
        decode(Outer, {"inner": [], "anything": deep})
    for text in ("[" * 100_000, "9" * 10_000, "", "\ud800".encode("utf-8", "surrogatepass"), b"\xff"):
        with pytest.raises(WireError, match="not a JSON document"):
            loads(text)


@dataclasses.dataclass(frozen=True)
class Word:
    text: str


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(WireError, match="half a character"):
        decode(Word, loads('{"text": "\\ud800"}'))


# ---- every reply, mangled ----

MODEL = job.ModelFile("m", 1, "/m", "0" * 64, job.InputForm("uint8", (1, 2)))
RANK = job.RankProgress(1, "w1", "0000:01:00.0", 3, 0.5)
ATTEMPT = job.Attempt(1, 2.0, ("w1",), 2.5, 3.5, (RANK,), 0)
STATUS = job.Status("complete", MODEL, 5, 3, 1.0, (ATTEMPT,), 3, 0)
PROGRESS = job.Progress(1, "running", 3, 1, 0, None, None, 4.0, (RANK,))
TIMELINE = timeline.Timeline(2.0, 3.5, 4.0, {"w1": (3, 1)}, (timeline.Event(1.5, "w1 is back"),))
SLOT = job.Slot("w1", ("a", None))
SPEC = job.StoredSpec(MODEL, "head", (SLOT,), None, 5, "py", "20260101-000000-abcdef", 3, "/srv/jobs/1")
CARD = fleet.Card("0000:01:00.0", "apex", "apex_0", "0660 root:apex")
EVENT = node.BatchEvent(1, "result", 0, "changed", {"stdout": "x", "results": [{"rc": 0}]})

PLACE = ("/srv", "cluster")
ID = "20260101-000000-abcdef"
SERVED = serving.ServedModel(
    "m", serving.VersionPolicy("specific", versions=(1,)), "1", serving.Canary(2, 5.0), ("w1",)
)
DESIRED = serving.DesiredState(3, (SERVED,), (serving.BoardTpus("w1", ("0000:01:00.0", None)),), ("w2",), ("w3",))
BOARD = serving.BoardState(
    "w1",
    3,
    True,
    (serving.VersionState("m", 1, "AVAILABLE", "", ("stable",), ("0000:01:00.0",), 0.5),),
    (serving.EngineState("0000:01:00.0", "ready", "", True, 51.5, 1, 200),),
)
REPLIES: list[tuple[Request[Any], list[Any]]] = [
    (node.Hello(), [node.Identity(1, "3.7.3", 1.5, "b")]),
    (node.GatherFacts(), [node.Facts({"hostname": "w1", "nested": {"a": [1]}})]),
    (node.FindBlobs(("0" * 64,)), [node.Lacking(("0" * 64,))]),
    (node.Apply("b", []), [node.BatchReply(EVENT), node.BatchEnd("b", True)]),
    (node.Follow("b"), [node.BatchReply(EVENT), node.BatchEnd("b", True)]),
    (node.Probe((), {}), [node.Document({"tpu": {}})]),
    (node.ClusterProbe("u", "/s", (), ()), [node.Document({"mpi": {}})]),
    (fleet.ChangeDrains(), [fleet.DrainTable({"w1": fleet.DrainEntry("hot", "ann", 1_700_000_000)})]),
    (fleet.ResetTpu("apex_0", "u"), [fleet.ResetOutcome("busy", (CARD,), CARD, None, fleet.Owner(7, "ann", "x"))]),
    (
        repository.ShowModel(*PLACE, "m", None),
        [repository.ModelFound(("m",), (1,), 1, "/srv/models/m/1", None)],
    ),
    (
        repository.ListModels(*PLACE),
        [repository.ModelList((repository.ListedVersion("m", 1, "/srv/models/m/1", None),), 2)],
    ),
    (
        versions.LabelVersion("/srv", "m", "stable", 2),
        [versions.LabelChange("refused", 2, 1, (1, 2), {"stable": 2}, "its files are damaged")],
    ),
    (
        repository.KeepCopies("u", {"0" * 64: "/m/1/model.tflite"}),
        [repository.Copies(("0" * 64,), ("1" * 64,), 2, {"2" * 64: "no room"})],
    ),
    (versions.RollBack("/srv", "m", "stable"), [versions.LabelChange("moved", 1, 2, (1, 2), {"stable": 1})]),
    (versions.RemoveVersions("/srv", "m", 1), [versions.Removal((), (1,), ("stable",), (versions.Use("job", ID, 1),))]),
    (repository.VerifyModel("u", "/m", ("a",), 0.0), [repository.Digests({"a": None, "b": "0" * 64})]),
    (serving_requests.ShowServing("/srv"), [serving_requests.Desired(DESIRED, ready=True)]),
    (serving_requests.StoreServing("/srv", DESIRED), [serving_requests.Desired(DESIRED, True, "no HAProxy")]),
    (
        serving_requests.AskServing({"w1": "10.0.0.1:8000"}),
        [serving_requests.ServingStatus({"w1": serving_requests.BoardSaid(BOARD, "", "UP", 1, 2, 3, 4, 5)}, "")],
    ),
    (serving_requests.AskServingLog(5), [serving_requests.ServingLog(("a line",))]),
    (repository.TimeModels("u", ("0" * 64,)), [repository.ModelTimes((1.5,), "its runtime ends by signal 11")]),
    (job_requests.CreateJob(*PLACE), [job_requests.Created(ID)]),
    (job_requests.ListJobs(*PLACE), [job_requests.JobList((job_requests.JobSummary(ID, "running", "m", 1),))]),
    (job_requests.ShowJob(*PLACE, ID, True), [job_requests.JobDetails(SPEC, STATUS, PROGRESS, 8, TIMELINE)]),
    (job_requests.FollowJob(*PLACE, ID, None, 1.0), [job_requests.News((1, 2), STATUS, PROGRESS)]),
    (job_requests.RemoveJob(*PLACE, ID), [job_requests.JobRemoved(True)]),
    (
        copying.PushFiles("u", "/d", True, (copying.PushedFile("f", 0o644, "a" * 64),)),
        [copying.Pushed(("a" * 64,), ("/d/f",), 1)],
    ),
    (
        copying.FindFiles("u", ("/d",)),
        [copying.FoundFiles((copying.FoundFile("f", "/d/f", 0o644, 1, 3),)), copying.FoundEnd(("/d/g: a socket",), 2)],
    ),
    (power.ChangePower("reboot", "soon"), [power.PowerBegun("0" * 32)]),
    (locate.Locate(1.0), [locate.Signal("led", "/sys/class/leds/led0", ("led0",)), locate.Located()]),
    (copying.ReadFile("u", "/d/f", 0, 4), [copying.FilePiece("AAAA"), copying.FileRead(3, "a" * 64)]),
    (
        job_requests.CollectResults(*PLACE, ID, (1, 2), 1.0),
        [copying.FilePiece("AAAA"), job_requests.Collected("running", 3, 3, (4, 5))],
    ),
    (job_requests.FeedJob(*PLACE, ID, 3, 0, "a" * 64, (), {}), [job_requests.Fed(False, True)]),
    (job_requests.FetchFile(*PLACE, ID, "log"), [copying.FilePiece("AAAA"), job_requests.FileEnd(3)]),
]


class Liar:
    """A stream on which a node sends these replies, whatever it is asked."""

    def __init__(self, replies: list[Any]) -> None:
        self._data = b"".join(json.dumps(reply).encode() + b"\n" for reply in replies)

    def read(self, timeout: float | None) -> bytes:
        data, self._data = self._data, b""
        return data

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def stderr_tail(self) -> str:
        return ""

    def exit_status(self) -> int | None:
        return 1


def answer(request: Request[Any], replies: list[Any]) -> list[Any]:
    """What the admin side makes of the replies to the first request of a conversation."""
    liar = Node("w1", Liar(replies))
    if not isinstance(request, Streaming):
        return [liar.call(request)]
    found = []
    conversation = liar.ask(request)
    while True:
        try:
            found.append(next(conversation))
        except StopIteration as end:
            return [*found, end.value]


def plain(replies: list[Any]) -> list[dict[str, Any]]:
    """The replies as a true node sends them."""
    found: list[dict[str, Any]] = json.loads(json.dumps(replies, default=vars))
    for reply in found:
        reply["id"] = 1
    found[-1]["done"] = True
    return found


@pytest.mark.parametrize(("request_", "replies"), REPLIES, ids=[request.do for request, _ in REPLIES])
def test_a_true_reply_is_taken_as_it_is(request_: Request[Any], replies: list[Any]) -> None:
    found = answer(request_, plain(replies))
    assert [type(one) for one in found] == [type(one) for one in replies]
    assert json.dumps(found, default=vars) == json.dumps(replies, default=vars)


def test_every_request_is_mangled_here() -> None:
    def kinds(base: Any) -> Iterator[Any]:
        for kind in base.__subclasses__():
            yield kind
            yield from kinds(kind)

    tried = {type(request) for request, _ in REPLIES}
    # Their replies are empty, or hold only what the others' do.
    alike = {
        "job-cancel",
        "job-resume",
        "job-discard",
        "job-end",
        "cancel",
        "blob",
        "job-part",
        "job-paths",
        "job-start",
        "repository-add",
    }
    assert {kind.do for kind in kinds(Request) if kind.do and kind not in tried} - alike <= {"dance"}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within a reply."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


ODD = ["\ud800", "../../etc/passwd", "\x1b]52;c;eA==\x07", "x" * (1 << 17)]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just("\ud800")
    | st.just("../../etc/passwd"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_mangled_reply_is_more_than_the_failure_of_its_host(data: st.DataObject) -> None:
    request, replies = data.draw(st.sampled_from(REPLIES))
    sent: list[Any] = copy.deepcopy(plain(replies))
    for _ in range(data.draw(st.integers(1, 2))):
        there = list(places(sent))
        if not there:
            break
        *path, last = data.draw(st.sampled_from(there))
        inside: Any = sent
        for key in path:
            inside = inside[key]
        if data.draw(st.booleans()):
            del inside[last]
        else:
            inside[last] = data.draw(JSON)
    try:
        found = answer(request, sent)
    except HostFailed as error:
        assert str(error).encode()
        assert error.where == "w1"
        return
    for one in found:
        assert dataclasses.is_dataclass(one)
        for field in dataclasses.fields(one):
            kind = typing.get_type_hints(type(one))[field.name]
            if kind in (int, str, bool, float):
                assert type(getattr(one, field.name)) is kind


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"[]", b"7", b"\xff\xfe", b'{"id": 1, "done": true, "error": {"a": 1}}']
)
def test_a_line_that_is_no_reply(line: bytes) -> None:
    liar = Liar([])
    liar._data = line + b"\n"
    with pytest.raises(HostFailed):
        Node("w1", liar).call(node.Hello())


def test_a_node_cannot_ask_for_what_it_was_not_offered() -> None:
    sent = [{"id": 1, "done": True, "missing": ["1" * 64]}]
    Node("w1", Liar(sent)).put_blobs({"0" * 64: b"x"})  # nothing is sent


class Endless(Liar):
    """A stream on which a node sends the same bytes for ever."""

    def read(self, timeout: float | None) -> bytes:
        return self._data


@pytest.mark.parametrize(("request_", "replies"), REPLIES, ids=[request.do for request, _ in REPLIES])
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([{"id": 2, "done": True}], "answers a request that was not made: 2"),
        ([{"id": True, "done": True}], "answers a request that was not made: True"),
        ([{"id": "1", "done": True}], "answers a request that was not made: '1'"),
        ([{"done": True}], "answers a request that was not made: None"),
        ([{"id": 1, "done": True, "a": 1e400}], "no number of JSON"),  # json.dumps writes Infinity
        ([[[]]], "unexpected output of the node program"),
    ],
)
def test_no_request_takes_what_is_not_its_reply(
    request_: Request[Any], replies: list[Any], sent: list[Any], said: str
) -> None:
    with pytest.raises(HostFailed, match=said) as failed:
        answer(request_, sent)
    assert failed.value.where == "w1" and failed.value.next_step


@pytest.mark.parametrize(("request_", "replies"), REPLIES, ids=[request.do for request, _ in REPLIES])
def test_no_request_takes_the_reply_to_another(request_: Request[Any], replies: list[Any]) -> None:
    lenient = {"tpu-reset", "repository-verify"}
    for other, theirs in REPLIES:
        if type(theirs[-1]) is type(replies[-1]) or other.do in lenient:
            continue
        with contextlib.suppress(HostFailed):
            found = answer(request_, plain(theirs[-1:]))
            assert type(found[-1]) is type(replies[-1])  # all that it needs happens to be there


def test_replies_to_nobody_are_no_answer() -> None:
    liar = Node("w1", Endless([{"id": 1, "done": True, "missing": []}]))
    assert liar.call(node.FindBlobs(())).missing == ()
    with pytest.raises(HostFailed, match="more than 10000 answers to requests that had theirs"):
        liar.call(node.FindBlobs(()))
    assert liar.closed


def test_the_time_limit_counts_from_the_request() -> None:
    class Slow(Endless):
        def read(self, timeout: float | None) -> bytes:
            time.sleep(0.005)
            return self._data

    liar = Node("w1", Slow([{"id": 1, "done": True, "missing": []}]))
    liar.call(node.FindBlobs(()))
    began = time.monotonic()
    with pytest.raises(Silent, match=r"no answer within 0 s"):
        liar.call(node.FindBlobs(()), timeout=0.3)
    assert time.monotonic() - began < 3


def test_a_host_that_wants_everything_gets_each_body_once() -> None:
    class Greedy(Liar):
        written = 0

        def write(self, data: bytes) -> None:
            self.written += len(data)

    bodies = {"0" * 64: b"x" * 1000}
    greedy = Greedy([{"id": 1, "done": True, "missing": ["0" * 64] * 1000 + ["1" * 64]}, {"id": 2, "done": True}])
    Node("w1", greedy).put_blobs(bodies)
    assert greedy.written < 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "a number without bounds"),
        ('{"a": [{"b": -1e999}]}', "a number without bounds"),
        ('{"a": 36893488147419103232}', "a whole number of more than 64 bits"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"a": "\\udc00\\ud800"}', "half a character"),
        ('{"a": ["\\ud800", "\\udc00"]}', "half a character"),
        ('{"a": {"\\udfff": 1}}', "half a character"),
        ('{"a": ' + "9" * 5000 + "}", "not a JSON document"),
        ("[" + "1," * MOST_VALUES + "1]", "more than 500000 values"),
        ('{"a": ' + "[" * (MOST_DEPTH + 2) + "]" * (MOST_DEPTH + 2) + "}", "nested more than"),
    ],
)
def test_a_value_of_any_type_has_bounds(text: str, message: str) -> None:
    with pytest.raises(WireError, match=message):
        decode(node.Facts, {"facts": {"x": loads(text.encode())}})


@pytest.mark.parametrize("value", [{"a": "\U0001f600", "b": [None, True, 1.5, (1 << 64) - 1, "x" * 100_000]}, [], {}])
def test_a_value_of_any_type_stays_as_it_is(value: Any) -> None:
    assert decode(node.Facts, {"facts": {"x": loads(json.dumps(value))}}).facts == {"x": value}


def test_of_a_key_that_occurs_twice_the_last_counts() -> None:
    assert loads('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"changed": 1}, "result.changed: expected true or false"),
        ({"failed": "yes"}, "result.failed: expected true or false"),
        ({"results": 5}, "result.results: expected a list of objects"),
        ({"results": [{}, 5]}, "result.results: expected a list of objects"),
        ({"results": [{}, {"skipped": None}]}, r"result.results\[1\].skipped: expected true or false"),
        ({"diff": 5}, "result.diff: expected a list of objects"),
        ({"diff": ["x"]}, "result.diff: expected a list of objects"),
        ({"ansible_facts": []}, "result.ansible_facts: expected an object"),
    ],
)
def test_a_result_has_the_keys_that_a_run_reads(result: Any, message: str) -> None:
    event = {"n": 1, "kind": "result", "task": 0, "result": result}
    with pytest.raises(WireError, match=message):
        decode(node.BatchReply, {"event": event})


def test_a_line_of_output_is_short() -> None:
    with pytest.raises(WireError, match="a text of 1001 characters"):
        decode(node.BatchReply, {"event": {"n": 1, "kind": "line", "task": 0, "text": "x" * 1001}})
