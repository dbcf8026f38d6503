"""A bootstrapped board of the lab: its names and networks, its Edge TPU, and its share, as its own tools show them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

SEMANTICS = Path(__file__).with_name("nfs_semantics.py")


def on(lab: Lab, node: str, command: str, *, check: bool = True) -> str:
    """Standard output of a shell command on a board, as root."""
    return str(lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()


def test_the_usb_gadget_has_no_part_in_the_cluster(cluster_lab: Lab) -> None:
    """It has one address on all boards: whoever uses it talks to himself."""
    plan = cluster_lab.places.read_plan()
    assert plan is not None
    for board in plan.boards:
        assert "192.168.100.2/24" in on(cluster_lab, board.name, "ip -4 -br address show dev usb0")
        assert (
            on(cluster_lab, board.name, "grep -rlF 192.168.100. /etc/hosts /etc/openmpi /etc/ganesha", check=False)
            == ""
        )
        assert on(cluster_lab, board.name, "ss -Hltn src 192.168.100.2", check=False) == ""


def test_boards_of_one_name_get_their_own(cluster_lab: Lab) -> None:
    plan = cluster_lab.places.read_plan()
    assert plan is not None
    came = [board.hostname for board in plan.boards]
    assert len(set(came)) < len(came)
    for board in plan.boards:
        assert on(cluster_lab, board.name, "hostname") == board.name
        assert board.hostname not in on(cluster_lab, board.name, "getent hosts 10.78.0.1 10.78.0.2 10.78.0.3").split()


def test_the_tpu_is_the_groups_alone(cluster_lab: Lab) -> None:
    code = "from ai_edge_litert.interpreter import load_delegate; load_delegate('libedgetpu.so.1')"
    command = ["/opt/clusteradm/bin/python3", "-c", code]
    stranger = cluster_lab.exec("w1", ["runuser", "-u", "nobody", "--", *command], check=False)
    assert "Failed to load delegate" in stranger.stderr
    cluster_lab.exec("w1", ["runuser", "-u", "cluster", "--", *command])


def test_the_library_is_a_package_of_the_board(cluster_lab: Lab) -> None:
    assert "lab" in on(cluster_lab, "w1", "dpkg-query -W -f '${Version}' libedgetpu1-std")


def test_nfs_holds_what_programs_expect(cluster_lab: Lab) -> None:
    assert on(cluster_lab, "w1", "findmnt -n -o SOURCE,FSTYPE /srv/cluster").split()[-1] in ("nfs4", "fuse.nfs4")
    try:
        command = "mkdir /srv/cluster/jobs/semantics && exec python3 - /srv/cluster/jobs/semantics"
        with SEMANTICS.open(encoding="utf-8") as program:
            done = cluster_lab.exec(
                "w1", ["runuser", "-u", "cluster", "--", "sh", "-c", command], stdin=program, check=False, timeout=300
            )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("ok ") == 16
    finally:
        on(cluster_lab, "head", "rm -rf /srv/cluster/jobs/semantics")


def test_nfs_survives_a_restart_of_the_server_in_the_middle_of_a_write(cluster_lab: Lab) -> None:
    program = (
        "import os, time\n"
        "end = time.time() + 5\n"
        "with open('/srv/cluster/jobs/during', 'wb') as file:\n"
        "    while time.time() < end:\n"
        "        file.write(b'x' * 1000); file.flush(); time.sleep(0.01)\n"
        "    print(file.tell())\n"
    )
    command = ["runuser", "-u", "cluster", "--", "python3", "-c", program]
    writer = subprocess.Popen(cluster_lab.exec_argv("w1", command), stdout=subprocess.PIPE, text=True)
    time.sleep(1.5)
    on(cluster_lab, "head", "systemctl restart nfs-ganesha")
    out, _ = writer.communicate(timeout=180)
    assert writer.returncode == 0
    assert on(cluster_lab, "head", "stat -c %s /srv/cluster/jobs/during; rm /srv/cluster/jobs/during") == out.strip()


def test_nfs_sees_at_the_next_open_what_another_host_put_in_place(cluster_lab: Lab) -> None:
    name = "/srv/cluster/replaced"
    try:
        for number in range(5):
            on(cluster_lab, "head", f"echo {number} > {name}.new && chmod 644 {name}.new && mv {name}.new {name}")
            assert on(cluster_lab, "w1", f"runuser -u cluster cat {name}") == str(number)
    finally:
        on(cluster_lab, "head", f"rm -f {name}")


def test_a_mount_that_cannot_be_says_why(cluster_lab: Lab) -> None:
    for options, said in (("vers=4.2", "not supported"), ("bogus", "incorrect mount option")):
        done = cluster_lab.exec("w1", ["mount", "-t", "nfs4", "-o", options, "head:/cluster", "/mnt"], check=False)
        assert done.returncode == 32 and said in done.stderr
    done = cluster_lab.exec("w1", ["mount", "-t", "nfs4", "head:/nothing-there", "/mnt"], check=False)
    assert done.returncode == 32 and "No such file" in done.stderr
    done = cluster_lab.exec("w1", ["mount", "-t", "nfs4", "-o", "retry=0", "10.78.0.77:/cluster", "/mnt"], check=False)
    assert done.returncode == 32


def test_a_mount_hangs_while_its_server_stands_still_and_goes_on_after(cluster_lab: Lab) -> None:
    look = "timeout {} stat -f /srv/cluster >/dev/null; echo $?"
    assert on(cluster_lab, "w1", look.format(100)) == "0"
    cluster_lab.fault("head", "nfs")
    assert on(cluster_lab, "w1", look.format(2)) == "124"
    cluster_lab.restore("head")
    assert on(cluster_lab, "w1", look.format(100)) == "0"
