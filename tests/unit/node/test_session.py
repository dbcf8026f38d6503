"""The node's side of the conversation: it ends when the admin has gone, and its replies can be written anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.session import Session

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'{"do": "hello", "id": 1}',  # no end of the line
        b'{"do": "blob", "id": 1, "sha256": "%s", "size": 1000}\nhalf' % (b"0" * 64),
        b'{"do": "hello", "id": 1}\n' * 3,
    ],
)
def test_the_end_of_the_input_ends_the_program(said: bytes, tmp_path: Path) -> None:
    env = {**os.environ, "CLUSTERADM_STATE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "clusteradm.node"], input=said, capture_output=True, env=env, timeout=60
    )
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == said.count(b"\n")


def test_a_closed_output_ends_the_program(tmp_path: Path) -> None:
    env = {**os.environ, "CLUSTERADM_STATE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "clusteradm.node"], stdin=-1, stdout=-1, env=env) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        process.stdin.write(b'{"do": "hello", "id": 1}\n')
        process.stdin.flush()  # and the input stays open
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\udcffb", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\U0001f600", "\U0001f600"),
        ("\\ud800", "\\ud800"),  # no escape, but these letters
        ("\\\ud800", "\\\ufffd"),
        ("\ud800\ud83d\ude00\ude00", "\ufffd\U0001f600\ufffd"),
        ('plain "text" \n', 'plain "text" \n'),
    ],
)
def test_half_a_character_of_a_files_name_is_replaced(text: str, written: str) -> None:
    reader, writer = os.pipe()
    session = Session(reader, writer)
    reply: dict[str, Any] = {"id": 1, "name": text}
    thread = threading.Thread(target=session._write, args=(reply,))
    thread.start()
    data = os.read(reader, 1 << 16)
    thread.join()
    os.close(reader)
    os.close(writer)
    assert json.loads(data)["name"] == written
