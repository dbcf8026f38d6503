"""Convergence without processes: what a board asks its engines for while the desired state and the share change."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import serve_place as place

from clusteradm.node.serve import convergence as module
from clusteradm.node.serve import fetching, share
from clusteradm.node.serve.asking import ShareError
from clusteradm.node.serve.convergence import Convergence
from clusteradm.node.serve.engines import READY, Wish
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.routes import Routes
from clusteradm.node.serve.share import Share
from clusteradm.node.spec.wire.serving import ServeConfig


@dataclass
class Engine:
    """An engine that loads at once what it is told, but for the versions that it cannot."""

    number: int = 0
    device: str = "cpu"
    pci_address: str | None = None
    state: str = READY
    reason: str = ""
    bad: tuple[int, ...] = ()
    slow: bool = False
    loaded: dict[int, Loaded] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    wanted: dict[int, Wish] = field(default_factory=dict)
    unloaded: list[int] = field(default_factory=list)

    def want(self, wanted: dict[int, Wish], again: Collection[int] = ()) -> None:
        self.wanted = wanted
        for key in again:
            self.failures.pop(key, None)
        self.go_on()

    def go_on(self) -> None:
        for key in [key for key in self.loaded if key not in self.wanted]:
            self.unloaded.append(self.loaded.pop(key).version)
        for key, wish in self.wanted.items():
            if wish.version in self.bad:
                self.failures[key] = "it does not load"
            elif not self.slow:
                self.loaded[key] = Loaded(key, wish.name, wish.version, (), ())


class Asked:
    """The share helper's work in this process; away where `away` says so."""

    def __init__(self, shared: str, cache: str) -> None:
        self.share, self.away = Share(shared, cache), ""
        self.go: asyncio.Event | None = None
        self.done: list[str] = []

    async def ask(self, seconds: float, do: str, **options: Any) -> dict[str, Any]:
        if self.go is not None:
            await self.go.wait()
        self.done.append(do)
        if self.away:
            raise ShareError(self.away)
        try:
            answer: dict[str, Any] = getattr(self.share, do)(**options)
        except (OSError, ValueError) as error:
            raise ShareError(str(error)) from None
        if "error" in answer and len(answer) == 1:
            raise ShareError(str(answer["error"]))
        return answer

    def close(self) -> None:
        pass


class Board:
    def __init__(self, folder: Path, engine: Engine | None = None) -> None:
        self.engine = engine or Engine()
        self.config = ServeConfig("b1", "127.0.0.1", str(folder / "shared"), cache=str(folder / "cache"))
        self.published: list[dict[str, list[int]]] = []
        self.convergence = Convergence(self.config, lambda: [self.engine], self.publish)  # type: ignore[list-item]
        self.asked: Asked = self.convergence._asking  # type: ignore[assignment]
        self.copying: Asked = self.convergence._copying  # type: ignore[assignment]
        self.routes = Routes(self.convergence)

    async def publish(self) -> None:
        self.published.append(self.served())

    def served(self) -> dict[str, list[int]]:
        models = self.routes.models([self.engine])  # type: ignore[list-item]
        return {model.name: sorted(each.loaded.version for each in model.versions) for model in models}

    def turn(self, times: int = 3) -> None:
        """Some rounds of `run`, without the waits."""

        async def rounds() -> None:
            for _ in range(times):
                await self.convergence.look()
                await self.convergence.step()
                self.engine.go_on()

        asyncio.run(rounds())

    def states(self) -> list[tuple[int, str]]:
        return [(each.version, each.state) for each in self.convergence.states()]


LATEST = [{"name": "digits", "policy": {"kind": "latest", "latest": 1}}]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    async def tried(folder: str, target: str) -> str | None:
        return "it ends what loads it" if Path(folder, "labels.txt").read_text().startswith("crash") else None

    monkeypatch.setattr(module, "Asking", Asked)
    monkeypatch.setattr(fetching.trial, "refusal", tried)
    monkeypatch.setattr(module, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(fetching, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "_EVERY", 60.0)  # for a copy, which a test does not leave under way
    (tmp_path / "cache").mkdir()
    place.deploy(tmp_path / "shared")
    place.desire(tmp_path / "shared", LATEST)
    return Board(tmp_path)


def shared(board: Board) -> Path:
    return Path(board.config.shared)


def test_a_new_version_is_loaded_before_the_old_one_goes(board: Board) -> None:
    board.turn()
    assert (board.served(), board.convergence.revision) == ({"digits": [1]}, 1)
    place.deploy(shared(board), version=2)
    board.engine.slow = True
    board.turn()
    assert board.served() == {"digits": [1]}
    assert board.states() == [(1, "AVAILABLE"), (2, "LOADING")]
    board.engine.slow = False
    board.turn(5)
    assert board.served() == {"digits": [2]}
    assert (board.states(), board.engine.unloaded) == ([(2, "AVAILABLE")], [1])
    assert all(found["digits"] for found in board.published if found and found != board.published[0])
    assert [each.name.partition("-")[0] for each in Path(board.config.cache, "models", "digits").iterdir()] == ["2"]


def test_a_version_that_does_not_load_replaces_none_and_says_why(board: Board) -> None:
    board.turn()
    board.engine.bad = (2,)
    place.deploy(shared(board), version=2)
    place.desire(shared(board), LATEST, revision=2)
    board.turn(6)
    assert board.served() == {"digits": [1]}
    assert board.convergence.states()[1].reason == "cpu: it does not load"
    assert board.states() == [(1, "AVAILABLE"), (2, "END")]
    assert board.convergence.revision == 2
    # Nor when the engine has to load everything anew.
    board.engine.loaded.clear()
    board.turn()
    assert board.served() == {"digits": [1]}


def test_a_version_whose_files_are_damaged_or_missing_says_so(board: Board) -> None:
    folder = place.deploy(shared(board), version=2)
    (folder / "model.tflite").write_bytes(b"half")
    place.desire(shared(board), [{"name": "digits", "policy": {"kind": "specific", "versions": [1, 2, 7]}}])
    board.turn()
    assert board.served() == {"digits": [1]}
    reasons = {each.version: each.reason for each in board.convergence.states()}
    assert "not as they were deployed" in reasons[2]
    assert "version 7 of model digits is not in the repository" in reasons[7]
    (folder / "model.tflite").write_bytes((place.DIGITS / "digits.tflite").read_bytes())
    board.turn()
    assert board.served() == {"digits": [1, 2]}


def test_a_version_that_ends_its_runtime_is_given_to_no_engine(board: Board) -> None:
    board.turn()
    labels = Path(board.config.shared, "crash.txt")
    labels.write_text("crash\n" + "x\n" * 9)
    place.deploy(shared(board), version=2, path=place.DIGITS / "digits.tflite", labels=labels)
    board.turn()
    assert board.served() == {"digits": [1]}
    assert board.convergence.states()[1].reason == "it ends what loads it"
    assert {wish.version for wish in board.engine.wanted.values()} == {1}


def test_a_label_moves_when_its_version_is_there(board: Board) -> None:
    place.label(shared(board), "digits", {"stable": 1})
    place.deploy(shared(board), version=2)
    board.turn()
    assert board.served() == {"digits": [1, 2]}
    place.deploy(shared(board), version=3)
    place.label(shared(board), "digits", {"stable": 3})
    board.engine.slow = True
    board.turn()
    (model,) = board.routes.models([board.engine])  # type: ignore[list-item]
    assert model.labels == {"stable": 1}
    board.engine.slow = False
    board.turn()
    (model,) = board.routes.models([board.engine])  # type: ignore[list-item]
    assert model.labels == {"stable": 3}


def test_with_the_share_away_all_goes_on_also_after_a_start(board: Board, tmp_path: Path) -> None:
    board.turn()
    board.asked.away = "the head is away"
    board.turn()
    assert board.served() == {"digits": [1]}
    assert board.convergence.error == "the head is away"
    again = Board(tmp_path)
    again.asked.away = "the head is away"
    again.convergence.start()
    again.turn()
    assert again.served() == {"digits": [1]}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"revision": "x"}', '{"revision": 9, "models": [{"name": "../x", "policy": {}}]}']
)
def test_a_damaged_desired_state_changes_nothing(board: Board, text: str) -> None:
    board.turn()
    (shared(board) / "serving" / "desired.json").write_text(text)
    board.turn()
    assert board.served() == {"digits": [1]}
    assert board.convergence.error
    place.desire(shared(board), [], revision=3)
    board.turn(4)
    assert (board.served(), board.convergence.revision, board.convergence.error) == ({}, 3, "")
    assert board.states() == []


@pytest.mark.parametrize("made", ["fifo", "link", "folder"])
def test_a_desired_state_that_is_no_file_is_not_waited_for(board: Board, made: str) -> None:
    board.turn()
    path = shared(board) / "serving" / "desired.json"
    path.unlink()
    if made == "fifo":
        os.mkfifo(path)
    elif made == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    board.turn()
    assert board.served() == {"digits": [1]} and board.convergence.error


def test_of_a_version_only_its_own_files_are_copied(board: Board) -> None:
    folder = place.deploy(shared(board), version=2)
    os.mkfifo(folder / "pipe")
    (folder / "more.bin").write_bytes(b"more")
    board.turn()
    assert board.served() == {"digits": [2]}
    (copied,) = Path(board.config.cache, "models", "digits").iterdir()
    assert {each.name for each in copied.iterdir()} == {"model.tflite", "labels.txt", "manifest.json", "SHA256SUMS"}


def test_a_model_for_other_hosts_is_not_this_boards(board: Board) -> None:
    place.desire(shared(board), [{**LATEST[0], "hosts": ["b2"]}], revision=5)
    board.turn()
    assert (board.served(), board.convergence.revision) == ({}, 5)


@pytest.mark.parametrize(
    "damage", ["{", '{"models": {}}', '{"desired": 3, "models": []}', json.dumps({"desired": "{", "models": {}})]
)
def test_a_damaged_memory_of_the_share_is_not_believed(board: Board, damage: str) -> None:
    Path(board.config.cache, "seen.json").write_text(damage)
    board.convergence.start()
    board.turn()
    assert board.served() == {"digits": [1]}


def test_what_is_desired_is_followed_while_a_version_is_fetched(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deploy(shared(board), "other")
    place.deploy(shared(board), "large")
    place.deploy(shared(board), "last")
    models = [{**LATEST[0], "name": name} for name in ("digits", "other")]
    place.desire(shared(board), models)
    board.turn()
    assert board.served() == {"digits": [1], "other": [1]}
    monkeypatch.setattr(module, "_EVERY", 0.0)

    async def rounds(times: int) -> None:
        for _ in range(times):
            await board.convergence.look()
            await board.convergence.step()
            await asyncio.sleep(0)

    async def run() -> None:
        board.copying.go = asyncio.Event()
        more = [*models, {**LATEST[0], "name": "large"}, {**LATEST[0], "name": "last"}]
        place.desire(shared(board), more, revision=2)
        await rounds(2)
        pruned = board.asked.done.count("prune")
        # The board is drained and another model goes, and with it one that is fetched, and one that would be next.
        place.desire(shared(board), models[:1], revision=3, drained=["b1"])
        await rounds(4)
        assert (board.convergence.desired.drained, board.served()) == (("b1",), {"digits": [1]})
        assert board.convergence.revision == 3
        assert board.asked.done.count("prune") == pruned  # it would remove what is fetched
        board.copying.go.set()
        await rounds(50)
        assert board.copying.done.count("fetch") == 3  # digits, other and large

    asyncio.run(run())
    assert (board.served(), board.states()) == ({"digits": [1]}, [(1, "AVAILABLE")])
    assert [each.name for each in Path(board.config.cache, "models").iterdir()] == ["digits"]


def test_with_the_share_away_nothing_waits_for_a_copy(board: Board, tmp_path: Path) -> None:
    board.turn()
    again = Board(tmp_path)
    again.convergence.start()
    again.asked.away = "the head is away"
    again.copying.go = asyncio.Event()  # as a hung NFS server: for ever
    again.turn()
    assert again.served() == {"digits": [1]} and again.copying.done == []


def test_a_failure_under_an_older_state_is_none_under_the_next(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.0)

    async def run() -> None:
        board.copying.go = asyncio.Event()
        place.desire(shared(board), [{"name": "digits", "policy": {"kind": "specific", "versions": [2]}}], revision=2)
        board.copying.away = "version 2 of model digits is not in the repository"
        await board.convergence.look()
        await board.convergence.step()
        await asyncio.sleep(0)
        place.desire(shared(board), [{"name": "digits", "policy": {"kind": "specific", "versions": [2]}}], revision=3)
        await board.convergence.look()
        copying = board.convergence._fetching._copying
        board.copying.go.set()
        assert copying is not None
        await copying
        assert (board.states(), board.convergence.revision) == ([(2, "START")], 0)

    asyncio.run(run())


def test_a_number_given_anew_after_undeploy_is_the_new_content(board: Board) -> None:
    board.turn()
    place.desire(shared(board), [], revision=2)
    board.turn(4)
    shutil.rmtree(shared(board) / "models" / "digits")
    labels = Path(board.config.shared, "other.txt")
    labels.write_text("other\n" + "x\n" * 9)
    place.deploy(shared(board), path=place.DIGITS / "digits.tflite", labels=labels)
    place.desire(shared(board), LATEST, revision=3)
    board.turn(4)
    assert (board.served(), board.convergence.revision) == ({"digits": [1]}, 3)
    (wish,) = board.engine.wanted.values()
    assert Path(wish.folder, "labels.txt").read_text().startswith("other")


def give_anew(board: Board, first_line: str = "other") -> None:
    """The model is removed, and its number is given to other files."""
    shutil.rmtree(shared(board) / "models" / "digits")
    labels = Path(board.config.shared, "given-anew.txt")
    labels.write_text(f"{first_line}\n" + "x\n" * 9)
    place.deploy(shared(board), path=place.DIGITS / "digits.tflite", labels=labels)


def labels_of(board: Board) -> list[str]:
    wishes = [wish for _, wish in sorted(board.engine.wanted.items())]
    return [Path(wish.folder, "labels.txt").read_text().partition("\n")[0] for wish in wishes]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_board_that_was_away_while_a_number_was_given_anew_takes_the_new_content(
    board: Board, tmp_path: Path, restarted: bool
) -> None:
    board.turn()
    board.asked.away = "the head is away"
    board.turn()
    give_anew(board)
    board.turn()
    if restarted:  # with what it remembers
        board = Board(tmp_path)
        board.asked.away = board.copying.away = "the head is away"
        board.convergence.start()
        board.turn()
    assert (board.served(), labels_of(board)) == ({"digits": [1]}, ["0"])
    board.asked.away = board.copying.away = ""
    board.engine.slow = True
    board.turn()
    # It answers as before while the new one is loaded, aside.
    assert (board.served(), labels_of(board), board.states()) == ({"digits": [1]}, ["0", "other"], [(1, "LOADING")])
    board.engine.slow = False
    board.turn(5)
    assert (board.served(), labels_of(board), board.states()) == ({"digits": [1]}, ["other"], [(1, "AVAILABLE")])
    assert board.engine.unloaded == [1]
    assert len(list(Path(board.config.cache, "models", "digits").iterdir())) == 1


def test_a_number_given_anew_to_what_does_not_load_stays_what_it_was(board: Board) -> None:
    board.turn()
    give_anew(board, "crash")
    board.turn(5)
    assert (board.served(), labels_of(board)) == ({"digits": [1]}, ["0"])
    assert [(each.state, each.reason) for each in board.convergence.states()] == [("END", "it ends what loads it")]
    # Its own files are still those of before, for an engine that starts anew.
    (wish,) = board.engine.wanted.values()
    assert Path(wish.folder, "labels.txt").read_text().startswith("0")


def test_a_version_that_hangs_when_it_is_tried_delays_no_other(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deploy(shared(board), "hangs")
    place.deploy(shared(board), "late")
    tried: list[str] = []
    cancelled: list[str] = []

    async def refusal(folder: str, target: str) -> str | None:
        name = Path(folder).parent.name
        tried.append(name)
        if name == "hangs":
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(name)
        return None

    monkeypatch.setattr(fetching.trial, "refusal", refusal)
    monkeypatch.setattr(module, "_EVERY", 0.05)

    async def until(true: Any) -> None:
        for _ in range(200):
            await board.convergence.look()
            await board.convergence.step()
            board.engine.go_on()
            await asyncio.sleep(0)
            if true():
                return
        raise AssertionError((board.served(), tried))

    async def run() -> None:
        models = [{**LATEST[0], "name": name} for name in ("hangs", "digits")]
        place.desire(shared(board), models)
        await until(lambda: board.served() == {"hangs": [], "digits": [1]} and "hangs" in tried)
        # One that comes later neither; and what is wanted no more is tried no longer.
        place.desire(shared(board), [*models, {**LATEST[0], "name": "late"}], revision=2)
        await until(lambda: board.served() == {"hangs": [], "digits": [1], "late": [1]})
        assert cancelled == []
        place.desire(shared(board), models[1:], revision=3)
        await until(lambda: board.served() == {"digits": [1]} and cancelled == ["hangs"])

    asyncio.run(run())


class Two(Board):
    """A board with two TPUs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.engines = [
            Engine(number, f"000{number}:01:00.0", pci_address=f"000{number}:01:00.0") for number in range(2)
        ]
        self.convergence._engines = lambda: self.engines  # type: ignore[assignment,return-value]

    def on(self, name: str = "digits") -> list[int]:
        return [each.number for each in self.engines if name in [wish.name for wish in each.wanted.values()]]


def test_a_model_is_on_the_tpus_where_it_is_placed_and_moves_without_a_gap(board: Board, tmp_path: Path) -> None:
    two = Two(tmp_path)

    def placed(*copies: str, revision: int) -> None:
        place.desire(shared(two), LATEST, revision, placement=[{"name": "digits", "tpus": list(copies)}])
        two.turn()

    placed("b1:0001:01:00.0", "b2", revision=1)
    assert (two.on(), two.states(), two.convergence.revision) == ([1], [(1, "AVAILABLE")], 1)
    placed("b1", revision=2)
    assert (two.on(), two.convergence.revision) == ([0, 1], 2)
    placed("b1:0000:01:00.0", revision=3)
    assert (two.on(), two.convergence.revision, two.engines[1].unloaded) == ([0], 3, [1])
    # One that is no TPU of serving's here is not waited for, by nobody.
    placed("b1:0005:01:00.0", revision=4)
    (state,) = two.convergence.states()
    assert (two.on(), two.convergence.revision, two.convergence.joined) == ([], 4, True)
    assert "none of the TPUs" in state.reason
    # On other boards: it leaves when its requests have ended, and whoever asks here is told where it is.
    placed("b1", revision=5)
    placed("b2:cpu", revision=6)
    two.turn(3)
    assert (two.on(), two.states(), two.convergence.revision) == ([], [], 6)
    assert two.convergence.elsewhere() == {"digits": "b2"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "this host's disk has no room for it: make some for /cache"),
        (OSError(errno.EACCES, "Permission denied", "/srv/x"), "/srv/x: Permission denied"),
        (OSError(errno.EINVAL, "versions.json is damaged"), "versions.json is damaged"),
        (OSError("no regular file"), "no regular file"),
        (ValueError("no JSON"), "no JSON"),
    ],
)
def test_what_a_board_says_of_its_disk_and_the_share(error: Exception, text: str) -> None:
    assert share._why(error, "/cache").startswith(text)


def test_what_has_failed_is_tried_anew_where_it_is_asked_for_and_no_change_of_others_waits_for_it(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that hangs is tried for a minute, and one that ends an engine costs all that it serves."""
    place.deploy(shared(board), "crashes")
    place.deploy(shared(board), "other")
    tried: list[str] = []

    async def refusal(folder: str, target: str) -> str | None:
        name = Path(folder).parent.name
        tried.append(name)
        return "it hangs" if name == "crashes" else None

    monkeypatch.setattr(fetching.trial, "refusal", refusal)
    board.engine.bad = (7,)
    place.deploy(shared(board), "refused", 7)
    models = [{**LATEST[0], "name": name} for name in ("crashes", "digits", "refused")]

    def after(revision: int, wanted: list[dict[str, Any]], **more: Any) -> list[str]:
        tried.clear()
        failed = dict(board.engine.failures)
        place.desire(shared(board), wanted, revision=revision, **more)
        board.engine.slow = True  # what has failed is not tried unless its failure is forgotten
        board.engine.bad = ()
        board.turn(4)
        forgotten = ["refused"] if failed and not board.engine.failures else []
        board.engine.slow, board.engine.bad = False, (7,)
        board.turn(4)
        assert board.convergence.revision == revision
        return sorted(tried) + forgotten

    assert after(2, models) == ["crashes", "digits", "refused"]
    assert after(3, [*models, {**LATEST[0], "name": "other"}]) == ["other"]
    assert after(4, [*models, {**LATEST[0], "name": "other"}], drained=["b1"]) == []
    assert after(5, [*models, {**LATEST[0], "name": "other"}], drained=["b1"]) == ["crashes", "refused"]
    assert after(6, [{**models[0], "default": "1"}, *models[1:]]) == ["crashes"]
    states = {each.name: each.reason for each in board.convergence.states()}
    assert states["crashes"] == "it hangs" and "does not load" in states["refused"]
