"""What the agreement with Ansible cannot show of the modules for programs, accounts, services and packages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node import spec

Do = Callable[..., dict[str, Any]]


def test_what_a_command_leaves_running_is_not_waited_for(do: Do) -> None:
    begin = time.monotonic()
    assert do("shell", cmd="sleep 30 & echo begun")["stdout"] == "begun"
    assert time.monotonic() - begin < 10


def test_a_large_input_and_output(do: Do, tmp_path: Path) -> None:
    text = "0123456789" * 50_000
    assert do("command", argv=["cat"], stdin=text, stdin_add_newline=False)["stdout"] == text
    assert do("command", cmd="true", stdin=text)["rc"] == 0  # takes nothing of it


@pytest.mark.parametrize("word", ["$AGREE_NOT_THERE", "~nobody-of-this-name"])
def test_what_stands_for_nothing_stays(do: Do, word: str) -> None:
    assert do("command", argv=["echo", word])["stdout"] == word


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("user", {"name": "x", "login_class": "staff"}),
        ("user", {"name": "x", "state": "locked"}),
        ("group", {"name": "x", "local": True}),
        ("systemd", {"name": "x", "state": "started", "scope": "user"}),
        ("service", {"name": "x", "state": "started", "use": "upstart"}),
        ("shell", {"cmd": "true", "argv": ["true"]}),
    ],
)
def test_what_is_not_there_is_refused(module: str, args: dict[str, Any]) -> None:
    with pytest.raises(spec.OptionError):
        spec.normalise(module, args)
