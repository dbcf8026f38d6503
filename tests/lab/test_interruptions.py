"""Hosts that die, hang, reboot or lose their network in the middle of a play, and a person who presses Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import wait

from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

# On every host: a middle that lasts until a test ends it, and a trace of each step on the host.
SLOW = """
- name: Slow
  hosts: all
  become: true
  gather_facts: false
  strategy: free
  tasks:
    - {name: Before, shell: echo before >>/root/steps}
    - {name: In the middle, shell: sleep 600; echo middle >>/root/steps}
    - {name: Large, command: dd if=/dev/zero of=/root/large bs=1M count=8}
    - {name: After, template: {src: after.j2, dest: /root/after}}
"""

REBOOT = """
- name: Reboot
  hosts: w1
  become: true
  gather_facts: false
  tasks:
    - {name: Boot before, command: cat /proc/sys/kernel/random/boot_id, register: before}
    - {name: Mark, file: {path: /run/mark, state: touch}}
    - {name: Again, reboot: {reboot_timeout: 300}, register: again}
    - {name: Boot after, command: cat /proc/sys/kernel/random/boot_id, register: after}
    - {name: Another boot, assert: {that: [again.rebooted, before.stdout != after.stdout]}}
    - {name: Look, command: ls /run, register: run}
    - {name: Nothing of before, assert: {that: "'mark' not in run.stdout_lines"}}
"""


def _take_interrupts() -> None:
    """A test run in the background ignores Ctrl-C, and so would its children; a person's command does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Boards:
    """The lab's bare boards, and playbooks of the test's own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.names = ("head", "w1", "w2", "w3")

    def on(self, node: str, command: str) -> str:
        return str(self.lab.exec(node, ["sh", "-c", command], check=False, timeout=60).stdout).strip()

    def start(self, text: str, *args: str) -> subprocess.Popen[str]:
        (self.folder / "site.yml").write_text(text)
        (self.folder / "templates").mkdir(exist_ok=True)
        (self.folder / "templates/after.j2").write_text("after on {{ inventory_hostname }}\n")
        command = [sys.executable, "-m", "clusteradm", "bootstrap", "--json", "-i", str(self.lab.inventory)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*command, "--playbook", str(self.folder / "site.yml"), *args],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_take_interrupts,
        )

    def end(self, process: subprocess.Popen[str], expect: int) -> dict[str, Any]:
        out, err = process.communicate(timeout=180)
        assert process.returncode == expect, f"{process.returncode}\n{err}"
        document: dict[str, Any] = json.loads(out)
        return {**document, "stderr": err}

    def wait_for_the_middle(self, *names: str) -> None:
        for name in names:
            wait(lambda name=name: self.on(name, "pgrep -x sleep") != "")  # type: ignore[misc]

    def go_on(self, *names: str) -> None:
        """End the middle."""
        self.wait_for_the_middle(*names)
        for name in names:
            self.on(name, "pkill -x sleep")


@pytest.fixture
def boards(lab: Lab, tmp_path: Path) -> Iterator[Boards]:
    one = Boards(lab, tmp_path)
    yield one
    for name in one.names:
        one.on(name, "rm -rf /root/steps /root/large /root/after /run/mark")
    lab.inventory.with_name("inventory.site.retry").unlink(missing_ok=True)


def test_the_others_finish_and_a_rerun_completes_the_rest(boards: Boards) -> None:
    process = boards.start(SLOW, "--away-timeout", "20")
    boards.wait_for_the_middle(*boards.names)
    boards.lab.fault("w1", "power")
    boards.lab.fault("w2", "cut")
    boards.lab.fault("w3", "freeze")
    threading.Timer(3.0, boards.lab.restore, ["w2"]).start()
    try:
        boards.go_on("head", "w2")
        document = boards.end(process, expect=4)
    finally:
        boards.lab.restore("w1")
        boards.lab.restore("w3")

    hosts = document["hosts"]
    assert (hosts["head"]["failed"], hosts["head"]["unreachable"], hosts["head"]["stopped_at"]) == (0, 0, "")
    # A cut line does not matter: what was begun went on, and was taken up again.
    assert (hosts["w2"]["failed"], hosts["w2"]["unreachable"]) == (0, 0)
    assert boards.on("w2", "cat /root/steps; cat /root/after").split("\n") == ["before", "middle", "after on w2"]
    for name in ("w1", "w3"):
        assert (hosts[name]["unreachable"], hosts[name]["stopped_at"]) == (1, "In the middle")
    assert re.search(r"once corrected, for w1, w3:\n  clusteradm bootstrap .*--retry-failed", document["stderr"])
    assert boards.on("w1", "ls /root/after 2>/dev/null") == ""

    # What has thawed goes on with its own, and comes to its end.
    boards.go_on("w3")
    process = boards.start(SLOW, "--retry-failed")
    boards.go_on("w1", "w3")
    again = boards.end(process, expect=0)
    assert sorted(again["hosts"]) == ["w1", "w3"]
    for name in ("w1", "w3"):
        assert boards.on(name, "cat /root/after") == f"after on {name}"


def test_a_host_that_is_reset_in_the_middle_is_named_with_its_task(boards: Boards) -> None:
    process = boards.start(SLOW, "--limit", "w2,w3")
    boards.wait_for_the_middle("w2", "w3")
    boards.on("w3", "systemctl reboot -ff")
    boards.go_on("w2")
    document = boards.end(process, expect=3)
    w3 = document["hosts"]["w3"]
    assert (w3["failed"], w3["stopped_at"]) == (1, "In the middle")
    assert "rebooted" in w3["reason"]
    assert boards.on("w2", "cat /root/after") == "after on w2"
    assert boards.on("w3", "cat /root/steps") == "before"


def test_ctrl_c_names_what_was_not_completed_and_leaves_no_part_of_a_file(boards: Boards) -> None:
    process = boards.start(SLOW)
    boards.wait_for_the_middle(*boards.names)
    process.send_signal(signal.SIGINT)
    document = boards.end(process, expect=130)
    assert document["interrupted"] == dict.fromkeys(boards.names, "In the middle")
    for name in boards.names:
        wait(lambda name=name: boards.on(name, "pgrep -x sleep") == "")  # type: ignore[misc]
        assert boards.on(name, "cat /root/steps; ls /root/large /root/after 2>/dev/null") == "before"
    process = boards.start(SLOW, "--retry-failed")
    boards.go_on(*boards.names)
    assert sorted(boards.end(process, expect=0)["hosts"]) == sorted(boards.names)
    for name in boards.names:
        assert boards.on(name, "cat /root/after") == f"after on {name}"


def test_reboot_as_a_task(boards: Boards) -> None:
    boot = boards.on("w1", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1")
    document = boards.end(boards.start(REBOOT), expect=0)
    assert (document["hosts"]["w1"]["failed"], document["hosts"]["w1"]["unreachable"]) == (0, 0)
    assert boards.on("w1", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1") != boot
