"""A job's timeline: results by host over time, bounded, and one over several attempts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusteradm.node.job import files
from clusteradm.node.job.timeline import Recorder
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.timeline import LONGEST_PAUSE, MOST_EVENTS, MOST_STEPS, Timeline


def read(path: Path) -> Timeline:
    found = files.read(Timeline, str(path))
    assert found is not None
    return found


def test_results_are_counted_by_the_tenth_of_a_second(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    recorder = Recorder(str(path), 1, 100.0, 5000.0)
    for host, results, now in (("w1", 4, 100.95), ("w1", 4, 102.05), ("w2", 7, 102.55), ("w1", 1, 102.95)):
        recorder.count(host, results, now)
    recorder.note("rank 2 (w2 CPU) is left out: w2 has not answered for 5 s", 102.6)
    recorder.write(103.2, 5003.2, last=True)
    found = read(path)
    assert (found.step, found.seconds, found.written) == (0.1, 3.2, 5003.2)
    assert found.counts == {"w1": (*[0] * 9, 4, *[0] * 10, 4, *[0] * 8, 1), "w2": (*[0] * 25, 7)}
    (event,) = found.events
    assert event.second == 2.6 and event.text.startswith("rank 2 (w2 CPU)")


def test_a_long_job_has_coarser_steps_and_loses_no_result(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    recorder = Recorder(str(path), 1, 0.0, 0.0)
    for second in range(3 * MOST_STEPS):
        recorder.count("w1", 2, float(second))
    recorder.write(3.0 * MOST_STEPS, 1.0, last=True)
    found = read(path)
    assert found.step == pytest.approx(3.2) and len(found.counts["w1"]) == -(-3 * MOST_STEPS * 10 // 32)
    assert max(found.counts["w1"]) <= 8 and sum(found.counts["w1"]) == 6 * MOST_STEPS


def test_another_attempt_goes_on_and_a_long_pause_is_short(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    first = Recorder(str(path), 1, 10.0, 1000.0)
    first.count("w1", 3, 11.05)
    first.write(12.0, 1002.0, last=True)
    # The head was restarted: its monotonic clock begins anew.
    second = Recorder(str(path), 2, 1.0, 1009.5)
    second.count("w2", 5, 1.55)
    second.write(2.0, 1010.5, last=True)
    found = read(path)
    assert (found.seconds, found.counts) == (10.5, {"w1": (*[0] * 10, 3), "w2": (*[0] * 100, 5)})
    assert [(event.second, event.text) for event in found.events] == [(9.5, "attempt 2 begins")]
    third = Recorder(str(path), 3, 50.0, 1010.5 + 7 * 86400)
    third.write(50.0, 0.0, last=True)
    assert read(path).seconds == 10.5 + LONGEST_PAUSE
    # A clock that was set back makes no time before the one that was.
    Recorder(str(path), 4, 0.0, -5.0).write(0.0, 0.0, last=True)
    assert read(path).seconds == 10.5 + LONGEST_PAUSE


def test_it_is_written_once_a_second_and_events_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    recorder = Recorder(str(path), 1, 0.0, 0.0)
    recorder.write(0.0, 0.0)
    recorder.count("w1", 1, 0.1)
    recorder.write(0.5, 0.5)
    assert read(path).counts == {}
    for number in range(2 * MOST_EVENTS):
        recorder.note(f"{number} " + "x" * 5000, 0.6)
    recorder.write(1.0, 1.0)
    found = read(path)
    assert found.counts == {"w1": (0, 1)} and len(found.events) == MOST_EVENTS and found.events[0].text[:2] == "0 "


def test_a_damaged_file_and_a_full_disk_cost_the_timeline_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "timeline.json"
    path.write_text('{"step": 0, "seconds": 1.0, "written": 1.0, "counts": {}}')
    recorder = Recorder(str(path), 2, 0.0, 0.0)
    recorder.count("w1", 1, 0.1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_json", full)
        recorder.write(1.0, 1.0, last=True)
    recorder.write(2.0, 2.0, last=True)
    assert read(path).counts == {"w1": (0, 1)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0.05},
        {"seconds": -1.0},
        {"seconds": 1e9},
        {"counts": {"w1": [-1]}},
        {"counts": {"w1": [1] * (MOST_STEPS + 1)}},
        {"events": [{"second": 0.0, "text": "x"}] * (MOST_EVENTS + 1)},
        {"events": [{"second": 0.0, "text": "x" * 5000}]},
    ],
)
def test_what_is_no_timeline(wrong: dict[str, object]) -> None:
    whole = {"step": 1, "seconds": 1.0, "written": 1.0, "counts": {"w1": [1]}, "events": []}
    assert decode(Timeline, whole).counts == {"w1": (1,)}
    with pytest.raises(WireError):
        decode(Timeline, json.loads(json.dumps({**whole, **wrong})))
