"""Parts of a board's server without processes: arena, queue, page, policy, ports, the condition of a TPU."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clusteradm.node.edgetpu.engine import InferenceError
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.serve import messages, paths, ports, tpus
from clusteradm.node.serve.arena import SIZE, Arena, layout
from clusteradm.node.serve.engine_process import EngineProcess
from clusteradm.node.serve.holding import LOADING, Holding
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.messages import Ended, Run
from clusteradm.node.serve.page import ENGINES, FRONTS, Page
from clusteradm.node.serve.queueing import Queue, Waiting
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.manifest import Tensor
from clusteradm.node.spec.wire.serving import ServedModel


def test_blocks_of_the_arena_never_overlap_and_all_come_back() -> None:
    arena, chance = Arena(), random.Random(5)  # noqa: S311 - the same blocks every time
    used: dict[int, int] = {}
    for _ in range(3000):
        if used and chance.random() < 0.5:
            at = chance.choice(list(used))
            del used[at]
            arena.give(at)
            continue
        size = chance.choice([64, 4096, 150528, 5 << 20])
        at_or_none = arena.take(size)
        if at_or_none is None:
            assert sum(used.values()) + size > SIZE // 2
            continue
        assert all(at_or_none >= at + length or at_or_none + size <= at for at, length in used.items())
        assert at_or_none + size <= SIZE
        used[at_or_none] = size
    for at in list(used):
        arena.give(at)
    assert arena.take(SIZE) == 0
    assert arena.take(64) is None


def test_both_sides_lay_tensors_out_alike() -> None:
    loaded = Loaded(
        1, "m", 1, (Tensor("a", (1, 3), "uint8"), Tensor("b", (1, 2), "float32")), (Tensor("c", (), "int64"),)
    )
    plan = layout(loaded, 0)
    assert plan.inputs == ((0, (1, 3), "uint8"), (64, (1, 2), "float32"))
    assert (plan.outputs, plan.size) == (((128, (), "int64"),), 192)
    assert layout(loaded, 40).inputs[1][:2] == (128, (40, 2))
    front = Arena()
    other = Arena(front.fd)
    front.array(64, (1, 2), "float32")[...] = [1.5, -2]
    assert other.array(64, (1, 2), "float32").tolist() == [[1.5, -2.0]]


def test_messages_come_back_as_they_were() -> None:
    run = Run(messages.RUN, 1 << 40, 7, 3, 1 << 33, 12.5, -4)
    assert messages.read_run(run.pack()) == run
    assert messages.read_run(b"short") is None
    ended = Ended(9, messages.FAILED, 0.1, 0.2, 3, "é" * 1000)
    assert messages.read_ended(ended.pack()) == ended
    assert len(Ended(9, messages.FAILED, text="x" * 100000).pack()) < messages.MOST


def taken(queue: Queue) -> list[int]:
    found = []
    while True:
        waiting = queue.take()
        if waiting is None:
            return found
        found.append(waiting.run.id)


def test_a_queue_goes_by_priority_then_by_order_and_is_bounded() -> None:
    late: list[Waiting] = []
    queue = Queue(late.append)
    assert queue.put(Run(messages.RUN, 1, key=1), "f")
    assert queue.put(Run(messages.RUN, 2, key=1, priority=-1), "f")
    assert queue.put(Run(messages.RUN, 3, key=1), "f")
    assert not queue.put(Run(messages.RUN, 4, key=1, priority=-9), "f", 3)
    assert queue.put(Run(messages.RUN, 5, key=2, priority=5), "f")
    assert (len(queue), queue.count(1), queue.count(2)) == (4, 3, 1)
    assert taken(queue) == [2, 1, 3, 5]
    assert late == []
    assert len(queue) == 0
    assert queue.put(Run(messages.RUN, 6, key=1), "f")


def test_what_is_late_or_not_wanted_any_more_never_runs() -> None:
    late: list[Waiting] = []
    queue = Queue(late.append)
    now = time.monotonic()
    queue.put(Run(messages.RUN, 1, key=1, deadline=now - 1), "f")
    queue.put(Run(messages.RUN, 2, key=1, deadline=now + 1000), "f")
    queue.put(Run(messages.RUN, 3, key=1), "f")
    queue.put(Run(messages.RUN, 3, key=1), "g")
    assert [each.sender for each in queue.remove("g")] == ["g"]
    assert [each.run.id for each in queue.remove("f", 3)] == [3]
    assert queue.remove("f", 99) == []
    assert taken(queue) == [2]
    assert [each.run.id for each in late] == [1]


def test_a_batch_takes_what_fits_of_the_same_version() -> None:
    queue = Queue(lambda waiting: None)
    for number, (key, rows) in enumerate([(1, 1), (2, 1), (1, 3), (1, 2), (1, 1)]):
        queue.put(Run(messages.RUN, number, key=key, rows=rows), "f")
    first = queue.take()
    assert first is not None
    assert [each.run.id for each in queue.take_more(1, 1, 5)] == [2, 4]
    assert taken(queue) == [1, 3]


def test_all_see_the_same_page(tmp_path: Path) -> None:
    one, other = Page(str(tmp_path / "page")), Page(str(tmp_path / "page"))
    one.set_waiting(0, 3, 5)
    one.set_waiting(1, 3, 2)
    one.set_waiting(FRONTS - 1, ENGINES - 1, 9)
    assert (other.waiting(3, 2), other.waiting(2, 2), other.waiting(ENGINES - 1, FRONTS)) == (7, 0, 9)
    assert other.running(3) == (0.0, 0)
    one.begin(3, 17)
    seconds, key = other.running(3)
    assert (key, 0 <= seconds < 100) == (17, True)
    one.end(3)
    assert (other.running(3), other.last(3), other.count(3)) == ((0.0, 0), 17, 1)
    one.close(3, True)
    assert (other.closed(3), other.closed(2)) == (True, False)


@pytest.mark.parametrize(
    ("model", "labels", "versions"),
    [
        ({}, {}, [5]),
        ({"policy": {"kind": "latest", "latest": 2}}, {}, [3, 5]),
        ({"policy": {"kind": "latest", "latest": 9}}, {}, [1, 3, 5]),
        ({"policy": {"kind": "all"}}, {}, [1, 3, 5]),
        ({"policy": {"kind": "specific", "versions": [3, 4]}}, {}, [3, 4]),
        ({}, {"stable": 1, "gone": 2}, [1, 5]),
        ({"canary": {"version": 3, "percent": 5}}, {}, [3, 5]),
        ({"default": "1"}, {}, [1, 5]),
        ({"default": "stable"}, {"stable": 3}, [3, 5]),
    ],
)
def test_a_policy_names_versions(model: dict[str, Any], labels: dict[str, int], versions: list[int]) -> None:
    served = decode(ServedModel, {"name": "m", "policy": {}, **model})
    assert served.wanted((5, 1, 3), labels) == versions


def test_a_port_that_is_taken_says_by_whom() -> None:
    listener = ports.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with pytest.raises(ports.PortTaken, match=rf"port {port} of 127\.0\.0\.1 is taken by \S.*\(process \d+\): end it"):
        ports.listen("127.0.0.1", port)
    listener.close()
    ports.check_free("127.0.0.1", port)
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1 port"):
        ports.listen("192.0.2.1", port)


def tpu(root: Path, **files: object) -> None:
    folder = root / "sys/class/apex/apex_0"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"pci_address": "0000:01:00.0", "trip_point1_temp": 90000, "temp": 45000, **files}.items():
        (folder / name).write_text(f"{value}\n")


def test_a_tpu_is_hot_from_its_second_trip_point_and_back_when_it_is_cooler(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert tpus.addresses(root) == []
    tpu(tmp_path)
    assert tpus.addresses(root) == ["0000:01:00.0"]
    assert tpus.condition("0000:01:00.0", False, root) == (45.0, None, None)  # its other trip points are not known
    for temperature, was_hot, is_hot in [
        (89999, False, False),
        (90000, False, True),
        (88000, True, True),
        (86999, True, False),
    ]:
        tpu(tmp_path, temp=temperature)
        reason = tpus.condition("0000:01:00.0", was_hot, root).reason
        assert (reason is not None and "hot" in reason) == is_hot


@pytest.mark.parametrize(
    ("temperature", "poll", "megahertz"),
    [
        *[(45000, 5000, 500), (85000, 5000, 250), (89999, 5000, 250), (90000, 5000, 125), (95000, 5000, 62.5)],
        # A driver that never looks leaves the clock as it is; a chip that is lost has none.
        *[(95000, 0, None), (-89700, 5000, None)],
    ],
)
def test_the_clock_of_a_tpu_is_what_its_driver_makes_of_the_temperature(
    tmp_path: Path, temperature: int, poll: int, megahertz: float | None
) -> None:
    tpu(tmp_path, temp=temperature, trip_point0_temp=85000, trip_point2_temp=95000, temp_poll_interval=poll)
    assert tpus.condition("0000:01:00.0", False, str(tmp_path)).megahertz == megahertz


@pytest.mark.parametrize("temp", ["", "x", "nan"])
def test_a_temperature_that_is_none_is_no_reason(tmp_path: Path, temp: str) -> None:
    tpu(tmp_path, temp=temp)
    assert tpus.condition("0000:01:00.0", False, str(tmp_path)) == (None, None, None)


def test_a_tpu_that_is_lost_says_how(tmp_path: Path) -> None:
    tpu(tmp_path, temp=-89700)
    assert "fell off the bus" in str(tpus.condition("0000:01:00.0", False, str(tmp_path)).reason)
    assert "not there any more" in str(tpus.condition("0000:02:00.0", False, str(tmp_path)).reason)


DATA = os.environ.get("CLUSTERADM_TEST_DATA", "")


@pytest.mark.skipif(not Path(DATA, "movenet_single_pose_lightning_ptq.tflite").is_file(), reason="no real models")
@pytest.mark.parametrize("path", sorted(Path(DATA or ".").glob("*.tflite")), ids=lambda path: path.stem)
def test_real_models_load_with_the_shapes_that_they_answer_with(path: Path, tmp_path: Path) -> None:
    if "edgetpu" in path.stem or "error" in path.stem:
        pytest.skip("not for a CPU")
    (tmp_path / "model.tflite").write_bytes(path.read_bytes())
    holding = Holding(None)
    loaded = holding.load(1, "m", 1, str(tmp_path))
    outputs = holding.run(1, [np.zeros(each.shape, each.dtype) for each in loaded.inputs])
    assert [output.shape for output in outputs] == [each.shape for each in loaded.outputs]


def test_what_a_version_is_that_fails_on_everything(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"TFL3" * 10)
    with pytest.raises((TpuError, ValueError)):
        Holding(None).load(1, "m", 1, str(tmp_path))


def test_an_array_of_the_arena_is_no_copy() -> None:
    arena = Arena()
    arena.array(0, (2, 2), "int32")[...] = 7
    assert np.array_equal(arena.array(0, (4,), "int32"), [7, 7, 7, 7])


def test_what_a_swap_costs_is_counted_by_the_engines_own_inferences(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    engine = EngineProcess(0, "0000:01:00.0", str(tmp_path), theirs)
    page = Page(paths.page(str(tmp_path)))
    one, other = Loaded(1, "one", 1, (), (), seconds=0.010), Loaded(2, "other", 1, (), (), seconds=0.020)
    for loaded, last, seconds in [
        (one, 0, 0.5),  # the first since its start
        (one, 1, 0.002),
        (one, 1, 0.002),
        (other, 1, 0.026),  # by what it took when it was loaded
        (one, 2, 0.005),  # by its own inferences
        (other, LOADING, 0.9),  # after one that was loaded, which is no cost of serving
    ]:
        engine._count(loaded, last, seconds)
    totals = page.totals(0)
    assert (totals.swaps, round(totals.swap_seconds, 6), round(totals.busy, 6)) == (2, 0.009, 1.435)
    ours.close()


def test_on_a_cpu_nothing_is_swapped(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        EngineProcess(0, None, str(tmp_path), theirs)._count(Loaded(1, "one", 1, (), ()), 2, 0.5)
    assert Page(paths.page(str(tmp_path))).totals(0) == (0.5, 0, 0.0)


def test_every_request_is_answered_however_many_come_at_once(tmp_path: Path) -> None:
    # More answers than a socket holds: a front process in the middle of a burst sends, and reads later.
    ours, theirs = socket.socketpair()
    engine = EngineProcess(0, None, str(tmp_path), theirs)
    arena, count, sent, got = Arena(), 3000, 0, []
    with ours, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as front:
        front.connect(paths.engine(str(tmp_path), 0))
        socket.send_fds(front, [b"\0"], [arena.fd])
        front.setblocking(False)
        while sent < count:
            try:
                front.send(Run(messages.RUN, sent, key=1).pack())  # of a version that it does not have
                sent += 1
            except BlockingIOError:
                engine._listen(0.0)
        until = time.monotonic() + 60
        while len(got) < count and time.monotonic() < until:
            engine._listen(0.0)
            with contextlib.suppress(BlockingIOError):
                while len(got) < count:
                    got.append(messages.read_ended(front.recv(messages.MOST)))
                    assert got[-1].status == messages.UNKNOWN
    assert [each.id for each in got] == list(range(count))
    engine._listen(1.0)  # it has gone
    assert engine._fronts == {}


def test_a_tpu_that_breaks_under_one_of_several_gives_back_it_and_those_behind(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    engine = EngineProcess(0, None, str(tmp_path), theirs)
    loaded = Loaded(1, "m", 1, (), ())
    said: list[tuple[int, int, str]] = []
    sender = SimpleNamespace(answer=lambda ended: said.append((ended.id, ended.status, ended.text)))
    group = [Waiting(Run(messages.RUN, number, key=1), sender, 0.0) for number in range(4)]

    def run(loaded: Loaded, group: list[Waiting]) -> None:
        number = group[0].run.id
        if len(group) > 1 or number == 1:
            raise InferenceError("not this one")
        if number == 2:
            raise TpuError("it does not answer")
        group[0].sender.answer(messages.Ended(number, messages.DONE))

    engine._run = run  # type: ignore[assignment,method-assign]
    with ours, theirs:
        engine._serve_alone(loaded, group)
        broken = json.loads(ours.recv(1000))
    assert said == [
        (0, messages.DONE, ""),
        (1, messages.FAILED, "not this one"),
        (2, messages.BROKEN, "it does not answer"),
        (3, messages.BROKEN, "it does not answer"),
    ]
    assert broken == {"broken": "it does not answer"}
