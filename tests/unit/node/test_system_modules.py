"""What the agreement with Ansible cannot show of the modules for programs, accounts, services and packages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
