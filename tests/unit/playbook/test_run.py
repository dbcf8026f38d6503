"""Whole runs against the real node program."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.playbook import HostRecap, Playbook, Recap, RetryFile, Tags
from clusteradm.playbook.run.playbook_run import batches

from .conftest import LocalConnections, Play


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


def test_a_free_play_without_registered_results_is_one_batch(play: Play, tmp_path: Path) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - command: echo 1
            - command: echo 2
            - command: echo 3
              register: third
            - command: echo {{ third.stdout }}
        """
    )
    assert [status for _, status in outcome.results("w1")] == ["changed"] * 4
    batches = sorted((tmp_path / "state" / "w1" / "batches").iterdir())
    assert len(batches) == 2


def test_handlers_run_once_at_the_end_and_only_if_notified(play: Play, tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcome = play(
        f"""
        - hosts: w1
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: Changes
              shell: echo task >> {log}
              notify: Restart
            - name: Changes again
              shell: echo again >> {log}
              notify: [Restart, topic]
            - name: Changes nothing
              command: "true"
              changed_when: false
              notify: Never
            - name: Says so only when asked
              command: echo x
              register: asked
              changed_when: asked.stdout == 'y'
              notify: Never
          handlers:
            - name: Never
              shell: echo never >> {log}
            - name: Restart
              shell: echo restart >> {log}
            - name: By topic
              listen: topic
              shell: echo topic >> {log}
              when: asked.stdout == 'x'
            - name: Not wanted
              listen: topic
              shell: echo unwanted >> {log}
              when: asked.stdout == 'y'
        """
    )
    assert log.read_text().split() == ["task", "again", "restart", "topic"]
    assert outcome.results("w1")[2:] == [
        ("Changes nothing", "ok"),
        ("Says so only when asked", "ok"),
        ("Restart", "changed"),
        ("By topic", "changed"),
        ("Not wanted", "skipped"),
    ]


def test_a_handler_that_nobody_notified_is_not_even_rendered(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - command: echo x
              changed_when: false
              notify: Broken
          handlers:
            - name: Broken
              command: echo {{ nothing_of_the_kind }}
        """
    )
    assert outcome.results("w1") == [("command", "ok")]
    assert outcome.recap.hosts["w1"].failed == 0


def test_loops(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          gather_facts: false
          vars:
            none_of_them: []
          tasks:
            - name: Each
              command: echo {{ item.word }} {{ colour }}
              loop: [{word: one, wanted: true}, {word: two, wanted: false}, {word: three, wanted: true}]
              loop_control: {label: "{{ item.word }}"}
              when: item.wanted
              register: each
            - name: Look back
              assert:
                that:
                  - each.results | length == 3
                  - each.results[0].stdout == 'one red'
                  - each.results[1] is skipped
                  - each.results[1].item.word == 'two'
                  - each.results[2].item.word == 'three'
                  - each is changed
            - name: None
              command: echo {{ item }}
              loop: "{{ none_of_them }}"
              register: nothing
            - name: None again
              command: echo {{ item.stdout }}
              loop: "{{ nothing.results }}"
            - name: A loop over nothing that is ruled out
              command: echo {{ item }}
              loop: "{{ not_there.lines }}"
              when: not_there is defined
        """
    )
    assert outcome.results("w1") == [
        ("Each", "changed"),
        ("Look back", "ok"),
        ("None", "skipped"),
        ("None again", "skipped"),
        ("A loop over nothing that is ruled out", "skipped"),
    ]


def test_changed_when_and_failed_when_by_result(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: Fails, but says that is well
              command: sh -c 'exit 3'
              register: three
              failed_when: three.rc not in [0, 3]
              changed_when: three.rc == 0
            - name: Each for itself
              shell: exit {{ item }}
              loop: [0, 1, 2]
              register: each
              changed_when: each.rc == 1
              failed_when: each.rc == 2
              ignore_errors: true
            - name: Look back
              assert:
                that:
                  - each.results | map(attribute='changed') | list == [false, true, false]
                  - each.results | map(attribute='failed') | list == [false, false, true]
                  - each is failed
            - name: Judged to have failed
              command: echo bad
              register: said
              failed_when: "'bad' in said.stdout"
            - name: Never reached
              command: echo
        """
    )
    assert outcome.results("w1") == [
        ("Fails, but says that is well", "ok"),
        ("Each for itself", "failed"),
        ("Look back", "ok"),
        ("Judged to have failed", "failed"),
    ]
    recap = outcome.recap.hosts["w1"]
    assert (recap.failed, recap.ignored, recap.stopped_at) == (1, 1, "Judged to have failed")


def test_a_host_that_fails_is_out_and_the_others_go_on(play: Play) -> None:
    outcome = play(
        """
        - hosts: all
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: One fails
              shell: "test {{ inventory_hostname }} != w1 || { echo sorry >&2; exit 7; }"
            - name: Who is left
              command: echo
        - hosts: all
          become: true
          gather_facts: false
          tasks:
            - name: Next play
              command: echo {{ ansible_play_hosts | join(',') }}
        """
    )
    assert outcome.results("w1") == [("One fails", "failed")]
    assert outcome.results("w2")[-1] == ("Next play", "changed")
    assert outcome.result("w2", "Next play")["stdout"] == "head,w2"
    recap = outcome.recap
    assert recap.failed and not recap.unreachable
    assert recap.hosts["w1"].stopped_at == "One fails"
    assert "non-zero" in recap.hosts["w1"].reason
    assert outcome.result("w1", "One fails")["rc"] == 7


def test_an_unreachable_host_is_named_and_the_others_go_on(play: Play, connections: LocalConnections) -> None:
    connections.gone.add("w2")
    outcome = play(
        """
        - hosts: all
          become: true
          gather_facts: false
          tasks:
            - name: First
              command: echo
            - name: Second
              command: echo
        """
    )
    assert outcome.results("w1") == [("First", "changed"), ("Second", "changed")]
    recap = outcome.recap.hosts["w2"]
    assert (recap.unreachable, recap.failed) == (1, 0)
    assert "no route to host" in recap.reason
    assert outcome.recap.unreachable


def test_a_defect_of_a_task_names_its_place_and_the_variable(play: Play, tmp_path: Path) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: First
              command: echo
            - name: Broken
              command: echo {{ nothing.of_the_kind }}
        """
    )
    assert outcome.results("w1") == [("First", "changed"), ("Broken", "failed")]
    assert outcome.recap.hosts["w1"].reason == f"{tmp_path}/site.yml:8: cmd: 'nothing' is undefined"


def test_linear_every_host_finishes_a_task_before_any_begins_the_next(play: Play, tmp_path: Path) -> None:
    log = tmp_path / "log"
    play(
        f"""
        - hosts: all
          become: true
          gather_facts: false
          tasks:
            - shell: "[ {{{{ inventory_hostname }}}} != w1 ] || sleep 0.4; echo first >> {log}"
            - shell: echo second >> {log}
        """
    )
    assert log.read_text().split() == ["first"] * 3 + ["second"] * 3


@pytest.mark.parametrize("forks", [1, 8])
def test_a_result_of_another_host_is_waited_for(play: Play, connections: LocalConnections, forks: int) -> None:
    connections.forks = forks
    outcome = play(
        """
        - hosts: all
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: Make a key
              shell: "sleep 0.3; echo key of {{ inventory_hostname }}"
              register: key
            - name: Tell
              command: echo {{ hostvars['head'].key.stdout }}, {{ hostvars['w2'].key.stdout }}
              register: key_told
        """
    )
    for host in ("head", "w1", "w2"):
        assert outcome.result(host, "Tell")["stdout"] == "key of head, key of w2"


def test_a_result_of_a_host_that_failed_is_undefined_and_nobody_waits(play: Play) -> None:
    outcome = play(
        """
        - hosts: all
          become: true
          strategy: free
          gather_facts: false
          tasks:
            - name: Make a key
              shell: test {{ inventory_hostname }} != head
              register: key
            - name: Tell
              command: echo {{ 'there' if heads is defined and heads is succeeded else 'no' }}
              vars: {heads: "{{ hostvars['head'].key }}"}
        """
    )
    assert outcome.results("head") == [("Make a key", "failed")]
    assert outcome.result("w1", "Tell")["stdout"] == "no"


def test_facts_are_gathered_only_where_a_play_asks(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          tasks:
            - name: Use one
              command: echo {{ ansible_facts.system }} {{ ansible_system }} {{ ansible_facts.date_time.epoch > "" }}
        """
    )
    assert outcome.results("w1") == [("Gathering Facts", "ok"), ("Use one", "changed")]
    assert outcome.result("w1", "Use one")["stdout"] == "Linux Linux True"


def test_a_template_arrives_byte_for_byte(play: Play, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "hosts.j2").write_text(
        "{# all #}\n{% for name in groups['all'] %}\n{{ name }}={{ hostvars[name].cluster_ip }}\n{% endfor %}\n\n"
    )
    text = f"""
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: Write
              template: {{src: hosts.j2, dest: {tmp_path}/hosts, mode: "0640"}}
        """
    first = play(text, diff=True)
    assert (tmp_path / "hosts").read_bytes() == b"head=10.78.0.1\nw1=10.78.0.2\nw2=10.78.0.3\n\n"
    assert stat.S_IMODE((tmp_path / "hosts").stat().st_mode) == 0o640
    assert first.results("w1") == [("Write", "changed")]
    assert "w2=10.78.0.3" in str(first.result("w1", "Write")["diff"])
    assert play(text).results("w1") == [("Write", "ok")]


def test_an_error_in_a_template_names_template_line_and_variable(play: Play, tmp_path: Path) -> None:
    (tmp_path / "broken.j2").write_text("fine\n\nhere: {{ nothing_here }}\n")
    outcome = play(
        f"""
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: Write
              template: {{src: broken.j2, dest: {tmp_path}/out}}
        """
    )
    reason = outcome.recap.hosts["w1"].reason
    assert f"{tmp_path}/broken.j2:3: 'nothing_here' is undefined" in reason
    assert not (tmp_path / "out").exists()


def test_no_log_hides_the_result_and_its_output(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: Secret
              command: echo swordfish
              register: secret
              no_log: true
            - name: Use it
              assert:
                that: secret.stdout == 'swordfish'
              no_log: true
            - name: Fail with it
              shell: echo swordfish >&2; exit 1
              no_log: true
        """
    )
    told = str(outcome.events) + str(outcome.recap)
    assert "swordfish" not in told.replace("that: secret.stdout == 'swordfish'", "")
    assert outcome.result("w1", "Secret")["changed"] is True
    assert outcome.results("w1")[-1] == ("Fail with it", "failed")


def test_assert(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - name: Well
              assert: {that: ["colour == 'red'", "colour in ['red', 'blue']"]}
            - name: Ill
              assert:
                that: colour == 'green'
                fail_msg: "{{ inventory_hostname }} is {{ colour }}"
        """
    )
    assert outcome.results("w1") == [("Well", "ok"), ("Ill", "failed")]
    assert outcome.recap.hosts["w1"].reason == "w1 is red"


def test_a_new_connection_in_the_middle(play: Play, connections: LocalConnections) -> None:
    outcome = play(
        """
        - hosts: w1
          become: true
          gather_facts: false
          tasks:
            - command: echo
            - name: Anew
              wait_for_connection: {delay: 0, timeout: 5}
            - command: echo
        """
    )
    assert connections.opened == 2
    assert outcome.results("w1")[1] == ("Anew", "ok")


def test_limit(play: Play) -> None:
    text = """
        - hosts: all
          become: true
          gather_facts: false
          tasks:
            - name: Tell
              command: echo {{ ansible_limit }} {{ ansible_play_hosts | join(',') }}
        """
    outcome = play(text, limit="compute:!w2")
    assert list(outcome.recap.hosts) == ["w1"]
    assert outcome.result("w1", "Tell")["stdout"] == "compute:!w2 w1"
    with pytest.raises(UsageError):
        play(text, limit="nobody")


def test_tags_choose_tasks(book: Callable[[str], Playbook], connections: LocalConnections) -> None:
    playbook = book(
        """
        - hosts: w1
          gather_facts: false
          tags: [all-of-it]
          tasks:
            - {name: plain, debug: }
            - {name: red, debug: , tags: red}
            - {name: both, debug: , tags: "red, blue"}
            - {name: ever, debug: , tags: always}
            - {name: hidden, debug: , tags: [never, secret]}
        """
    )

    def names(**tags: frozenset[str]) -> list[str]:
        return [task.name for task in playbook.only(Tags(**tags)).plays[0].tasks]

    assert names() == ["plain", "red", "both", "ever"]
    assert names(only=frozenset({"blue"})) == ["both", "ever"]
    assert names(only=frozenset({"all-of-it"}), skip=frozenset({"red"})) == ["plain", "ever", "hidden"]
    assert names(only=frozenset({"secret"})) == ["ever", "hidden"]
    assert names(skip=frozenset({"always"})) == ["plain", "red", "both"]
    assert names(only=frozenset({"tagged"})) == ["plain", "red", "both", "ever"]
    assert names(only=frozenset({"untagged"})) == ["ever"]
    with pytest.raises(UsageError) as caught:
        names(only=frozenset({"redd", "blue"}), skip=frozenset({"nosuch"}))
    assert str(caught.value).splitlines() == [
        '--tags: no task has the tag "redd"; did you mean "red"?',
        '--skip-tags: no task has the tag "nosuch"',
        "  tags of this playbook: all-of-it, blue, red, secret",
    ]


def test_sizes_of_batches(cluster: Cluster) -> None:
    hosts = list(cluster.hosts.values())

    def sizes(*serial: int | str) -> list[int]:
        return [len(batch) for batch in batches(hosts, serial)]

    assert (sizes(), sizes(2), sizes(1, 2), sizes("34%"), sizes("1%"), sizes(9)) == (
        [3],
        [2, 1],
        [1, 2],
        [1, 1, 1],
        [1, 1, 1],
        [3],
    )


def test_a_handler_is_flushed_where_a_task_says_and_may_be_notified_again(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          strategy: free
          become: true
          gather_facts: false
          pre_tasks:
            - {name: a, command: "true", notify: told}
          tasks:
            - {name: b, command: "true", notify: [told, topic]}
            - meta: flush_handlers
            - {name: c, command: "true"}
            - {name: d, command: "true", notify: told}
          handlers:
            - {name: told, command: "true"}
            - {name: heard, command: "true", listen: topic}
        """
    )
    assert [name for name, _ in outcome.results("w1")] == ["a", "told", "b", "told", "heard", "c", "d", "told"]


def test_the_list_of_failed_hosts(cluster: Cluster, tmp_path: Path) -> None:
    retry = RetryFile(cluster, Path("site.yml"))
    with pytest.raises(UsageError, match="nothing to retry"):
        retry.hosts()
    failed = Recap({"head": HostRecap(ok=1), "w1": HostRecap(failed=1, stopped_at="x"), "w2": HostRecap(unreachable=1)})
    assert retry.keep(failed) == ("w1", "w2") == retry.hosts()
    # A run on one of them takes only that one off.
    assert retry.keep(Recap({"w1": HostRecap(ok=1)})) == ("w2",) == retry.hosts()
    assert retry.keep(Recap({"w2": HostRecap(ok=1)}, interrupted={"w2": "a task"})) == ("w2",)
    assert retry.keep(Recap({"w2": HostRecap(ok=1)})) == ()
    assert not retry.path.exists()
    retry.path.write_text("w9\n")
    with pytest.raises(UsageError, match="w9"):
        retry.hosts()


def test_a_handler_that_no_batch_can_hold_runs_only_if_it_was_notified(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          strategy: free
          gather_facts: false
          tasks:
            - {name: a, command: "true", changed_when: false, notify: never}
            - {name: b, command: "true", notify: ever}
          handlers:
            - {name: never, command: "true", until: true}
            - {name: ever, command: "true", register: it, until: it.rc == 0}
        """
    )
    assert [name for name, _ in outcome.results("w1")] == ["a", "b", "ever"]


def test_changed_when_and_failed_when_judge_what_needs_no_node_as_well(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          gather_facts: false
          tasks:
            - {name: a, debug: , changed_when: true, notify: told}
            - {name: b, fail: , failed_when: false}
            - {name: c, debug: {msg: "{{ item }}"}, loop: [x, y], changed_when: item == 'y'}
          handlers:
            - {name: told, debug: }
        """
    )
    assert outcome.results("w1") == [("a", "changed"), ("b", "ok"), ("c", "changed"), ("told", "ok")]
