"""Engine processes: what they answer, and what happens when one ends, hangs, or is given what it cannot run."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serve_place as place
from ai_edge_litert import schema_py_generated as schema
from graphs import End, Step, build

from clusteradm.node.serve import engines, paths, trial
from clusteradm.node.serve.engine_link import EngineLink
from clusteradm.node.serve.engines import READY, EngineKeeper, Wish
from clusteradm.node.serve.link import EngineGone, Reply
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.plane import DEADLINE, Refusal

LIMIT = 60.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = tmp_path_factory.mktemp("shared")
    place.deploy(shared)
    broken = place.deploy(shared, version=2)
    (broken / "model.tflite").write_bytes(b"no model at all")
    return shared


@dataclass
class Bench:
    """An engine on the CPU, and a front process's link to it."""

    keeper: EngineKeeper
    link: EngineLink
    page: Page
    runtime: str
    shared: Path
    changes: int = 0

    def want(self, **versions: int) -> None:
        wishes = {}
        for name, version in versions.items():
            folder = self.shared / "models" / "digits" / str(version)
            wishes[int(name.removeprefix("key"))] = Wish("digits", version, str(folder))
        self.keeper.want(wishes)

    async def until(self, true: Callable[[], Any]) -> None:
        end = time.monotonic() + LIMIT
        while not true():
            assert time.monotonic() < end, (self.keeper.state, self.keeper.reason, self.keeper.failures)
            await asyncio.sleep(0.01)
            self.keeper.watch()
            self.link.connect()

    async def infer(self, key: int = 1, deadline: float | None = None) -> int:
        reply = await self.link.call(self.keeper.loaded[key], [place.drawn()], deadline, 0)
        return int(np.argmax(reply.outputs[0]))


def run(shared: Path, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole() -> None:
        with tempfile.TemporaryDirectory() as runtime:
            page = Page(paths.page(runtime))
            keeper = EngineKeeper(0, None, runtime, page, lambda: None)
            bench = Bench(keeper, EngineLink(0, "cpu", False, 0, 1, runtime), page, runtime, shared)
            keeping = asyncio.ensure_future(keeper.keep())
            try:
                await test(bench)
            finally:
                await keeper.stop()
                await keeping
                bench.link.close()

    asyncio.run(whole())


def test_an_engine_loads_answers_and_lets_go(shared: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        assert await asyncio.gather(*(bench.infer() for _ in range(20))) == [1] * 20
        assert bench.page.count(0) >= 20
        assert bench.page.waiting(0, 1) == 0
        loaded = bench.keeper.loaded[1]
        assert loaded.class_names[1] == "1"
        assert 0 < loaded.seconds < loaded.load_seconds
        # A version that cannot be loaded says so, and costs the other nothing.
        bench.want(key1=1, key2=2)
        await bench.until(lambda: 2 in bench.keeper.failures)
        assert "cannot be loaded" in bench.keeper.failures[2] or "model" in bench.keeper.failures[2]
        assert await bench.infer() == 1
        bench.want()
        await bench.until(lambda: not bench.keeper.loaded)
        with pytest.raises(EngineGone):
            await bench.link.call(loaded, [place.drawn()], None, 0)

    run(shared, test)


@pytest.mark.parametrize("target", [trial.CPU, trial.TPU])
def test_a_trial_tells_a_version_that_ends_its_runtime(
    target: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = str(shared / "models" / "digits" / "1")
    assert asyncio.run(trial.refusal(whole, target)) is None
    # A runtime that is ended by a signal, as one is by some models.
    for name in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "interpreter.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(trial.child, "package_folder", lambda: str(tmp_path))
    assert "SIGSEGV" in str(asyncio.run(trial.refusal(whole, target)))


def test_a_model_that_takes_rows_answers_many_requests_at_once(tmp_path: Path) -> None:
    source = tmp_path / "rows.tflite"
    ends = [End((1, 4), name="x", signature=(-1, 4)), End((1, 4), name="y", signature=(-1, 4))]
    source.write_bytes(build(ends, [Step("ADD", (0, 0), (1,), options=("AddOptions", schema.AddOptionsT()))]))
    place.deploy(tmp_path, "digits", 1, source)

    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        loaded = bench.keeper.loaded[1]
        assert 1 < loaded.batches <= 32
        pid = bench.keeper._process.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)  # so that the requests are in the queue together
        rows = [np.full((1 + number % 2, 4), number, np.float32) for number in range(12)]
        asked = [asyncio.ensure_future(bench.link.call(loaded, [each], None, 0)) for each in rows]
        await asyncio.sleep(0)
        before = bench.page.count(0)
        os.kill(pid, signal.SIGCONT)
        replies = await asyncio.gather(*asked)
        for each, reply in zip(rows, replies, strict=True):
            assert np.array_equal(reply.outputs[0], 2 * each)
        assert max(reply.batch for reply in replies) > 1
        assert bench.page.count(0) - before < 12

    run(tmp_path, test)


def test_an_engine_that_ends_is_started_again_and_says_why(shared: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        pid = bench.keeper._process.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(bench.infer())
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineGone):
            await asyncio.wait_for(waiting, LIMIT)
        await bench.until(lambda: "SIGKILL" in bench.keeper.reason)
        assert not bench.keeper.open
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        assert bench.keeper.open
        assert await bench.infer() == 1

    run(shared, test)


def test_inferences_on_bytes(shared: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        loaded, data = bench.keeper.loaded[1], place.drawn().tobytes()
        got: list[Reply | Refusal | EngineGone] = []
        begin = bench.link.begin
        begin(loaded, 0, [[memoryview(data)[:100], data[100:]]], 0, got.append)
        await bench.until(lambda: got)
        (reply,) = got
        assert isinstance(reply, Reply)
        same = await bench.link.call(loaded, [place.drawn()], None, 0)
        assert reply.outputs == [same.outputs[0].tobytes()] and reply.seconds > 0
        pid = bench.keeper._process.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        for leave in [begin(loaded, 0, [[data]], 0, got.append) for _ in range(5)][:3]:
            leave()
        assert bench.page.waiting(0, 1) == 5
        os.kill(pid, signal.SIGKILL)
        await bench.until(lambda: len(got) == 3)
        assert all(isinstance(each, EngineGone) for each in got[1:])
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        assert bench.page.waiting(0, 1) == 0 and bench.link._arena._used == {}
        begin(loaded, 0, [[data]], 0, got.append)()
        assert await bench.infer() == 1
        await bench.until(lambda: not bench.link._arena._used)
        assert len(got) == 3
        bench.link.close()
        with pytest.raises(EngineGone):
            begin(loaded, 0, [[data]], 0, got.append)
        assert bench.link._arena._used == {}

    run(shared, test)


def test_a_deadline_holds_while_the_engine_does_something_else(shared: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        pid = bench.keeper._process.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Refusal) as caught:
            await bench.infer(deadline=time.monotonic() + 0.05)
        assert caught.value.kind == DEADLINE
        os.kill(pid, signal.SIGCONT)
        assert await bench.infer() == 1
        await bench.until(lambda: not bench.page.waiting(0, 1))

    run(shared, test)


def test_an_inference_that_hangs_leaves_rotation_and_is_ended(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_LATE_SECONDS", 0.1)
    monkeypatch.setattr(engines, "_HANG_SECONDS", 0.3)

    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        pid = bench.keeper._process.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        bench.page.begin(0, 1)  # as the process does before each inference
        waiting = asyncio.ensure_future(bench.infer())
        await bench.until(lambda: not bench.link.ready)
        assert "has not ended for" in bench.keeper.closed_for["late"]
        await bench.until(waiting.done)
        with pytest.raises(EngineGone):
            waiting.result()
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        assert await bench.infer() == 1

    run(shared, test)


def test_a_version_that_hangs_whatever_loads_it_costs_the_others_one_start(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_LOAD_SECONDS", 1.0)
    hanging = place.deploy(shared, version=3) / "model.tflite"
    hanging.rename(tmp_path / "model.tflite")
    os.mkfifo(hanging)

    async def test(bench: Bench) -> None:
        bench.want(key1=1)
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        bench.want(key3=3, key1=1)
        await bench.until(lambda: 3 in bench.keeper.failures)
        assert "ended while it loaded the version: it did not answer in 1 s" in bench.keeper.failures[3]
        await bench.until(lambda: bench.keeper.state == READY and bench.link.ready)
        pid = bench.keeper._process.pid  # type: ignore[union-attr]
        end = time.monotonic() + 2.5
        await bench.until(lambda: time.monotonic() > end)
        assert bench.keeper._process.pid == pid and await bench.infer() == 1  # type: ignore[union-attr]
        # What does not even load what it had before blames no version.
        first = bench.shared / "models" / "digits" / "1" / "model.tflite"
        first.rename(tmp_path / "first.tflite")
        os.mkfifo(first)
        os.kill(pid, signal.SIGKILL)
        await bench.until(lambda: not bench.keeper.failures)
        for model, kept in ((first, "first.tflite"), (hanging, "model.tflite")):
            model.unlink()
            (tmp_path / kept).rename(model)
        await bench.until(lambda: set(bench.keeper.loaded) == {1, 3})

    run(shared, test)
