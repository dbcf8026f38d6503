"""The pages of docs/ say what the code says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from clusteradm.cli.commands import parser
from clusteradm.health.checks import board, drift, links, machine, mpi
from clusteradm.health.tpu import state as tpu

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def commands(page: Path) -> list[str]:
    """The clusteradm commands of the page's blocks of code, without comment and redirection."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("clusteradm ")]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_is_understood(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    # Exits where an option is unknown; nothing is run.
    assert parser(words).parse_args(words).command == words[0]


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 15


def test_every_state_of_health_is_described() -> None:
    page = (ROOT / "docs/health.md").read_text()
    states = set()
    for module in (board, drift, links, machine, mpi, tpu):
        states |= set(re.findall(r'"([A-Z][A-Z0-9_]{2,})"', Path(module.__file__).read_text()))
    described = set(re.findall(r"[A-Z][A-Z0-9_]{2,}", page))
    assert states - described - {"ALIVE"} == set()  # a word of sysfs
