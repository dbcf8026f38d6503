"""The whole server of a board with servables of every kind, in their processes, asked over HTTP."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import servable_definitions as definitions
import serve_place as place
from serve_process import Server

pytest.importorskip("aiohttp")


def served(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "policy": {"kind": "latest", "latest": 1}} for name in names]


def infer(server: Server, name: str, *inputs: tuple[str, str, list[int], Any]) -> tuple[int, Any]:
    tensors = [dict(zip(("name", "datatype", "shape", "data"), each, strict=True)) for each in inputs]
    status, answer = server.ask(f"/v2/models/{name}/infer", json.dumps({"inputs": tensors}).encode())
    if status != 200:
        return status, answer["error"]
    return status, {each["name"]: each["data"] for each in answer["outputs"]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    definitions.deploy_all(tmp_path / "shared", tmp_path)
    place.desire(tmp_path / "shared", served("look", "words", "features", "double", "names", "colours"))
    server = Server(tmp_path, packages=str(definitions.package(tmp_path / "packages")))
    yield server
    server.process.kill()
    server.process.wait()


def state(server: Server, name: str) -> tuple[str, str]:
    versions = server.ask("/clusteradm/state")[1]["versions"]
    return next((each["state"], each["reason"]) for each in versions if each["name"] == name)


def test_servables_of_every_kind(server: Server, tmp_path: Path) -> None:
    server.until(lambda: server.ask("/clusteradm/balance")[0] == 200)
    # An ensemble is not ready without its members, and says which.
    assert state(server, "look") == (
        "LOADING",
        "step shade: model shades is not served here: clusteradm serve deploy shades",
    )
    picture = base64.b64encode(definitions.picture()).decode()
    status, error = infer(server, "look", ("picture", "BYTES", [1], [{"b64": picture}]))
    assert status == 503
    assert "model shades is not served here" in error
    names = ("look", "words", "features", "double", "names", "colours", "shades")
    place.desire(tmp_path / "shared", served(*names), 2)
    server.until(lambda: state(server, "look")[0] == "AVAILABLE")

    assert infer(server, "words", ("word", "BYTES", [3], ["dog", "cat", "fish"])) == (200, {"number": [9, 7, -1]})
    ages = ("age", "FP32", [2, 1], [50, 30])
    colours, cities = ("colour", "BYTES", [2], ["red", "pink"]), ("city", "INT64", [2], [1, 0])
    whole = [1, 1, 0, 3, 4, -1, 0, 0, 1, 2]
    quantised = [5, 5, 3, 9, 11, 1, 3, 3, 5, 7]
    assert infer(server, "features", ages, colours, cities) == (200, {"all": whole, "quantised": quantised})
    bad = ("city", "INT64", [2], [1, 2])
    assert infer(server, "features", ages, colours, bad) == (400, "feature city_row: 2 is none of its values")
    status, found = infer(server, "look", ("picture", "BYTES", [1], [{"b64": picture}]))
    assert status == 200, found
    # Of red and blue, half each: the two boxes of these, the better score first, of which the first is all red.
    assert found["boxes"] == [0, 0, 0.5, 0.5, 0.5, 0, 1, 0.25]
    assert found["labels"] == ["red", "red"]
    assert found["names"] == ["red one", "red one"]
    assert found["shades"] == pytest.approx([1, 0, 0, 1, 0, 0])
    assert found["top"] == [0, 1, 0, 1]

    # What ends a Python function's process ends nothing else, and that comes again.
    status, found = infer(server, "double", ("x", "FP32", [2], [1, 3]))
    assert (status, found["y"]) == (200, [2, 6])
    assert infer(server, "double", ("x", "FP32", [1], [-1])) == (400, "no negative numbers")
    assert infer(server, "double", ("x", "FP32", [1], [-4])) == (500, "it raises KeyError: 'a defect'")
    assert infer(server, "double", ("x", "FP32", [1], [-5]))[1].startswith("it needs more memory than it may have")
    status, error = infer(server, "double", ("x", "FP32", [1], [-2]))
    assert status == 500, error
    assert "its process was lost while it worked on this request" in error
    assert infer(server, "words", ("word", "BYTES", [1], ["dog"])) == (200, {"number": [9]})
    again = server.until(lambda: dict([infer(server, "double", ("x", "FP32", [1], [1]))]).get(200))
    assert again["text"] != found["text"]
    status, error = infer(server, "double", ("x", "FP32", [1], [-3]))
    assert status == 500, error
    server.until(lambda: infer(server, "double", ("x", "FP32", [1], [1]))[0] == 200)
    # With what it has started, which has its sockets; and without its sockets.
    for fault in (-6, -7):
        began = time.monotonic()
        assert infer(server, "double", ("x", "FP32", [1], [fault]))[0] == 500
        assert time.monotonic() - began < 1.5, fault  # of the two seconds that a call may take
        server.until(lambda: infer(server, "double", ("x", "FP32", [1], [1]))[0] == 200)
    engines = server.ask("/clusteradm/state")[1]["engines"]
    assert sorted(each["servables"] for each in engines) == ["", "python double:1", "servables"]
    assert b"printed" in server.log.read_bytes()

    # A version that does not load replaces none.
    place.define(tmp_path / "shared", "double", definitions.DOUBLE.replace("point: double", "point: absent"), 2)
    server.until(lambda: "doubling:Nothing cannot be made" in json.dumps(server.ask("/clusteradm/state")[1]))
    number = definitions.DOUBLE.replace("point: double", "point: number").replace("parameters: {factor: 2}\n", "")
    place.define(tmp_path / "shared", "double", number, 3)
    server.until(lambda: "doubling:NUMBER is no function" in json.dumps(server.ask("/clusteradm/state")[1]))
    assert infer(server, "double", ("x", "FP32", [1], [1]))[0] == 200
