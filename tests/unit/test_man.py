"""Manual pages: every command has one, all options are in it, and troff has nothing to say about it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusteradm.cli import commands
from clusteradm.cli.parser import Parser

from .test_docs import load

PAGES = load("man").pages()


def options(parser: Parser) -> Iterator[str]:
    yield from (name for action in parser._actions for name in action.option_strings)
    for child in parser.children.values():
        yield from options(child)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_page_has_all_of_the_help(name: str) -> None:
    text = PAGES[f"clusteradm-{name}"]
    parser = commands.parser([name]).child(name)
    for option in options(parser):
        assert rf"\fB{option}\fR".replace("-", r"\-") in text
    for verb in parser.children:
        assert f".SH {verb.upper()}".replace("-", r"\-") in text
    assert ".SH EXAMPLES" in text or parser.children


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_understands_them(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / f"{name}.1").write_text(text, encoding="utf-8")
    command = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, env={"GROFF_NO_SGR": "1", "PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "clusteradm-exec - run a shell command on hosts, all at once" in " ".join(done.stdout.split())
    assert "clusteradm exec -- 'ls -l /dev/apex_*'" in done.stdout
