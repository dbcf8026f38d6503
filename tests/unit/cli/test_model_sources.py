"""Models from addresses and from Coral's zoo: fetched once, checked, and named by what they are."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import lying_server as lies
import pytest
from lying_server import Server

from clusteradm.cli.main import main
from clusteradm.errors import UsageError
from clusteradm.fetch import FetchFailed, download, exchange
from clusteradm.lab.digits import __file__ as digits_file
from clusteradm.models import zoo
from clusteradm.models.inspection.report import report
from clusteradm.models.source import Source
from clusteradm.node.spec.wire.manifest import TASKS
from clusteradm.testing import FakeHosts

from .conftest import Run, document

MODEL = Path(digits_file).with_name("digits.tflite").read_bytes()
SHA256 = hashlib.sha256(MODEL).hexdigest()
OTHER = "ab" * 32


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test, and no pauses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSES", (0.0,) * 4)


def stored(hosts: FakeHosts, times: int = 1) -> None:
    """The head stores what it is sent, and sees it so."""
    for _ in range(times):
        hosts["head"].answer("repository-add", {"state": "lacking", "version": 1, "path": ""})
        hosts["head"].answer("repository-add", {"state": "added", "version": 1, "path": "/m/1"})
        hosts["head"].answer("repository-verify", {"sha256": {"model.tflite": SHA256}, "tried": True})


def test_a_model_is_fetched_once_whatever_the_server_does(
    hosts: FakeHosts, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SECONDS", 1.0)  # of the silence
    stored(hosts, 2)
    # Cut off in the middle, then silent after some bytes; then it serves the rest.
    server = Server(MODEL, acts=[lies.whole(sent=20_000), lies.stall(30_000)])
    with lies.running(server):
        address = server.address("/models/my.digits_edgetpu.tflite")
        words = ("deploy-model", address, "--sha256", SHA256.upper(), "--limit", "head", "--json")
        found = document(run(*words))
        assert (found["name"], found["manifest"]["sha256"]) == ("my_digits", SHA256)
        assert hosts["head"].blobs == {SHA256: MODEL}
        asked = len(server.asked)
        run(*words)
        assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("body", "acts", "text"),
    [
        (MODEL[:-1] + b"x", [], "sha256"),
        (MODEL, [lies.status(404)], "404"),
        (MODEL, [lies.whole(sent=99, length=99)], "(99 bytes)"),
        (MODEL, [lies.whole(length=1 << 40)], "bytes"),
        (MODEL, [lies.whole(sent=1000)] * 20, "the connection ended after 1,000"),
    ],
)
def test_what_is_wrong_is_refused_before_any_connection(
    body: bytes, acts: list[lies.Act], text: str, hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    with lies.running(Server(body, etag=None, acts=acts)) as server:
        address = server.address("/m.tflite")
        assert main(["deploy-model", address, "--sha256", SHA256]) == FetchFailed.exit_code
    said = capsys.readouterr().err
    assert "clusteradm deploy-model: error: " in said and address in said and text in said
    assert hosts.opened == []


def test_off_line(hosts: FakeHosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*args: object, **options: object) -> None:
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(exchange.socket, "getaddrinfo", unresolved)
    assert main(["deploy-model", "coral:mobilenet_v2_1.0_224_quant"]) == FetchFailed.exit_code
    said = capsys.readouterr().err
    assert "name resolution" in said and "mobilenet_v2_1.0_224_quant.tflite" in said


def test_a_file_of_coral_without_a_known_sha256_says_what_came(
    hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(hosts)
    with lies.running(Server(MODEL)) as server:
        name = "mobilenet_v2_1.0_224_quant_edgetpu"
        monkeypatch.setattr(zoo, "find", lambda text: zoo.ZooFile(text, server.address(f"/{text}.tflite"), None))
        assert main(["deploy-model", f"coral:{name}", "--limit", "head"]) == 0
    shown = capsys.readouterr()
    assert f"the catalogue does not know the sha256 of {name}.tflite; what came has {SHA256}" in shown.err
    assert "mobilenet_v2_1_0_224_quant version 1: added" in shown.out


def test_the_sha256_of_a_path_is_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.tflite").write_bytes(MODEL)
    assert Source.parse(str(tmp_path / "m.tflite"), SHA256).local() == (tmp_path / "m.tflite", SHA256)
    assert main(["deploy-model", str(tmp_path / "m.tflite"), "--name", "m", "--sha256", OTHER]) == 2
    assert f"it has sha256 {SHA256}, not {OTHER}" in capsys.readouterr().err


@pytest.mark.parametrize("fetched", [False, True])
def test_what_is_stored_has_the_sha256_whatever_becomes_of_the_file(
    fetched: bool, tmp_path: Path, hosts: FakeHosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is another one between the look at its source and the reading of what is sent."""
    path, local = tmp_path / "m.tflite", Source.local
    path.write_bytes(MODEL)

    def replaced(source: Source, *progress: Any) -> tuple[Path, str]:
        found, sha256 = local(source, *progress)
        found.chmod(0o644)
        found.write_bytes(MODEL[:-1] + b"x")
        return found, sha256

    monkeypatch.setattr(Source, "local", replaced)
    with lies.running(Server(MODEL)) as server:
        model = server.address("/m.tflite") if fetched else str(path)
        assert main(["deploy-model", model, "--name", "m", "--sha256", SHA256]) == 2
    assert f", not {SHA256}" in capsys.readouterr().err and hosts.opened == []


@pytest.mark.parametrize(
    ("text", "sha256", "said"),
    [
        ("https://example.org/m.tflite", None, "with its sha256 alone"),
        ("http://example.org/m.tflite", None, "with its sha256 alone"),
        ("https://example.org/m.tflite", "ab", "--sha256 has 64 digits"),
        ("coral:mobilenet_v2_1.0_224_quants", None, 'did you mean "mobilenet_v2_1.0_224_quant"?'),
        ("coral:", None, "the catalogue has no model ''"),
        ("coral:mobilenet_v2_1.0_224_quant", OTHER, "--sha256 is not that of coral:mobilenet_v2_1.0_224_quant"),
    ],
)
def test_what_names_no_model(text: str, sha256: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Source.parse(text, sha256)


def test_a_file_of_this_machine_needs_a_name() -> None:
    with pytest.raises(UsageError, match="a file is deployed under a name"):
        Source.parse("m.tflite").name(None)
    assert Source.parse("m.tflite").name("a-b") == "a-b"
    assert Source.parse("coral:efficientnet-edgetpu-S_quant_edgetpu").name(None) == "efficientnet-edgetpu-S_quant"
    with pytest.raises(UsageError, match="cannot be a model's name"):
        Source.parse("coral:inception_v1_224_quant").name("a.b")


def test_the_catalogue_is_shown(run: Run) -> None:
    lines = run("model", "catalogue").splitlines()
    assert lines[0].split() == ["name", "task", "input", "published", "ms", "sha256", "known"]
    assert len(lines) == len(zoo.models()) + 1
    found = document(run("model", "catalogue", "--task", "pose", "--json"))["models"]
    assert {model["task"] for model in found} == {"pose"}
    (lightning,) = (model for model in found if "lightning" in model["name"])
    assert lightning["compiled"]["address"] == (
        "https://raw.githubusercontent.com/google-coral/test_data/104342d2d3480b3e66203073dac24f4e2dbb4c41/"
        "movenet_single_pose_lightning_ptq_edgetpu.tflite"
    )


def test_the_table_is_whole() -> None:
    models = zoo.models()
    assert len({model.name for model in models}) == len(models) >= 40
    for model in models:
        assert model.task in TASKS and re.fullmatch(r"\d+x\d+", model.input)
        assert model.usb is None or 0 < model.usb < 1000
        for file in (model.cpu, model.compiled):
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert zoo.find(file.name) == zoo.find(f"{file.name}.tflite") == file


def test_the_table_is_true_of_the_files_at_hand() -> None:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    seen = 0
    for model in zoo.models():
        for file in (model.cpu, model.compiled):
            path = Path(folder) / f"{file.name}.tflite"
            if not path.exists():
                assert file.sha256 is None
                continue
            seen += 1
            about = report(path.read_bytes(), path.name)
            shape = about.model.inputs[0].shape
            assert (about.sha256, about.task.kind) == (file.sha256, model.task)
            assert f"{shape[2]}x{shape[1]}" == model.input
    assert seen >= 10
