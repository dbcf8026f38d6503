"""`clusteradm model`: what is deployed, as a table and as a document."""

from __future__ import annotations

from typing import Any

import pytest

from clusteradm.cli.main import main
from clusteradm.testing import FakeHosts

from .conftest import Run, document

TENSOR = {"name": "image", "shape": [1, 28, 28, 1], "dtype": "uint8", "scale": 0.5, "zero_point": 3, "dynamic": False}
MANIFEST: dict[str, Any] = {
    "manifest_version": 1,
    "compiler": None,
    "cached_bytes": 0,
    "streamed_bytes": 0,
    "name": "digits",
    "version": 2,
    "sha256": "ab" * 32,
    "bytes": 123456,
    "labels": 10,
    "labels_sha256": "cd" * 32,
    "inputs": [TENSOR],
    "outputs": [{**TENSOR, "name": "scores", "shape": [1, 10]}],
    "tpu_operations": 1,
    "cpu_operations": {"SOFTMAX": 1},
    "min_runtime": 14,
    "task": "classifier",
    "threshold": 0.25,
    "description": "handwritten \x1b[31mdigits",
}


def version(name: str, number: int, manifest: Any = MANIFEST) -> dict[str, Any]:
    return {"name": name, "version": number, "path": f"/srv/cluster/models/{name}/{number}", "manifest": manifest}


def test_list(hosts: FakeHosts, run: Run) -> None:
    second = {**version("digits", 2), "labels": ["canary", "stable"]}
    versions = [version("digits", 1, None), second, version("other", 1, None)]
    hosts["head"].answer_always("repository-list", {"versions": versions, "left_out": 0})
    lines = [line.split() for line in run("model", "list").splitlines()]
    assert lines[0] == ["model", "version", "labelled", "bytes", "task", "input", "output", "sha256"]
    assert lines[2] == [
        "digits",
        "2",
        "canary,",
        "stable",
        "123,456",
        "classifier",
        "uint8[1,28,28,1]",
        "uint8[1,10]",
        "abababababab",
    ]
    assert lines[1] == ["digits", "1", "-", "its", "manifest", "is", "damaged"] and lines[3][0] == "other"
    found = document(run("model", "list", "--json"))
    assert found["command"] == "model list" and found["left_out"] == 0
    assert found["models"][0] == {
        "name": "digits",
        "version": 1,
        "path": "/srv/cluster/models/digits/1",
        "labelled": [],
    }
    two = found["models"][1]
    assert (two["sha256"], two["bytes"], two["min_runtime"]) == ("ab" * 32, 123456, 14)
    assert two["inputs"] == [TENSOR] and two["cpu_operations"] == {"SOFTMAX": 1}
    request = hosts["head"].requests[0]
    every = {"name": None, "version": None, "label": None}
    assert dict(request.fields) == {"shared": "/srv/cluster", "user": "cluster", **every}


def test_nothing_and_more_than_is_listed(hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> None:
    hosts["head"].answer("repository-list", {"versions": [], "left_out": 0})
    hosts["head"].answer("repository-list", {"versions": [version("digits", 2)], "left_out": 7})
    assert main(["model", "list"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[1:] == ["no models are deployed"]
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().err.splitlines()[1].startswith("7 more versions are not listed")


def test_a_model_that_the_head_cannot_read_is_a_warning(hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> None:
    ill = "the model m cannot be listed: Input/output error, on /srv/cluster/models/m"
    hosts["head"].answer_always("repository-list", {"versions": [], "left_out": 0, "damaged": [ill]})
    assert main(["model", "list"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[1:] == [f"warning: {ill}"]
    assert main(["model", "list", "--json"]) == 0
    assert document(capsys.readouterr().out)["damaged"] == [ill]


@pytest.mark.parametrize(
    "answer",
    [{}, {"versions": 1, "left_out": 0}, {"versions": [{}], "left_out": 0}, {"versions": [], "left_out": 1e999}],
)
def test_an_answer_that_is_damaged(
    answer: dict[str, Any], hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts["head"].answer("repository-list", answer)
    assert main(["model", "list"]) == 3
    assert "head: its reply to repository-list is not as agreed" in capsys.readouterr().err


_USES = (("one", 2), ("other", 1), ("two", 2))


def test_show(hosts: FakeHosts, run: Run) -> None:
    reply = {"models": ["digits"], "versions": [1, 2], **version("digits", 2), "labels": {"canary": 1, "stable": 2}}
    reply["uses"] = [{"kind": "job", "name": name, "version": number} for name, number in _USES]
    hosts["head"].answer_always("repository-show", reply)
    text = run("model", "show", "digits")
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("Edge"))
    assert lines["model"].rstrip() == "digits version 2, the latest" and lines["versions"].rstrip() == "also 1"
    assert lines["where"].rstrip() == "/srv/cluster/models/digits/2 on head, under this path on every host"
    assert lines["labelled"].rstrip() == "stable (canary: version 1)"
    assert lines["used"].split() == ["by", "job", "one,", "job", "two"]
    assert lines["sha256"].rstrip() == "ab" * 32 and lines["classes"].rstrip() == "10 labels"
    assert lines["input"].rstrip() == "image: uint8 1x28x28x1 (scale 0.5, zero 3)"
    assert lines["runtime"].rstrip() == "Edge TPU runtime 14 or newer"
    assert lines["task"].rstrip() == "classifier, answers with a score of 0.25 at least"
    assert "1 operations; on the CPU: SOFTMAX (1)" in text and "\x1b" not in text
    found = document(run("model", "show", "digits", "--version", 2, "--json"))
    assert (found["bytes"], found["labelled"], found["all_labels"]) == (123456, ["stable"], {"canary": 1, "stable": 2})
    assert [use["name"] for use in found["uses"]] == ["one", "two"]
    run("model", "show", "digits:7")
    run("model", "show", "digits@canary")
    asked = [(request.fields["version"], request.fields["label"]) for request in hosts["head"].requests]
    assert asked == [(None, None), (2, None), (7, None), (None, "canary")]


def test_show_of_what_is_not_there(hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> None:
    reply = {"models": ["digits"], "versions": [], "version": None, "path": "", "manifest": None}
    hosts["head"].answer("repository-show", reply)
    assert main(["model", "show", "digit"]) == 2
    assert "there is no model digit on head; deployed are: digits" in capsys.readouterr().err
