"""deploy-model's two halves: what is refused before any connection, and the repository that the head keeps."""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from graphs import End, Step, build

from clusteradm.errors import UsageError
from clusteradm.models.reference import Reference
from clusteradm.models.repository import too_old
from clusteradm.models.tflite.inspect import NotAModel
from clusteradm.models.upload import prepare
from clusteradm.node.models import repository, store
from clusteradm.node.spec.wire.decode import WireError
from clusteradm.node.spec.wire.manifest import Manifest

USER = getpass.getuser()
MANIFEST = {
    "manifest_version": 1,
    "name": "m",
    "sha256": "0" * 64,
    "bytes": 3,
    "labels": None,
    "labels_sha256": None,
    "inputs": [
        {"name": "i", "shape": [1, 2], "dtype": "uint8", "scale": 0.5, "zero_point": 3, "dynamic": False},
    ],
    "outputs": [],
    "tpu_operations": 1,
    "cpu_operations": {"ADD": 2},
    "min_runtime": None,
    "compiler": None,
    "cached_bytes": 0,
    "streamed_bytes": 0,
    "description": "",
}


@pytest.fixture
def model(tmp_path: Path, compiled: Callable[..., bytes]) -> Path:
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(compiled())
    return path


def test_prepare_says_what_it_found(model: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{number} word{number}\n" for number in range(10)))
    upload = prepare(model, "m", labels)
    assert upload.warnings == ()
    assert upload.files["labels.txt"].splitlines()[3] == b"word3"
    manifest = upload.manifest.to_json()
    assert manifest["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest() == upload.digests["model.tflite"]
    assert (manifest["labels"], manifest["min_runtime"], manifest["tpu_operations"]) == (10, 12, 1)
    assert manifest["inputs"][0]["shape"] == (1, 4, 4, 1)
    json.dumps(manifest)


def test_prepare_warns(tmp_path: Path, compiled: Callable[..., bytes], digits: bytes) -> None:
    path, labels = tmp_path / "m.tflite", tmp_path / "labels.txt"
    path.write_bytes(digits)
    assert [text.split(":")[0] for text in prepare(path, "m").warnings] == ["nothing in it runs on the Edge TPU"]
    labels.write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="2 labels, but the model has 10 classes"):
        prepare(path, "m", labels)
    path.write_bytes(compiled(cpu=2, shape=(4, 4, 4, 1)))
    assert [text.split(":")[0] for text in prepare(path, "m").warnings] == [
        "2 operations stay on the CPU",
        "its batch size is 4",
    ]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ü", "a.b"])
def test_prepare_refuses_names_that_are_no_folders(model: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        prepare(model, name)


def test_prepare_refuses_what_is_not_there_or_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        prepare(tmp_path / "nowhere.tflite", "m")
    (tmp_path / "photo.tflite").write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    with pytest.raises(NotAModel):
        prepare(tmp_path / "photo.tflite", "m")


def test_a_library_that_is_too_old_is_known_by_its_version(model: Path) -> None:
    manifest = prepare(model, "m").manifest  # it needs 12
    documents = {
        "old": {"runtime": {"library": "BuildLabel(x), RuntimeVersion(11)"}},
        "same": {"runtime": {"library": "BuildLabel(SIMULATED by clusteradm lab), RuntimeVersion(12)"}},
        "none": {"runtime": {"library_error": "no such file"}},
        "odd": {"runtime": "?"},
        "lacking": {},
    }
    assert too_old(manifest, documents) == ["old (11)"]


_COUNTS = ("bytes", "tpu_operations", "cached_bytes", "streamed_bytes")


class Head:
    """The node side, with a state and a shared directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.shared = folder / "shared"
        self.state = folder / "state"
        (self.shared / "models").mkdir(parents=True)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        blobs = self.state / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        (blobs / digest).write_bytes(data)
        return digest

    def add(self, data: bytes, version: int | None = None, labels: bytes | None = None, **about: Any) -> dict[str, Any]:
        """`about`: fields of the manifest."""
        files = {"model.tflite": self.put(data)}
        if labels is not None:
            files["labels.txt"] = self.put(labels)
        request = {"shared": str(self.shared), "user": USER, "name": "m", "version": version, "files": files}
        return repository.add({**request, "manifest": {**MANIFEST, **about}}, lambda reply: None)

    def add_split(self, whole: bytes, *segments: bytes) -> dict[str, Any]:
        """A model and its segments."""
        bodies = {"model.tflite": whole, **{f"segment_{n}_of_2.tflite": one for n, one in enumerate(segments)}}
        files = {name: self.put(data) for name, data in bodies.items()}
        request = {"shared": str(self.shared), "user": USER, "name": "m", "version": None, "files": files}
        parts = [{"sha256": files[name], **dict.fromkeys(_COUNTS, 0), "inputs": [], "outputs": []} for name in files]
        return repository.add({**request, "manifest": {**MANIFEST, "segments": parts[1:]}}, lambda reply: None)

    def show(self, version: int | None = None, name: str = "m") -> dict[str, Any]:
        request = {"shared": str(self.shared), "user": USER, "name": name, "version": version}
        return repository.show(request, lambda reply: None)


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    yield Head(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)  # so that pytest can remove it, whoever runs it


def test_versions_count_up_and_never_change(head: Head) -> None:
    first = head.add(b"one", labels=b"a\nb\n")
    assert (first["state"], first["version"]) == ("added", 1)
    assert first["path"] == str(head.shared / "models" / "m" / "1")
    folder = Path(first["path"])
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "model.tflite": 0o444,
        "labels.txt": 0o444,
        "manifest.json": 0o444,
        "SHA256SUMS": 0o444,
    }
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    assert folder.stat().st_mode & 0o777 == 0o555
    assert json.loads((folder / "manifest.json").read_text()) == {**MANIFEST, "version": 1}
    assert head.add(b"two")["version"] == 2
    assert head.add(b"ten", version=10)["version"] == 10
    assert head.add(b"eleven")["version"] == 11  # 11 comes after 10, not after 2
    assert sorted(os.listdir(head.shared / "models" / "m")) == ["1", "10", "11", "2"]


def test_a_version_is_a_number_that_can_be_named(head: Head) -> None:
    for wrong in (0, -1, 1 << 31, 99_999_999_999):
        with pytest.raises(WireError, match="version: no version: whole numbers from 1 to 2147483647"):
            head.add(b"one", version=wrong)
        with pytest.raises(UsageError, match="is no version"):
            Reference("m").at(wrong)
    assert head.add(b"one", version=2_147_483_647)["state"] == "added"
    assert Reference.parse("m:2147483647") == Reference("m").at(2_147_483_647)
    with pytest.raises(ValueError, match=r"m has no number after version 2147483647: name a free one \(--version\)"):
        head.add(b"two")
    assert head.add(b"two", version=1)["state"] == "added"


def test_the_same_again_is_unchanged_and_other_content_is_refused(head: Head) -> None:
    head.add(b"one", labels=b"a\n")
    assert head.add(b"one", labels=b"a\n")["state"] == "unchanged"
    assert head.add(b"one", version=1, labels=b"a\n")["state"] == "unchanged"
    assert head.add(b"two", version=1)["state"] == "taken"
    assert head.add(b"one", version=1)["state"] == "taken"  # the labels are part of it
    assert (head.shared / "models/m/1/model.tflite").read_bytes() == b"one"
    assert head.add(b"one")["version"] == 2  # without labels it is another version


def test_segments_are_files_of_a_version_as_its_model_is(head: Head) -> None:
    path = Path(head.add_split(b"one", b"a", b"b")["path"])
    names = {"model.tflite", "segment_0_of_2.tflite", "segment_1_of_2.tflite", "manifest.json", "SHA256SUMS"}
    assert {one.name for one in path.iterdir()} == names
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)
    assert head.add_split(b"one", b"a", b"b")["state"] == "unchanged"
    # One that is damaged is written again; another one, or none, is another version.
    (path / "segment_1_of_2.tflite").chmod(0o644)
    (path / "segment_1_of_2.tflite").write_bytes(b"c")
    assert not store.whole(str(path))
    assert head.add_split(b"one", b"a", b"b")["state"] == "repaired"
    assert store.whole(str(path))
    assert [head.add_split(b"one", b"b", b"a")[key] for key in ("state", "version")] == ["added", 2]
    assert [head.add(b"one")[key] for key in ("state", "version")] == ["added", 3]


def test_the_same_file_that_is_fed_in_another_way_is_another_version(head: Head) -> None:
    assert head.add(b"one")["version"] == 1
    feed = {"mean": [127.5], "std": [127.5], "layout": None, "source": "user", "pictures": None}
    assert [head.add(b"one", feed=feed)[key] for key in ("state", "version")] == ["added", 2]
    assert [head.add(b"one", feed=feed)[key] for key in ("state", "version")] == ["unchanged", 2]
    assert head.show(2)["manifest"].feed.std == (127.5,)
    assert head.add(b"one", version=2)["state"] == "taken"
    for wrong in ({"std": [0.0]}, {"std": [1.0] * 5}, {"layout": "chwn"}):
        with pytest.raises(WireError, match="feed"):
            Manifest.from_json({**MANIFEST, "feed": wrong})


def test_an_interrupted_upload_leaves_nothing_visible(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            head.add(b"one")
    assert os.listdir(head.shared / "models") == []
    # A process that was killed could not clean up: the next one does, and no listing ever showed it.
    left = head.shared / "models" / "m" / ".upload-dead"
    left.mkdir(parents=True)
    (left / "model.tflite").write_bytes(b"half")
    left.chmod(0o555)
    assert head.show()["versions"] == ()
    assert head.add(b"one")["version"] == 1
    assert os.listdir(head.shared / "models" / "m") == ["1"]


def test_a_damaged_body_never_becomes_a_version(head: Head) -> None:
    digest = head.put(b"one")
    (head.state / "blobs" / digest).write_bytes(b"two")
    assert os.listdir(head.shared / "models") == []
    request = {"shared": str(head.shared), "user": USER, "name": "m", "version": None}
    with pytest.raises(OSError, match="arrived with sha256"):
        repository.add({**request, "files": {"model.tflite": digest}, "manifest": MANIFEST}, lambda reply: None)
    assert os.listdir(head.shared / "models") == []


def test_verify_tells_what_this_host_reads(head: Head) -> None:
    path = head.add(b"one")["path"]
    request = {"user": USER, "path": path, "files": ["labels.txt", "model.tflite"], "within": 0}
    found = repository.verify(request, lambda reply: None)["sha256"]
    assert found == {"labels.txt": None, "model.tflite": hashlib.sha256(b"one").hexdigest()}


def test_a_servable_is_a_version_of_its_definition_and_its_files(head: Head) -> None:
    def add(table: bytes, default: int, version: int | None = None) -> tuple[str, int]:
        servable = {"kind": "lookup", "lookup": {"table": "words.csv", "default": default}}
        files = {"words.csv": head.put(table)}
        request = {"shared": str(head.shared), "user": USER, "name": "m", "version": version, "files": files}
        manifest = {**MANIFEST, "servable": servable}
        found = repository.add({**request, "manifest": manifest}, lambda reply: None)
        return found["state"], found["version"]

    assert add(b"a,1\n", 0) == ("added", 1)
    assert add(b"a,1\n", 0) == ("unchanged", 1)
    assert add(b"a,2\n", 0) == ("added", 2)
    assert add(b"a,2\n", 5) == ("added", 3)
    assert add(b"a,2\n", 0, 3) == ("taken", 3)
    folder = head.shared / "models" / "m" / "3"
    assert sorted(os.listdir(folder)) == ["SHA256SUMS", "manifest.json", "words.csv"]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    for name in ("words.csv", "SHA256SUMS"):
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(b"damaged")
        assert add(b"a,2\n", 5, 3) == ("repaired", 3)
        assert (folder / "words.csv").read_bytes() == b"a,2\n"
    # With another table, what it was cannot be known.
    (folder / "SHA256SUMS").chmod(0o644)
    (folder / "SHA256SUMS").write_bytes(b"damaged")
    assert add(b"a,3\n", 5, 3) == ("taken", 3)


def test_what_is_no_file_is_damage_and_holds_up_nothing(head: Head) -> None:
    folder = Path(head.add(b"one")["path"])
    folder.chmod(0o755)
    (folder / "model.tflite").unlink()
    os.mkfifo(folder / "model.tflite")
    (folder / "labels.txt").mkdir()
    request = {"user": USER, "path": str(folder), "files": ["labels.txt", "model.tflite"], "within": 0, "load": "cpu"}
    found = repository.verify(request, lambda reply: None)
    assert found["sha256"]["labels.txt"] == "unreadable: Is a directory"
    assert found["sha256"]["model.tflite"] != hashlib.sha256(b"one").hexdigest()
    assert head.add(b"one", version=1)["state"] == "repaired"
    assert (folder / "model.tflite").read_bytes() == b"one" and not (folder / "labels.txt").exists()


def test_verify_hashes_nothing_before_all_is_there(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    path = head.add(b"one")["path"]
    waits: list[float] = []
    hashed: list[str] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert hashed == []
        if len(waits) == 3:  # the NFS client sees it at last
            Path(path).chmod(0o755)
            (Path(path) / "labels.txt").write_bytes(b"a\n")

    def sha256(path: str) -> str:
        hashed.append(os.path.basename(path))
        return "0" * 64

    monkeypatch.setattr(repository, "as_user", lambda user, work: work())
    monkeypatch.setattr(repository.time, "sleep", wait)
    monkeypatch.setattr(repository.store, "sha256", sha256)
    request = {"user": USER, "path": path, "files": ["labels.txt", "model.tflite"], "within": 60}
    repository.verify(request, lambda reply: None)
    assert hashed == ["labels.txt", "model.tflite"] and waits == [0.5] * 3
    hashed.clear()
    repository.verify({**request, "files": ["model.tflite", "other"], "within": 0}, lambda reply: None)
    assert hashed == ["model.tflite", "other"]


def test_show_says_what_there_is(head: Head) -> None:
    head.add(b"one")
    head.add(b"two")
    assert (head.show()["version"], head.show()["manifest"].version) == (2, 2)
    assert head.show(1)["path"].endswith("/m/1")
    missing = head.show(7)
    assert (missing["manifest"], missing["versions"], missing["models"]) == (None, (1, 2), ("m",))
    assert head.show(name="other")["manifest"] is None
    with pytest.raises(ValueError, match=r"name: '\.\./m' does not match"):
        head.show(name="../m")


def test_a_manifest_is_what_it_says_or_refused() -> None:
    manifest = Manifest.from_json({**MANIFEST, "version": 3, "of a later program": True})
    assert (manifest.version, manifest.inputs[0].shape, manifest.cpu_operations) == (3, (1, 2), {"ADD": 2})
    assert str(manifest.inputs[0]) == "uint8 1x2 (scale 0.5, zero 3)"
    assert json.loads(json.dumps(manifest.to_json())) == {**MANIFEST, "version": 3}
    for wrong, message in (
        ({"manifest_version": 2}, "manifest_version: format 2; this program reads 1"),
        ({"inputs": [{}]}, r"inputs\[0\].name: missing"),
        ({"inputs": None}, "inputs: expected a list, not null"),
        ({"name": "../m"}, r"name: '\.\./m' does not match"),
        ({"bytes": True}, "bytes: expected a whole number, not true or false"),
        ({"cpu_operations": {"ADD": "2"}}, r"cpu_operations\['ADD'\]: expected a whole number, not text"),
    ):
        with pytest.raises(WireError, match=message):
            Manifest.from_json({**MANIFEST, **wrong})
    with pytest.raises(WireError, match="expected an object, not a list"):
        Manifest.from_json([])


def test_a_version_whose_manifest_is_damaged_is_refused(head: Head) -> None:
    file = Path(head.add(b"one")["path"]) / "manifest.json"
    file.chmod(0o644)
    file.write_text("{}")
    with pytest.raises(OSError, match="the manifest of m version 1 is damaged: clusteradm model verify m"):
        head.show()


def listed(head: Head) -> dict[str, Any]:
    found = repository.list_versions({"shared": str(head.shared), "user": USER}, lambda reply: None)
    return {**found, "versions": [vars(one) for one in found["versions"]]}


def test_list_has_every_version_and_no_more(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(head) == {"versions": [], "left_out": 0, "damaged": ()}
    for data in (b"one", b"two"):
        head.add(data)
    models = head.shared / "models"
    for name in ("no model", "empty", "m/.upload-dead"):
        (models / name).mkdir()
    (models / "file").write_text("")
    found = listed(head)
    assert [(one["name"], one["version"], one["manifest"].version) for one in found["versions"]] == [
        ("m", 1, 1),
        ("m", 2, 2),
    ]
    assert [one["path"] for one in found["versions"]] == [f"{models}/m/1", f"{models}/m/2"]
    monkeypatch.setattr(repository, "_LIST_COUNT", 1)
    assert (len(listed(head)["versions"]), listed(head)["left_out"]) == (1, 1)
    monkeypatch.setattr(repository, "_LIST_BYTES", 3)
    assert (listed(head)["versions"], listed(head)["left_out"]) == ([], 2)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 60000, b'{"a": "' + b"x" * 70000 + b'"}'])
def test_a_damaged_manifest_is_listed_as_none(head: Head, text: bytes) -> None:
    folder = head.shared / "models" / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(text)
    only = {"name": "m", "version": 1, "path": str(folder), "manifest": None, "labels": (), "sums": None}
    assert listed(head)["versions"] == [only]


def test_a_manifest_that_is_a_fifo_holds_up_nothing(head: Head) -> None:
    folder = head.shared / "models" / "m" / "1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "manifest.json")
    assert [one["manifest"] for one in listed(head)["versions"]] == [None]


def test_a_folder_that_cannot_be_listed_costs_its_own_model_alone(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk's error (EIO), which a test cannot have: os.listdir and os.lstat give it for one folder."""
    head.add(b"one")
    head.add(b"two")
    models = head.shared / "models"
    for name in ("ill", "other"):
        (models / name / "1").mkdir(parents=True)
    ill, second = str(models / "ill"), str(models / "m" / "2")
    real = {name: getattr(os, name) for name in ("listdir", "stat", "lstat", "open")}

    def broken(name: str) -> Any:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if f"{path}/".startswith(f"{second}/") or (str(path) == ill and name == "listdir"):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            return real[name](path, *args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, broken(name))
        found = listed(head)
        assert [(one["name"], one["version"], one["manifest"] is None) for one in found["versions"]] == [
            ("m", 1, False),
            ("m", 2, True),
            ("other", 1, True),
        ]
        assert found["damaged"] == (f"the model ill cannot be listed: Input/output error, on {ill}",)
        # It does not stand in the way of another model; of itself it is said what is wrong.
        assert head.show(version=1)["manifest"].version == 1
        with pytest.raises(OSError, match="the manifest of m version 2 is damaged"):
            head.show(version=2)


def test_without_a_repository_the_list_is_empty(head: Head) -> None:
    (head.shared / "models").rmdir()
    assert listed(head) == {"versions": [], "left_out": 0, "damaged": ()}


def test_the_task_is_what_the_model_seems_or_what_the_user_says(model: Path, tmp_path: Path, digits: bytes) -> None:
    path = tmp_path / "digits.tflite"
    path.write_bytes(digits)
    seen = prepare(path, "m")
    assert (seen.task.kind, seen.manifest.task, seen.manifest.threshold) == ("classifier", "classifier", None)
    said = prepare(path, "m", task="embedding")
    assert said.manifest.task == "embedding"
    assert any(text.startswith("--task embedding: it looks like a classifier, as ") for text in said.warnings)
    assert not any("--task" in text for text in prepare(path, "m", task="classifier", threshold=0.4).warnings)
    assert prepare(model, "m").manifest.task in (None, "classifier")
    document = json.loads(json.dumps(prepare(path, "m", threshold=0.4).manifest.to_json()))
    assert Manifest.from_json(document).threshold == 0.4


def test_a_task_or_a_threshold_that_cannot_be_the_models(tmp_path: Path, digits: bytes) -> None:
    path = tmp_path / "digits.tflite"
    path.write_bytes(digits)
    for threshold in (-0.1, 1.5, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--threshold"):
            prepare(path, "m", threshold=threshold)
    with pytest.raises(UsageError, match="a model for embedding has no scores"):
        prepare(path, "m", task="embedding", threshold=0.5)
    maps = tmp_path / "maps.tflite"
    maps.write_bytes(build([End((1, 8, 8, 3)), End((1, 8, 8, 3))], [Step("RELU", (0,), (1,))]))
    with pytest.raises(UsageError, match="--task classifier: its output is no row of one score for each class"):
        prepare(maps, "m", task="classifier")
    for wrong in ({"task": "poetry"}, {"threshold": "high"}):
        with pytest.raises(WireError, match=next(iter(wrong))):
            Manifest.from_json({**MANIFEST, **wrong})


def test_the_same_file_that_is_read_in_another_way_is_another_version(head: Head) -> None:
    assert head.add(b"one", task="classifier")["version"] == 1
    assert head.add(b"one", task="classifier")["state"] == "unchanged"
    assert head.add(b"one", task="embedding")["version"] == 2
    assert head.add(b"one", task="embedding", threshold=0.5)["version"] == 3
    assert head.add(b"one", version=1, task="embedding")["state"] == "taken"
