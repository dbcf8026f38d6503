"""Every defect of a playbook at once, each with file, line and the nearest thing that there is."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.errors import InputErrors
from clusteradm.inventory import Cluster
from clusteradm.playbook import Playbook, load

Book = Callable[[str], Playbook]


def problems(book: Book, text: str, tmp_path: Path) -> list[str]:
    with pytest.raises(InputErrors) as caught:
        book(text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_the_shipped_playbook_is_in_the_subset(cluster: Cluster) -> None:
    playbook = load(shipped.PLAYBOOKS / "bootstrap.yml", cluster)
    assert [play.name for play in playbook.plays][:3] == ["Prepare", "Packages", "Base"]
    assert all(play.strategy == "free" for play in playbook.plays)


def test_every_defect_at_once(book: Book, tmp_path: Path) -> None:
    found = problems(
        book,
        """\
        - hosts: all
          gather_fact: false
          becom: true
          strategy: fast
          vars:
            good: "{{ 1 }}"
            bad: "{{ 1 "
          tasks:
            - name: A module that is not there
              ansible.builtin.tenplate: {dest: /x}
            - name: An option that is not there
              ansible.builtin.template:
                src: nowhere.j2
                destination: /x
            - file: {path: /x, state: dir, force: maybe}
            - apt: {}
            - command: echo
              whenn: true
              notify: Restart thing
            - name: Nothing
            - command: echo
              shell: echo
            - user: name=x
            - command: echo
              when: a ==
              loop: 5
              register: no-name
              loop_control: {loop_var: x}
            - command: "{{ x | filter_that_is_not }}"
          handlers:
            - name: Restart things
              command: echo
        - tasks: []
        - hosts: nobody
        """,
        tmp_path,
    )
    expected = [
        'site.yml:2: a play has no keyword "gather_fact" here; did you mean "gather_facts"?',
        'site.yml:3: a play has no keyword "becom" here; did you mean "become"?',
        'site.yml:4: strategy takes "linear" or "free"',
        "site.yml:7: bad: unexpected end of template, expected 'end of print statement'.",
        'site.yml:10: there is no module and no keyword "ansible.builtin.tenplate" here; did you mean "template"?',
        f"site.yml:13: there is neither {tmp_path}/templates/nowhere.j2 nor {tmp_path}/nowhere.j2",
        'site.yml:14: template has no option "destination" here; did you mean "dest"?',
        "site.yml:15: file: force cannot be 'maybe' (bool)",
        "site.yml:15: file: state must be one of absent, directory, file, link, touch, not 'dir'",
        "site.yml:16: apt needs one of the options autoclean, autoremove, clean, deb, name, update_cache, upgrade",
        'site.yml:18: a task has no keyword "whenn" here; did you mean "when"?',
        'site.yml:17: there is no handler "Restart thing" in this play; did you mean "Restart things"?',
        "site.yml:20: the task has no module",
        "site.yml:22: a task has one module, not command and shell",
        "site.yml:23: user takes its options as a mapping, one on each line",
        "site.yml:25: when: ",
        "site.yml:26: loop takes a list",
        "site.yml:27: register takes the name of a variable",
        'site.yml:28: loop_control takes a mapping with the one key "label"',
        "site.yml:29: cmd: No filter named 'filter_that_is_not'",
        "site.yml:33: a play needs hosts",
        "site.yml:34: the pattern 'nobody' matches no host and no group",
    ]
    for beginning in expected:
        assert any(problem.startswith(beginning) for problem in found), (beginning, found)
    assert len(found) == len(expected), "\n".join(found)


def test_a_missing_option_and_two_that_exclude_each_other(book: Book, tmp_path: Path) -> None:
    found = problems(
        book,
        """\
        - hosts: all
          become: true
          tasks:
            - template: {src: inventory.yml}
            - blockinfile: {path: /x, insertafter: a, insertbefore: b}
        """,
        tmp_path,
    )
    assert found == [
        'site.yml:4: template needs the option "dest"',
        "site.yml:5: blockinfile takes only one of the options insertafter, insertbefore",
    ]


def test_imports_and_variable_files(book: Book, tmp_path: Path) -> None:
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "inner.yml").write_text(
        textwrap.dedent(
            """\
            - name: Inner
              hosts: head
              become: true
              vars_files: [colours.yml]
              tasks: [{command: echo, regster: x}]
            - import_playbook: inner.yml
            - import_playbook: iner.yml
            """
        )
    )
    (tmp_path / "plays" / "colours.yml").write_text("red: 1\nblue: '{{ x'\nred: 2\n2x: 1\n")
    found = problems(book, "- import_playbook: plays/inner.yml\n", tmp_path)
    assert found == [
        "plays/colours.yml:2: blue: unexpected end of template, expected 'end of print statement'.",
        'plays/colours.yml:3: "red" is there twice',
        'plays/colours.yml:4: "2x" is not a valid variable name',
        'plays/inner.yml:5: a task has no keyword "regster" here; did you mean "register"?',
        "plays/inner.yml:6: inner.yml imports itself",
        f'plays/inner.yml:7: there is no file {tmp_path}/plays/iner.yml; did you mean "inner.yml"?',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts: all\n", "site.yml:1: a playbook is a list of plays"),
        ("- hosts: [\n", "site.yml:2: not valid YAML: "),
        ("- hosts: all\n  tasks:\n    - command: !vault x\n", "site.yml:3: not valid YAML: unknown tag"),
        ("- hosts: all\n  hosts: head\n", 'site.yml:2: "hosts" is there twice'),
        ("- all\n", "site.yml:1: a play is a mapping"),
        ("- hosts: all\n  tasks: {command: echo}\n", "site.yml:2: tasks takes a list of tasks"),
        ("- hosts: all\n  vars_files: [nowhere.yml]\n", "site.yml:2: there is no file "),
    ],
)
def test_what_is_no_playbook(book: Book, tmp_path: Path, text: str, message: str) -> None:
    assert [problem[: len(message)] for problem in problems(book, text, tmp_path)] == [message]


def test_no_such_file(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(InputErrors, match=r"nowhere\.yml: no such file"):
        load(tmp_path / "nowhere.yml", cluster)


def test_a_syntax_error_in_a_template_file_has_its_own_line(book: Book, tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("a\n{% iff x %}\n")
    found = problems(book, "- hosts: all\n  become: true\n  tasks:\n    - template: {src: t.j2, dest: /x}\n", tmp_path)
    assert found == ["t.j2:2: Encountered unknown tag 'iff'."]


def test_a_command_in_one_string(book: Book) -> None:
    playbook = book(
        """
        - hosts: all
          become: true
          tasks:
            - command: make install creates=/usr/bin/x chdir="/a b"
            - shell: |
                a=1
                echo "$a"   'chdir=not'
            - command: echo x
              args: {creates: /y}
            - command:
                argv: [a, b]
        """
    )
    assert [dict(task.args) for task in playbook.plays[0].tasks] == [
        {"cmd": "make install", "creates": "/usr/bin/x", "chdir": "/a b"},
        {"cmd": "a=1\necho \"$a\"   'chdir=not'\n"},
        {"cmd": "echo x", "creates": "/y"},
        {"argv": ["a", "b"]},
    ]


def test_what_does_not_go_together(book: Book, tmp_path: Path) -> None:
    found = problems(
        book,
        """\
        - hosts: all
          strategy: free
          any_errors_fatal: true
          serial: "0%"
          max_fail_percentage: 101
          tasks:
            - command: echo
              run_once: true
            - command: echo
              loop: [1]
              until: false
            - command: echo
              retries: 2
            - wait_for_connection:
              loop: [1]
            - meta: flush_handlers
              when: true
            - meta: end_play
            - set_fact: {item: 1}
            - import_tasks: nowhere.yml
            - import_tasks: "{{ x }}.yml"
            - import_tasks: site.yml
        """,
        tmp_path,
    )
    expected = [
        "site.yml:3: any_errors_fatal needs strategy: linear",
        "site.yml:4: serial takes a number of hosts, a percentage, or a list of these",
        "site.yml:5: max_fail_percentage takes a number from 0 to 100",
        "site.yml:7: run_once needs strategy: linear",
        "site.yml:9: a task with a loop takes no until here",
        "site.yml:12: retries is about until, which the task does not have",
        "site.yml:14: wait_for_connection takes no loop",
        "site.yml:16: meta takes no when",
        "site.yml:18: meta: free_form must be one of flush_handlers",
        'site.yml:19: "item" is not a valid variable name',
        f"site.yml:20: there is no file {tmp_path}/nowhere.yml",
        "site.yml:21: import_tasks takes the name of a file, without variables",
        "site.yml:22: site.yml imports itself",
    ]
    for beginning in expected:
        assert any(problem.startswith(beginning) for problem in found), (beginning, found)
    assert len(found) == len(expected), "\n".join(found)
