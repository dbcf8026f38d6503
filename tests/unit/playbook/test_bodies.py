"""What copy and template put into files, from the admin's side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clusteradm.errors import InputErrors
from clusteradm.playbook import Playbook

from .conftest import Play


def test_bodies(play: Play, tmp_path: Path) -> None:
    (tmp_path / "files/folder").mkdir(parents=True)
    (tmp_path / "files/program").write_bytes(b"#!/bin/sh\n\xff\n")
    (tmp_path / "files/program").chmod(0o751)
    (tmp_path / "header.j2").write_text(
        "#jinja2: lstrip_blocks: True, trim_blocks: False\n\n  {% if 1 %}\n{{ nobody }}{% endif %}\n"
    )
    (tmp_path / "wrong.j2").write_text("#jinja2: variable_start_string: '[['\nx\n")
    into = tmp_path / "into"
    into.mkdir()
    outcome = play(
        f"""
        - hosts: head
          gather_facts: false
          tasks:
            - {{name: file, copy: {{src: program, dest: {into}, mode: preserve}}}}
            - {{name: mapping, copy: {{content: {{a: [1, null]}}, dest: {into}/json}}}}
            - {{name: number, copy: {{content: 42, dest: {into}/number}}}}
            - {{name: each, copy: {{content: "{{{{ item }}}}", dest: "{into}/{{{{ item }}}}"}}, loop: [a, b]}}
            - {{name: folder, copy: {{src: "{{{{ 'folder' }}}}", dest: {into}}}, ignore_errors: true}}
            - {{name: nowhere, copy: {{src: "{{{{ 'nowhere' }}}}", dest: {into}}}, ignore_errors: true}}
            - {{name: preserved, copy: {{content: x, mode: preserve, dest: {into}/x}}, ignore_errors: true}}
            - {{name: header, template: {{src: header.j2, dest: {into}/x}}, vars: {{nobody: me}}}}
            - {{name: line, template: {{src: header.j2, dest: {into}/y}}, ignore_errors: true}}
            - {{name: wrong, template: {{src: wrong.j2, dest: {into}/y}}, ignore_errors: true}}
        """
    )
    expected = ["changed"] * 4 + ["failed"] * 3 + ["changed"] + ["failed"] * 2
    assert [status.replace("ignored", "failed") for _, status in outcome.results("head")] == expected
    said = {name: outcome.result("head", name)["msg"] for name in ("folder", "nowhere", "line", "wrong")}
    assert "is a folder: copy takes single files" in said["folder"] and "there is neither" in said["nowhere"]
    assert "header.j2:4: " in said["line"] and "not 'variable_start_string'" in said["wrong"]
    assert (into / "program").read_bytes() == b"#!/bin/sh\n\xff\n" and (
        into / "program"
    ).stat().st_mode & 0o777 == 0o751
    assert json.loads((into / "json").read_text()) == {"a": [1, None]} and (into / "number").read_text() == "42"
    assert ((into / "a").read_text(), (into / "b").read_text()) == ("a", "b")
    assert (into / "x").read_text() == "\n\nme\n"


def test_what_cannot_be_copied_is_refused_before_anything_runs(book: Callable[[str], Playbook], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputErrors) as refused:
        book(
            """
            - hosts: head
              tasks:
                - copy: {src: nowhere, dest: /x}
                - copy: {src: folder/, dest: /x}
                - copy: {src: /of/the/host, dest: /x, remote_src: true}
                - copy: {src: "{{ later }}", dest: /x}
            """
        )
    said = [str(problem).removeprefix(f"{tmp_path}/") for problem in refused.value.problems]
    assert len(said) == 2, said
    assert said[0].startswith("site.yml:4: there is neither") and said[1].startswith("site.yml:5: folder/ is a folder")
