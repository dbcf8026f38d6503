"""Versions from end to end: the commands, and a head whose answers are those of the node program."""

from __future__ import annotations

import getpass
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clusteradm.cli.main import main
from clusteradm.errors import HostUnreachable
from clusteradm.lab.digits import __file__ as digits_file
from clusteradm.node import session, texts
from clusteradm.node.account import AccountError
from clusteradm.node.blobs import path_of
from clusteradm.node.models import uses
from clusteradm.node.models.loading import Trial
from clusteradm.node.spec.wire import names
from clusteradm.testing import FakeHosts, FakeNode
from clusteradm.transport.node import NodeError

from .conftest import INVENTORY, Run, document

MODEL = Path(digits_file).with_name("digits.tflite")


def in_this_process(user: str, work: Callable[[], Any], seconds: float | None = None) -> Any:
    """As as_user(), of the same errors. A fork of a process that runs tests takes longer than what is done here."""
    try:
        return json.loads(json.dumps(work()))
    except Exception as error:
        raise AccountError(texts.reason(error)) from None


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the models on a head whose state and share are below tmp_path."""
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("clusteradm.node.models.loading.trial", lambda *args: Trial(True))
    monkeypatch.setattr("clusteradm.node.job.starter.running", lambda jobs: set())
    for module in ("repository", "copies"):
        monkeypatch.setattr(f"clusteradm.node.models.{module}.as_user", in_this_process)
    folder = tmp_path / "shared" / "models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def answers(hosts: FakeHosts) -> Callable[..., None]:
    """A function that has all hosts answer these requests as the node program does."""

    def add(*dos: str, on: tuple[str, ...] = ("head",)) -> None:
        for name in on:
            for do in dos:
                hosts[name].answer_always(do, handled(hosts[name].blobs, do))

    return add


def handled(blobs: dict[str, bytes], do: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """A function from a request's fields to the node program's answer; the bodies that were sent are there before."""
    module, _, function = session.HANDLERS[do].partition(":")
    handler = getattr(importlib.import_module(module), function)

    def answer(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        while blobs:
            digest, body = blobs.popitem()
            Path(path_of(digest)).write_bytes(body)
        # The share of this test, and no account of a board.
        own = {"shared": os.environ["CLUSTERADM_STATE"] + "/../shared", "user": getpass.getuser()}
        request = {**fields, **{name: value for name, value in own.items() if name in fields}}
        try:
            reply: dict[str, Any] = json.loads(json.dumps(handler(request, lambda part: None), default=vars))
        except (OSError, ValueError) as error:
            raise NodeError(str(error), where="head") from error
        return reply

    return answer


@pytest.fixture
def deployed(answers: Callable[..., None], hosts: FakeHosts, run: Run, repository: Path) -> Path:
    """The folder of the model m, of which there are versions 1 and 2."""
    answers(names.REPOSITORY_ADD, names.REPOSITORY_VERIFY)
    for mean in ("127.5", "128"):
        run("deploy-model", MODEL, "--name", "m", "--mean", mean, "--std", "127.5", "--limit", "head")
    return repository / "m"


def flip(path: Path, position: int = -10) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def said(capsys: pytest.CaptureFixture[str], *words: object, status: int) -> str:
    """What a command that ends with this status writes to standard error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    return capsys.readouterr().err


def test_a_label_moves_and_returns(
    deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LABEL, names.REPOSITORY_ROLLBACK, names.REPOSITORY_SHOW, names.REPOSITORY_LIST)
    assert "m@stable is version 1\n" in said(capsys, "model", "label", "m", 1, "stable", status=0)
    assert "m@stable is version 2 (before: version 1)" in said(capsys, "model", "label", "m", 2, "stable", status=0)
    assert "m@stable is version 2 already" in said(capsys, "model", "label", "m", 2, "stable", status=0)
    assert document(run("model", "show", "m@stable", "--json"))["version"] == 2
    run("model", "label", "m", 2, "canary")
    listed = {one["version"]: one["labelled"] for one in document(run("model", "list", "--json"))["models"]}
    assert listed == {1: [], 2: ["canary", "stable"]}
    back = document(run("model", "rollback", "m", "--json"))
    assert {key: back[key] for key in ("label", "version", "before", "changed")} == {
        "label": "stable",
        "version": 1,
        "before": 2,
        "changed": True,
    }
    assert (deployed / "versions.json").stat().st_mode & 0o777 == 0o644
    text = said(capsys, "model", "rollback", "m", status=2)
    assert "m@stable stays version 1: it was no other version before that is still there" in text
    assert "m@canary is no label any more" in said(capsys, "model", "unlabel", "m", "canary", status=0)
    assert sorted(path.name for path in deployed.iterdir()) == ["1", "2", "versions.json"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("label", "m", "7", "stable"), "there is no version 7 of model m on head; m has version 1, 2"),
        (("label", "other", "1", "stable"), "there is no model other on head; clusteradm model list"),
        (("label", "m", "1", "latest"), "latest is always the highest number, and is not moved"),
        (("unlabel", "m", "canary"), "there is no m@canary on head; it has no labels"),
        (("rollback", "m"), "there is no m@stable on head; it has no labels"),
        (("label", "m", "1", "7"), "'7' cannot be a label"),
        (("label", "m", "1", "a/b"), "'a/b' cannot be a label"),
        (("label", "m", "0", "a"), "'0' is no version"),
        (("label", "m", "\u0661", "a"), "is no version"),
        (("label", "../m", "1", "a"), "'../m' cannot be a model's name"),
        (("remove", "m@stable", "--yes"), "name the version by its number"),
        (("remove", "m:latest", "--yes"), "name the version by its number"),
        (("show", "m:stable"), "a label stands behind @: m@stable"),
        (("show", "m:1", "--version", "2"), "m:1 says a version already: without --version 2"),
        (("show", ":1"), "'' cannot be a model's name"),
        (("show", "m@"), "'' cannot be a label"),
    ],
)
def test_what_cannot_be(
    words: tuple[str, ...],
    text: str,
    deployed: Path,
    hosts: FakeHosts,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for do in (names.REPOSITORY_LABEL, names.REPOSITORY_ROLLBACK):
        hosts["head"].answer_always(do, handled({}, do))
    capsys.readouterr()
    try:
        status = main(["model", *words])
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2 and text in capsys.readouterr().err
    for answers in hosts["head"]._answers.values():  # some errors are known before the head is asked
        for each in answers:
            each.given += 1


@pytest.mark.parametrize("version", ["0", "99999999999", "2147483648", "\u0661", "-1", "9" * 5000, "one"])
def test_what_is_no_version_is_refused_before_any_connection(
    version: str, hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("deploy-model", str(MODEL), "--name", "m"), ("infer", "--model", "m", str(MODEL))):
        try:
            status = main([*words, f"--version={version}"])
        except SystemExit as end:
            status = int(str(end.code))
        assert status == 2 and "is no version" in capsys.readouterr().err
    assert hosts.opened == []


def test_no_label_goes_to_a_damaged_version(
    deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LABEL)
    run("model", "label", "m", 1, "stable")
    flip(deployed / "2" / "manifest.json")
    text = said(capsys, "model", "label", "m", 2, "stable", status=2)
    assert "version 2 of m gets no label: its files are not as they were stored" in text
    assert "clusteradm model verify" in text and "m:2" in text
    assert json.loads((deployed / "versions.json").read_text())["labels"]["stable"]["version"] == 1


def test_a_file_of_labels_that_is_damaged_is_said_and_not_forgotten(
    deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LABEL, names.REPOSITORY_LIST)
    run("model", "label", "m", 1, "stable")
    (deployed / "versions.json").write_text('{"labels": ')
    assert "versions.json, which has the model's labels, is damaged" in said(
        capsys, "model", "label", "m", 2, "stable", status=3
    )
    assert len(document(run("model", "list", "--json"))["models"]) == 2
    assert "versions.json" in said(capsys, "model", "list", status=0)


def test_remove_asks_and_numbers_are_not_given_again(
    deployed: Path,
    answers: Callable[..., None],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(names.REPOSITORY_REMOVE, names.REPOSITORY_LIST)
    text = said(capsys, "model", "remove", "m:2", status=2)
    assert "nobody can be asked" in text and "clusteradm model remove m:2 --yes" in text
    asked: list[str] = []
    monkeypatch.setattr("clusteradm.cli.display.can_ask", lambda: True)
    monkeypatch.setattr("clusteradm.cli.display.confirm", lambda table, question: asked.append(table + question))
    assert "nothing was removed" in said(capsys, "model", "remove", "m:2", status=0)
    assert "m version 2: " in asked[0] and asked[0].endswith("Remove m:2 from the cluster?")
    assert document(run("model", "remove", "m:2", "--yes", "--json"))["removed"] == [2]
    assert "there is no version 2 of model m on head; m has version 1" in said(
        capsys, "model", "remove", "m:2", "--yes", status=2
    )
    run("deploy-model", MODEL, "--name", "m", "--mean", "1", "--std", "1", "--limit", "head")
    assert sorted(path.name for path in deployed.iterdir()) == ["1", "3", "versions.json"]
    assert "m: versions 1, 3 removed" in said(capsys, "model", "remove", "m", "--yes", status=0)
    assert list(deployed.parent.iterdir()) == []
    assert "there is no model m" in said(capsys, "model", "remove", "m", "--yes", status=2)
    # What went as a whole has left no numbers, as the question says.
    run("deploy-model", MODEL, "--name", "m", "--limit", "head")
    assert [path.name for path in deployed.iterdir()] == ["1"]
    said(capsys, "model", "remove", "m", status=0)
    assert "the next model that is named m begins with version 1." in asked[-1]
    assert "begins with version 1" not in asked[0]


def test_what_is_deployed_while_the_question_stands_is_not_removed(
    deployed: Path,
    answers: Callable[..., None],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(names.REPOSITORY_REMOVE, names.REPOSITORY_LIST)
    monkeypatch.setattr("clusteradm.cli.display.can_ask", lambda: True)

    def confirm(table: str, question: str) -> bool:
        assert question == "Remove m with 2 versions from the cluster?"
        (deployed / "7").mkdir()
        return True

    with monkeypatch.context() as patch:
        patch.setattr("clusteradm.cli.display.confirm", confirm)
        text = said(capsys, "model", "remove", "m", status=2)
    assert "nothing of m is removed: version 7 was not in the question" in text
    assert "clusteradm model remove" in text
    assert sorted(path.name for path in deployed.iterdir()) == ["1", "2", "7"]
    monkeypatch.setattr("clusteradm.cli.display.confirm", lambda table, question: True)
    assert "m: versions 1, 2, 7 removed" in said(capsys, "model", "remove", "m", status=0)


def test_what_the_endpoint_serves_stays(
    deployed: Path,
    answers: Callable[..., None],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    answers(names.REPOSITORY_REMOVE, names.REPOSITORY_LIST, names.REPOSITORY_SHOW)
    state = deployed.parents[1] / "serving" / "desired.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"revision": 3, "models": [{"name": "m", "policy": {}}]}))
    monkeypatch.setattr(uses, "MAPS", str(tmp_path))
    for words in (("m:2",), ("m",)):
        text = said(capsys, "model", "remove", *words, "--yes", status=2)
        assert f"{words[0]} is not removed: it is used by endpoint m" in text
        assert "clusteradm serve undeploy" in text
    assert document(run("model", "show", "m", "--json"))["uses"] == [{"kind": "endpoint", "name": "m", "version": 2}]
    whole = state.read_text()
    state.write_text(whole[:-5])
    for words in (("remove", "m:1", "--yes"), ("show", "m")):
        assert "cannot be read" in said(capsys, "model", *words, status=3)  # nobody knows what is served
    state.write_text(whole)
    run("model", "remove", "m:1", "--yes")  # the highest alone is served
    monkeypatch.setattr(uses, "MAPS", str(tmp_path / "none"))  # after `serve down`
    run("model", "remove", "m", "--yes")
    assert list(deployed.parent.iterdir()) == []


def test_what_is_used_or_labelled_stays(
    deployed: Path,
    answers: Callable[..., None],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    answers(names.REPOSITORY_REMOVE, names.REPOSITORY_LIST, names.REPOSITORY_LABEL, names.REPOSITORY_SHOW)
    run("model", "label", "m", 1, "stable")
    text = said(capsys, "model", "remove", "m:1", "--yes", status=2)
    assert "m:1 is not removed: it is labelled stable" in text and "model unlabel" in text
    job = "20261123-170102-3fa9c2"
    model = {"name": "m", "version": 2, "path": "p", "sha256": "0" * 64, "input": {"dtype": "uint8", "shape": [1]}}
    spec = {"model": model, "head": "head", "slots": [], "ranks": None, "top": 5, "python": "/usr/bin/python3"}
    own = tmp_path / "state" / "jobs" / job
    own.mkdir(parents=True)
    (own / "spec.json").write_text(json.dumps({**spec, "job": job, "inputs": 1, "folder": "f"}))
    monkeypatch.setattr("clusteradm.node.job.starter.running", set)
    assert [use.version for use in uses.of("/srv/cluster", "m")] == [2]
    for words in (("m:2",), ("m",)):
        text = said(capsys, "model", "remove", *words, "--yes", status=2)
        assert f"{words[0]} is not removed: it is used by job {job}" in text
        assert "clusteradm job cancel" in text and job in text
    assert document(run("model", "show", "m", "--json"))["uses"] == [{"kind": "job", "name": job, "version": 2}]
    monkeypatch.setattr("clusteradm.node.job.starter.running", lambda jobs: set())
    run("model", "remove", "m", "--yes")  # with its labels
    assert list(deployed.parent.iterdir()) == []


def test_a_removal_that_was_cut_short_is_finished_by_the_next_change(
    deployed: Path, answers: Callable[..., None], run: Run
) -> None:
    answers(names.REPOSITORY_LABEL, names.REPOSITORY_LIST)
    (deployed / "1").rename(deployed / ".removed-0123")
    (deployed / ".versions.json.0123").write_text("{")
    (deployed.parent / ".removed-4567" / "9").mkdir(parents=True)
    assert [one["version"] for one in document(run("model", "list", "--json"))["models"]] == [2]
    run("model", "label", "m", 2, "stable")
    assert sorted(path.name for path in deployed.parent.rglob(".*")) == []


@pytest.mark.parametrize("file", ["model.tflite", "manifest.json", "SHA256SUMS"])
def test_verify_finds_one_bit_in_any_file_and_deploying_again_repairs_it(
    file: str, deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LIST)
    answers(names.REPOSITORY_VERIFY, on=("w1", "w2"))
    assert document(run("model", "verify", "--json"))["ok"] is True
    whole = (deployed / "2" / file).read_bytes()
    for position in (0, len(whole) // 2, -2):
        flip(deployed / "2" / file, position)
        found = document(run("model", "verify", "m", "--json", status=3))
        assert found["ok"] is False and found["hosts"] == ["head", "w1", "w2"]
        assert [(one["version"], one["damaged"]) for one in found["versions"]] == [(1, False), (2, True)]
        assert {damage["everywhere"] for damage in found["damages"]} == {True}
        text = said(capsys, "model", "verify", "m:2", status=3)
        assert "damaged: m version 2: " in text and "deploy the same file again" in text
        again = ("--mean", "128", "--std", "127.5", "--version", "2", "--limit", "head")
        assert "m version 2: repaired" in run("deploy-model", MODEL, "--name", "m", *again)
        assert (deployed / "2" / file).read_bytes() == whole
        assert "m version 2: unchanged" in run("deploy-model", MODEL, "--name", "m", *again)


def test_a_file_that_cannot_be_read_is_damage_that_deploying_again_repairs(
    deployed: Path, answers: Callable[..., None], hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LIST, names.REPOSITORY_LABEL)
    file = deployed / "2" / "model.tflite"
    whole = file.read_bytes()
    file.parent.chmod(0o755)
    file.unlink()
    file.symlink_to("/proc/self/mem")  # opens, and reads as a broken disk does: EIO
    hosts["w1"].answer_always(names.REPOSITORY_VERIFY, {"sha256": {"model.tflite": "unreadable: Stale file handle"}})
    text = said(capsys, "model", "verify", "m", "--limit", "head", status=3)
    assert "damaged: m version 2: model.tflite cannot be read on head (Input/output error)" in text
    assert "deploy the same file again" in text and "m version 1" not in text
    text = said(capsys, "model", "verify", "m:1", "--limit", "w1", status=3)
    assert "model.tflite cannot be read on w1 (Stale file handle)" in text
    assert "its files are not as they were stored" in said(capsys, "model", "label", "m", 2, "stable", status=2)
    again = ("--mean", "128", "--std", "127.5", "--version", "2", "--limit", "head")
    assert "m version 2: repaired" in run("deploy-model", MODEL, "--name", "m", *again)
    assert file.read_bytes() == whole and not file.is_symlink()
    text = said(capsys, "deploy-model", MODEL, "--name", "m", *again[:-1], "w1", status=3)
    assert "not verified: w1: model.tflite is unreadable: Stale file handle" in text


def test_verify_names_the_host_that_reads_otherwise(
    deployed: Path, answers: Callable[..., None], hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LIST)
    whole = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (deployed / "1").iterdir()}
    hosts["w1"].answer_always(names.REPOSITORY_VERIFY, {"sha256": {**whole, "model.tflite": "ab" * 32}})
    hosts["w2"].unreachable = True
    text = said(capsys, "model", "verify", "m:1", status=4)
    assert "m version 1: model.tflite has sha256 abababababab... on w1, and was stored with" in text
    assert "the head reads it well" in text and "health" in text
    assert "not verified: w2: no answer" in text
    hosts["w2"].unreachable = False
    hosts["w2"].answer_always(names.REPOSITORY_VERIFY, {"sha256": dict.fromkeys(whole)})
    text = said(capsys, "model", "verify", "m:1", status=3)
    assert "m version 1: manifest.json is not there on w2" in text


def test_a_version_of_an_earlier_program_is_verified_by_its_manifest(
    deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LIST, names.REPOSITORY_LABEL)
    (deployed / "1").chmod(0o755)
    (deployed / "1" / "SHA256SUMS").unlink()
    text = said(capsys, "model", "verify", "m:1", "--limit", "head", status=0)
    assert "m version 1 is of an earlier program" in text
    run("model", "label", "m", 1, "stable")
    flip(deployed / "1" / "model.tflite")
    found = document(run("model", "verify", "m:1", "--limit", "head", "--json", status=3))
    assert [damage["file"] for damage in found["damages"]] == ["model.tflite"]


@pytest.mark.parametrize(("cuts", "brought", "status"), [(2, 0, 0), (3, 0, 4), (6, 1000, 0)])
def test_an_upload_survives_lost_connections(
    cuts: int,
    brought: int,
    status: int,
    answers: Callable[..., None],
    hosts: FakeHosts,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    repository: Path,
) -> None:
    """`brought`: bytes that each of the connections brings before it is lost."""
    answers(names.REPOSITORY_ADD, *([] if status else [names.REPOSITORY_VERIFY]))
    put = FakeNode.put_blobs
    lost = []

    def cut(node: FakeNode, bodies: Any, progress: Any = None) -> None:
        if len(lost) < cuts:
            lost.append(len(lost) + 1)
            progress(brought * len(lost), 1 << 20)
            raise HostUnreachable("connection lost", where="head")
        put(node, bodies, progress)

    monkeypatch.setattr(FakeNode, "put_blobs", cut)
    text = said(capsys, "deploy-model", MODEL, "--name", "m", "--limit", "head", status=status)
    assert text.count("the connection to the head is lost; connecting again") == (cuts if status == 0 else 2)
    assert (repository / "m" / "1").exists() is (status == 0)
    assert list(Path(path_of("0" * 64)).parent.iterdir()) == []  # used up, or never come


def test_a_full_disk_says_how_to_make_room(hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> None:
    full = NodeError("[Errno 28] No space left on device: '/srv/cluster/models/m/.upload-1'", where="head")
    hosts["head"].answer(names.REPOSITORY_ADD, full)
    text = said(capsys, "deploy-model", MODEL, "--name", "m", status=3)
    assert "its disk is full, and nothing was stored" in text
    assert "clusteradm model list" in text and "clusteradm model remove" in text


def test_what_is_there_is_not_sent_again(deployed: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeNode, "put_blobs", lambda *args: pytest.fail("what is there is not sent"))
    again = ("--name", "m", "--mean", "128", "--std", "127.5", "--limit", "head")
    assert "m version 2: unchanged" in run("deploy-model", MODEL, *again)


def test_copies_are_kept_where_the_inventory_says_so(
    inventory: Path,
    answers: Callable[..., None],
    hosts: FakeHosts,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    repository: Path,
) -> None:
    """Of the latest version, and of those with a label; on every host but the head."""
    inventory.write_text(INVENTORY.replace("vars: {", "vars: {cluster_models: local, "))
    answers(names.REPOSITORY_ADD, names.REPOSITORY_LIST, names.REPOSITORY_LABEL, names.REPOSITORY_SHOW)
    answers(names.REPOSITORY_VERIFY, on=("head", "w1", "w2"))
    wanted: list[list[str]] = []

    def keep(fields: Mapping[str, Any]) -> dict[str, Any]:
        wanted.append(sorted(path.split("/")[-2] for path in fields["models"].values()))
        return {}

    hosts["w1"].answer_always(names.REPOSITORY_COPIES, keep)
    hosts["w2"].answer(names.REPOSITORY_COPIES, {})
    hosts["w2"].answer(names.REPOSITORY_COPIES, {"failed": {"ab" * 32: "no room"}})
    out = run("deploy-model", MODEL, "--name", "m")
    assert "copied to the disks of 2 hosts" in out
    other = MODEL.parent / "labels.txt"
    text = said(capsys, "deploy-model", MODEL, "--name", "n", "--labels", other, status=0)
    assert "warning: not copied to its disk: w2: no room" in text
    assert wanted == [["1"], ["1"]]  # the same file is one copy
    data = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    hosts["w2"].answer_always(names.REPOSITORY_COPIES, {"mended": [data]})
    text = said(capsys, "model", "verify", status=3)
    assert "damaged on the disk of w2, and copied again: " in text
    assert document(run("model", "verify", "--json", "--limit", "w1"))["copies"] == {
        "hosts": ["w1"],
        "mended": {},
        "failed": {},
    }
    run("model", "label", "m", 1, "stable")
    assert "on the disk of every host" in run("model", "show", "m")


def test_versions_beyond_the_list_are_found_and_their_copies_stay(
    inventory: Path,
    deployed: Path,
    answers: Callable[..., None],
    hosts: FakeHosts,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clusteradm.node.models.repository._LIST_COUNT", 1)
    answers(names.REPOSITORY_LIST, names.REPOSITORY_LABEL, names.REPOSITORY_REMOVE)
    said(capsys, "model", "verify", "m:2", "--limit", "head", status=0)
    run("model", "label", "m", 2, "stable")
    said(capsys, "model", "verify", "m@stable", "--limit", "head", status=0)
    assert "1 more version not verified" in said(capsys, "model", "verify", "m", "--limit", "head", status=3)
    text = said(capsys, "model", "verify", "m:7", "--limit", "head", status=2)
    assert "there is no version 7 of model m" in text
    assert "there is no model n on head; deployed are: m" in said(capsys, "model", "verify", "n", status=2)
    inventory.write_text(INVENTORY.replace("vars: {", "vars: {cluster_models: local, "))
    others: list[bool] = []

    def keep(fields: Mapping[str, Any]) -> dict[str, Any]:
        others.append(fields["others"])
        return {}

    for name in ("w1", "w2"):
        hosts[name].answer_always(names.REPOSITORY_COPIES, keep)
    text = said(capsys, "model", "label", "m", 1, "canary", status=0)
    assert "no copy was removed: the head lists a limited number of versions, and left out 1" in text
    run("model", "unlabel", "m", "stable")
    run("model", "remove", "m:2", "--yes")
    assert others == [True] * 4 + [False] * 2


def test_copies_of_what_the_head_cannot_read_stay(
    inventory: Path, deployed: Path, answers: Callable[..., None], hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LIST, names.REPOSITORY_LABEL)
    inventory.write_text(INVENTORY.replace("vars: {", "vars: {cluster_models: local, "))
    others: list[bool] = []

    def keep(fields: Mapping[str, Any]) -> dict[str, Any]:
        others.append(fields["others"])
        return {}

    for name in ("w1", "w2"):
        hosts[name].answer_always(names.REPOSITORY_COPIES, keep)
    assert "no copy was removed" not in said(capsys, "model", "label", "m", 1, "stable", status=0)
    manifest = deployed / "2" / "manifest.json"
    manifest.parent.chmod(0o755)
    manifest.unlink()
    text = said(capsys, "model", "unlabel", "m", "stable", status=0)
    assert "no copy was removed: the head cannot read all versions" in text and "clusteradm model verify" in text
    assert others == [False] * 2 + [True] * 2


def test_a_bit_that_flips_in_the_file_of_labels_is_found(
    deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LABEL, names.REPOSITORY_LIST, names.REPOSITORY_SHOW)
    run("model", "label", "m", 2, "stable")
    text = (deployed / "versions.json").read_text()
    (deployed / "versions.json").write_text(text.replace('"version": 2', '"version": 0'))
    assert "its contents are not what its sum is of" in said(capsys, "infer", "--model", "m@stable", MODEL, status=3)
    found = document(run("model", "verify", "--limit", "head", "--json", status=3))
    assert (found["ok"], found["damages"]) == (False, []) and "versions.json" in found["damaged_labels"][0]
    assert "damaged: " in said(capsys, "model", "verify", "m:1", "--limit", "head", status=3)


def test_without_the_head_nobody_says_that_it_reads_well(
    deployed: Path, answers: Callable[..., None], hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LIST)
    hosts["w1"].answer_always(names.REPOSITORY_VERIFY, {"sha256": {"model.tflite": "ab" * 32}})
    text = said(capsys, "model", "verify", "m:1", "--limit", "w1", status=3)
    assert "see whether the head reads it so, too: " in text and "the head reads it well" not in text


def test_ctrl_c_says_that_what_has_arrived_is_kept(
    answers: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(names.REPOSITORY_ADD)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeNode, "put_blobs", interrupted)
    text = said(capsys, "deploy-model", MODEL, "--name", "m", status=130)
    assert "what has arrived of the model is kept on the head for a week" in text


def test_a_rollback_passes_over_versions_that_are_gone_and_refuses_damaged_ones(
    deployed: Path, answers: Callable[..., None], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(names.REPOSITORY_LABEL, names.REPOSITORY_ROLLBACK, names.REPOSITORY_REMOVE, names.REPOSITORY_LIST)
    for mean in ("3", "4"):
        run("deploy-model", MODEL, "--name", "m", "--mean", mean, "--std", "3", "--limit", "head")
    for version in (1, 2, 3, 4, 3):
        run("model", "label", "m", version, "stable")
    run("model", "remove", "m:4", "--yes")
    run("model", "rollback", "m")  # 3 again is no step back
    assert json.loads((deployed / "versions.json").read_text())["labels"]["stable"] == {"version": 2, "before": [1]}
    flip(deployed / "1" / "model.tflite")
    text = said(capsys, "model", "rollback", "m", status=2)
    assert "m@stable stays version 2: the files of version 1 are not as they were stored" in text
