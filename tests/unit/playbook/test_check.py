"""Check mode: nothing changes, and what is not known is said to be unknown."""

from __future__ import annotations

from pathlib import Path

from .conftest import Play


def test_three_states(play: Play, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    outcome = play(
        f"""
        - hosts: w1
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: Is as it should be
              file: {{path: {tmp_path}/there, state: directory}}
            - name: Would change
              file: {{path: {tmp_path}/new, state: directory}}
              notify: After it
            - name: Nobody knows
              shell: date > {tmp_path}/date
              register: date
            - name: Depends on it
              command: echo {{{{ date.stdout }}}}
              register: told
            - name: Depends on that
              assert: {{that: told.rc == 0}}
            - name: Asks whether it is there
              command: echo
              when: date.stdout is defined and date.stdout | default('x') == ''
            - name: Depends on nothing
              command: cat {tmp_path}/inventory.yml
              check_mode: false
              changed_when: false
          handlers:
            - name: After it
              file: {{path: {tmp_path}/handled, state: directory}}
        """,
        check=True,
    )
    assert outcome.results("w1") == [
        ("Is as it should be", "ok"),
        ("Would change", "changed"),
        ("Nobody knows", "unknown"),
        ("Depends on it", "unknown"),
        ("Depends on that", "unknown"),
        ("Asks whether it is there", "unknown"),
        ("Depends on nothing", "ok"),
        ("After it", "changed"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inventory.yml", "site.yml", "state", "there"]
    recap = outcome.recap.hosts["w1"]
    assert (recap.ok, recap.changed, recap.unknown, recap.failed) == (4, 2, 4, 0)
    assert outcome.recap.pending
    assert "Nobody knows" in outcome.result("w1", "Depends on it")["msg"]


def test_what_a_check_changed_nothing_of_is_known(play: Play, tmp_path: Path) -> None:
    outcome = play(
        f"""
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: Same
              file: {{path: {tmp_path}, state: directory}}
              register: same
            - name: Known
              command: echo
              when: same.nothing_of_the_kind is defined
        """,
        check=True,
    )
    assert outcome.results("w1") == [("Same", "ok"), ("Known", "skipped")]
    assert not outcome.recap.pending


def test_a_failure_that_a_run_might_not_have_is_unknown_and_the_check_goes_on(play: Play, tmp_path: Path) -> None:
    tasks = f"""
            - name: Read what is not there yet
              slurp: {{src: {tmp_path}/new/file}}
            - name: Goes on
              file: {{path: {tmp_path}, state: directory}}
        """
    alone = play(f"- hosts: w1\n  become: true\n  gather_facts: false\n  tasks:{tasks}", check=True)
    assert alone.results("w1") == [("Read what is not there yet", "failed")]
    after = play(
        f"""
        - hosts: w1
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: Would make it
              file: {{path: {tmp_path}/new, state: directory}}{tasks}
        """,
        check=True,
    )
    assert after.results("w1") == [
        ("Would make it", "changed"),
        ("Read what is not there yet", "unknown"),
        ("Goes on", "ok"),
    ]
    assert after.recap.hosts["w1"].failed == 0


def test_a_task_in_check_mode_of_a_real_run_compares_only(play: Play, tmp_path: Path) -> None:
    outcome = play(
        f"""
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: Compare
              file: {{path: {tmp_path}/new, state: directory}}
              check_mode: true
              register: compared
            - name: Use it
              command: echo {{{{ compared.changed }}}} {{{{ compared.nothing | default('none') }}}}
        """
    )
    assert outcome.result("w1", "Use it")["stdout"] == "True none"
    assert not (tmp_path / "new").exists()
