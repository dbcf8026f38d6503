"""The repair of package sources whose Debian release moved to the archive (playbooks/prepare.yml)."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from clusteradm import shipped
from clusteradm.playbook.render.jinja import Templates

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "apt"
TEMPLATE = shipped.TEMPLATES / "node" / "etc" / "apt" / "sources.list.j2"

ARCHIVE = "http://archive.debian.example"
REPAIRED = {
    "eagle-sources.list": [
        f"deb [check-valid-until=no] {ARCHIVE}/debian buster main",
        "#deb-src http://mirror.debian.example/debian buster main",
        # Folded into the last point release, and not in the archive: one dead source fails the whole update.
        f"# deb [check-valid-until=no] {ARCHIVE}/debian buster-updates main",
        f"deb [check-valid-until=no] {ARCHIVE}/debian buster-backports main contrib",
    ],
    "eagle-security.list": [
        f"deb [check-valid-until=no] {ARCHIVE}/debian-security buster/updates main",
        "deb [arch=arm64,armhf trusted=yes check-valid-until=no] "
        f"{ARCHIVE}/debian-security buster/updates main non-free",
    ],
}
UNTOUCHED = ["eagle-mendel.list", "bookworm-sources.list"]


@pytest.fixture(scope="module")
def archived_source() -> str:
    """The expression of playbooks/vars/sources.yml, rendered."""
    variables = yaml.safe_load((shipped.PLAYBOOKS / "vars" / "sources.yml").read_text(encoding="utf-8"))
    rendered = Templates().string(variables["archived_source"], variables)
    assert isinstance(rendered, str)
    return rendered


def repair(text: str, archived_source: str) -> str:
    item = {"content": base64.b64encode(text.encode()).decode()}
    source = TEMPLATE.read_text(encoding="utf-8")
    return Templates().file(source, str(TEMPLATE), {"item": item, "archived_source": archived_source})


def found_by_grep(path: Path, archived_source: str) -> bool:
    """As the playbook's task looks for files, with grep's idea of a regular expression and not Python's."""
    return subprocess.run(["grep", "-qE", archived_source, path], check=False).returncode == 0


@pytest.mark.parametrize("name", REPAIRED)
def test_archived_releases_go_to_the_archive_of_the_same_project(name: str, archived_source: str) -> None:
    path = FIXTURES / name
    assert found_by_grep(path, archived_source)
    assert repair(path.read_text(encoding="utf-8"), archived_source).splitlines() == REPAIRED[name]


@pytest.mark.parametrize("name", REPAIRED)
def test_a_repaired_file_stays_as_it_is(name: str, archived_source: str) -> None:
    once = repair((FIXTURES / name).read_text(encoding="utf-8"), archived_source)
    assert repair(once, archived_source) == once


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_not_archived_or_not_the_projects_own_host_is_left_alone(name: str, archived_source: str) -> None:
    path = FIXTURES / name
    text = path.read_text(encoding="utf-8")
    assert not found_by_grep(path, archived_source)
    assert repair(text, archived_source) == text


def test_no_host_of_the_project_is_named() -> None:
    for path in [*shipped.PLAYBOOKS.rglob("*.yml"), *shipped.TEMPLATES.rglob("*.j2")]:
        assert not re.search(r"[a-z]\.debian\.[a-z]", path.read_text(encoding="utf-8")), path
