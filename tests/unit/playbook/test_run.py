"""Whole runs against the real node program."""

from __future__ import annotations

from pathlib import Path

from .conftest import LocalFleet, Play


def test_a_simple_play(play: Play, tmp_path: Path) -> None:
    outcome = play(
        f"""
        - hosts: head
          become: true
          gather_facts: false
          tasks:
            - name: Say it
              ansible.builtin.command: echo {{{{ greeting }}}}
              register: said
            - name: Keep it
              ansible.builtin.shell: echo '{{{{ said.stdout }}}}, {{{{ colour }}}}' > {tmp_path}/said
              when: said.rc == 0
            - name: Not this
              ansible.builtin.command: "false"
              when: said.stdout == 'something else'
        """
    )
    assert outcome.results("head") == [("Say it", "changed"), ("Keep it", "changed"), ("Not this", "skipped")]
    assert (tmp_path / "said").read_text() == "hello head, blue\n"
    recap = outcome.recap.hosts
    assert (recap["head"].ok, recap["head"].changed, recap["head"].skipped) == (2, 2, 1)
    assert list(recap) == ["head"]
