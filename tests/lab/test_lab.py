"""The virtual boards, as their own tools and this machine's show them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import wait

from clusteradm.errors import UsageError
from clusteradm.lab import Lab, LabError
from clusteradm.lab.cgroup import Groups

pytestmark = pytest.mark.lab

NODES = ("head", "w1", "w2", "w3")


def on(lab: Lab, node: str, command: str, *, check: bool = True) -> str:
    """Standard output of a shell command on a board, as root."""
    return str(lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()


def clusteradm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clusteradm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def ssh(lab: Lab, node: str, command: str) -> subprocess.CompletedProcess[str]:
    """As anybody would log in: the host key has to be the one in known_hosts."""
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=30"]
    argv = lab.ssh_argv(node, [command])
    return subprocess.run([argv[0], *options, *argv[1:]], capture_output=True, text=True, timeout=60, check=False)


def eventually(lab: Lab, node: str, state: str) -> None:
    wait(lambda: lab.status()["nodes"][node]["state"] == state)


# ---- bare boards ----


def test_every_board_runs_its_own_system_and_lets_its_user_in(lab: Lab) -> None:
    machine_ids = set()
    for node in NODES:
        assert on(lab, node, "systemctl is-system-running") == "running"
        done = ssh(lab, node, "id -un; sudo -n id -un; cat /etc/machine-id")
        assert done.returncode == 0, done.stderr
        user, root, machine_id = done.stdout.split()
        assert (user, root) == ("mendel", "root")
        machine_ids.add(machine_id)
    assert len(machine_ids) == 4


def test_host_keys_are_each_boards_own_and_known(lab: Lab) -> None:
    known = lab.inventory.with_name("known_hosts").read_text(encoding="ascii").splitlines()
    for node in NODES:
        keys = on(lab, node, "cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub").splitlines()
        assert sorted(key.split()[0] for key in keys) == ["ecdsa-sha2-nistp256", "ssh-ed25519", "ssh-rsa"]
        assert {line.split(" ", 1)[1] for line in known if f",{node} " in line} == set(keys)
    assert len({line.split(" ", 1)[1] for line in known}) == 12


def test_boards_are_bare(lab: Lab) -> None:
    for node in NODES:
        assert on(lab, node, "command -v mpirun ganesha.nfsd || true") == ""
        assert on(lab, node, "python3 -c 'import numpy' 2>/dev/null || echo none") == "none"
        assert "nfs-common" in lab.exec(node, ["mount", "-t", "nfs4", "head:/x", "/mnt"], check=False).stderr
        assert on(lab, node, "stat -c %a /dev/apex_0; getent group apex || true") == "600"


def test_half_of_the_boards_are_mendels(lab: Lab) -> None:
    identities = [on(lab, node, ". /etc/os-release; echo $ID") for node in NODES]
    assert identities == ["mendel", "debian", "mendel", "debian"]
    assert {on(lab, node, "cut -d. -f1 /etc/debian_version") for node in NODES} == {"12"}


def test_networks_are_real_closed_and_have_the_decoy(lab: Lab) -> None:
    for number, node in enumerate(NODES, 1):
        management, cluster = ("wlan0", "eth0") if number % 2 else ("eth0", "enp2s0")
        found = {link["ifname"]: link for link in json.loads(on(lab, node, "ip -4 -json address show"))}
        assert set(found) == {"lo", management, "usb0"}, "the cluster's interface has no address yet"
        assert found[management]["addr_info"][0]["local"] == f"10.77.0.{number}"
        assert found["usb0"]["addr_info"][0]["local"] == "192.168.100.2"
        if number % 2:
            assert f"{cluster}:disconnected" in on(lab, node, "nmcli -t -f DEVICE,STATE device")
        assert sorted(on(lab, node, "ls /sys/class/net").split()) == sorted(["lo", management, cluster, "usb0"])
        assert "unreachable" in lab.exec(node, ["ip", "route", "get", "1.1.1.1"], check=False).stderr
        for other in range(1, 5):
            on(lab, node, f"ping -c1 -W2 10.77.0.{other}")
    outside = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    assert "m-head" not in outside and "management" not in outside


def test_unmodified_lspci_and_proc_show_the_tpu(lab: Lab) -> None:
    for node in NODES:
        line = on(lab, node, "lspci -nn -d 1ac1:089a")
        assert line.endswith("System peripheral [0880]: Global Unichip Corp. Coral Edge TPU [1ac1:089a]")
        details = on(lab, node, "lspci -vv -d 1ac1:089a")
        assert "LnkSta:\tSpeed 5GT/s, Width x1" in details
        assert "Kernel driver in use: apex" in details
        assert on(lab, node, "cut -f1,2,18 /proc/bus/pci/devices | grep 1ac1089a | cut -f3") == "apex"
        assert on(lab, node, "cat /sys/class/apex/apex_0/status") == "ALIVE"
        address = on(lab, node, "cat /sys/class/apex/apex_0/pci_address")
        assert on(lab, node, f"cat /sys/bus/pci/devices/{address}/vendor") == "0x1ac1"
        assert on(lab, node, f"basename $(readlink /sys/bus/pci/devices/{address}/driver)") == "apex"


def test_what_changes_in_the_hardware_is_seen_at_once(lab: Lab) -> None:
    folder = lab.places.board("w2") / "shared" / "hardware" / "sys-class" / "apex" / "apex_0"
    before = on(lab, "w2", "cat /sys/class/apex/apex_0/temp")
    (folder / "temp").write_text("95050\n")
    assert on(lab, "w2", "cat /sys/class/apex/apex_0/temp") == "95050"
    (folder / "temp").write_text(before + "\n")


def test_udev_rules_take_effect_when_triggered_and_at_boot(lab: Lab) -> None:
    rule = "/etc/udev/rules.d/65-apex.rules"
    try:
        on(lab, "w3", f'groupadd -r apex; echo \'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"\' > {rule}')
        assert on(lab, "w3", "stat -c '%a %G' /dev/apex_0") == "600 root"
        on(
            lab,
            "w3",
            "udevadm control --reload && udevadm trigger --subsystem-match=net && udevadm settle",
            check=False,
        )
        assert on(lab, "w3", "stat -c '%a %G' /dev/apex_0") == "600 root"
        on(lab, "w3", "udevadm control --reload && udevadm trigger --subsystem-match=apex && udevadm settle")
        assert on(lab, "w3", "stat -c '%a %G' /dev/apex_0") == "660 apex"
        reboot(lab, "w3")
        assert on(lab, "w3", "stat -c '%a %G' /dev/apex_0") == "660 apex"
    finally:
        on(lab, "w3", f"rm -f {rule}; groupdel apex; udevadm trigger --subsystem-match=apex")


def reboot(lab: Lab, node: str) -> None:
    boots = lab.status()["nodes"][node]["boots"]
    on(lab, node, "systemctl reboot", check=False)
    wait(lambda: lab.status()["nodes"][node]["boots"] > boots)
    eventually(lab, node, "running")


def test_a_reboot_keeps_the_disk_and_nothing_else(lab: Lab) -> None:
    before = on(lab, "w1", "echo kept > /root/kept; echo gone > /run/gone; ip address add 10.78.0.99/24 dev enp2s0; "
                           "cat /proc/sys/kernel/random/boot_id")  # fmt: skip
    reboot(lab, "w1")
    assert on(lab, "w1", "cat /root/kept; rm /root/kept") == "kept"
    assert on(lab, "w1", "ls /run/gone || true") == ""
    assert on(lab, "w1", "ip -4 -brief address show dev enp2s0").split()[2:] == []
    assert on(lab, "w1", "cat /proc/sys/kernel/random/boot_id") != before
    assert ssh(lab, "w1", "true").returncode == 0


def test_a_board_has_a_boards_memory(lab: Lab) -> None:
    if Groups.of(lab.name).memory is None and not (Groups.of(lab.name).path / "node-w1" / "memory.max").exists():
        pytest.skip("this machine has no memory controller to hand out")
    hog = "b = bytearray(1300 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('all of it')"
    done = lab.exec("w1", ["python3", "-c", hog], check=False)
    assert done.returncode == 137 or done.returncode == -signal.SIGKILL
    assert on(lab, "w1", "systemctl is-system-running") == "running"


def test_packages_come_signed_from_the_labs_own_source(lab: Lab) -> None:
    on(lab, "w1", "apt-get -qq update")
    assert "10.77.0.254" in on(lab, "w1", "apt-cache policy nfs-ganesha openmpi-bin")
    on(lab, "w1", "cp /usr/share/keyrings/clusteradm-lab.asc /root/ && : > /usr/share/keyrings/clusteradm-lab.asc")
    try:
        done = lab.exec("w1", ["sh", "-c", "apt-get update 2>&1"], check=False)
        assert "NO_PUBKEY" in done.stdout or "not signed" in done.stdout
    finally:
        on(lab, "w1", "mv /root/clusteradm-lab.asc /usr/share/keyrings/ && apt-get -qq update")


# ---- faults ----


def test_a_cut_board_is_out_of_reach_and_runs_on(lab: Lab) -> None:
    lab.fault("w2", "cut")
    try:
        assert ssh(lab, "w2", "true").returncode == 255
        assert on(lab, "w2", "cat /sys/class/net/wlan0/carrier") == "0"
        assert lab.status()["nodes"]["w2"] == {**lab.status()["nodes"]["w2"], "state": "running", "fault": "cut"}
    finally:
        lab.restore("w2")
    assert ssh(lab, "w2", "true").returncode == 0


def test_a_frozen_board_stands_still_and_thaws(lab: Lab) -> None:
    def ticks() -> list[float]:
        return [float(line) for line in on(lab, "w2", "cat /run/ticks").split()]

    on(lab, "w2", "systemd-run --quiet --unit=ticks sh -c 'while sleep 0.1; do date +%s.%N >>/run/ticks; done'")
    try:
        wait(lambda: on(lab, "w2", "cat /run/ticks", check=False) != "")
        lab.fault("w2", "freeze")
        frozen = time.time()
        with pytest.raises(UsageError, match="frozen"):
            lab.exec("w2", ["true"])
        time.sleep(2)
        thawed = time.time()
        lab.restore("w2")
        wait(lambda: ticks()[-1] > thawed)
        assert [tick for tick in ticks() if frozen + 1 < tick < thawed] == []
    finally:
        lab.restore("w2")
        on(lab, "w2", "systemctl stop ticks")


def test_a_board_without_power_is_off_until_it_is_restored(lab: Lab) -> None:
    before = on(lab, "w2", "cat /proc/sys/kernel/random/boot_id; journalctl --sync")
    lab.fault("w2", "power")
    eventually(lab, "w2", "off")
    with pytest.raises(UsageError, match="off"):
        lab.exec("w2", ["true"])
    lab.restore("w2")
    assert on(lab, "w2", "systemctl is-system-running") == "running"
    assert on(lab, "w2", "cat /proc/sys/kernel/random/boot_id") != before
    assert ssh(lab, "w2", "true").returncode == 0


def test_up_completes_what_is_partly_up_and_refuses_another_shape(lab: Lab) -> None:
    on(lab, "w3", "systemctl poweroff", check=False)
    eventually(lab, "w3", "off")
    boots = lab.status()["nodes"]["w1"]["boots"]
    lab.up(4)
    assert on(lab, "w3", "systemctl is-system-running") == "running"
    assert lab.status()["nodes"]["w1"]["boots"] == boots, "a running board is left alone"
    with pytest.raises(UsageError, match="is another one: 4 boards"):
        lab.up(3)


# ---- the command ----


def test_status_as_a_document(lab: Lab) -> None:
    done = clusteradm("lab", "status", "--name", lab.name, "--json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1 and document["lab"] == lab.name
    assert {name: node["state"] for name, node in document["nodes"].items()} == dict.fromkeys(NODES, "running")


def test_exec_and_ssh_hand_through_output_and_exit_status(lab: Lab) -> None:
    done = clusteradm("lab", "exec", "--name", lab.name, "w1", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    done = clusteradm("lab", "ssh", "--name", lab.name, "w1", "--", "echo $USER; exit 9")
    assert (done.stdout, done.returncode) == ("mendel\n", 9)


def test_what_runs_by_exec_is_the_boards_own_process(lab: Lab) -> None:
    group = Groups.of(lab.name).path / "node-w1" / "exec" / "cgroup.procs"
    process = subprocess.Popen(lab.exec_argv("w1", ["sleep", "60"]))
    try:
        wait(lambda: str(process.pid) in group.read_text().split())
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("exec", "w9", "--", "true"), "no board 'w9'"),
        (("fault", "w9", "cut"), "no board 'w9'"),
        (("up", "--nodes", "0"), "is not a whole number from 1 on"),
    ],
)
def test_wrong_requests_say_what_is_wrong(lab: Lab, arguments: tuple[str, ...], said: str) -> None:
    done = clusteradm("lab", arguments[0], "--name", lab.name, *arguments[1:])
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_lab_that_is_not_there(lab_machine: None) -> None:
    for command in (("status",), ("exec", "head", "true"), ("fault", "head", "cut")):
        done = clusteradm("lab", command[0], "--name", "no-such-lab", *command[1:])
        assert done.returncode == 2 and "there is no lab" in done.stderr
    done = clusteradm("lab", "down", "--name", "no-such-lab")
    assert done.returncode == 0 and "there is no lab" in done.stderr


# ---- other labs ----


@pytest.fixture
def second(lab: Lab) -> Iterator[Lab]:
    one = Lab(f"{lab.name}-b")
    yield one
    one.down()


def remains(lab: Lab) -> list[str]:
    """What is left of a lab on this machine."""
    groups = Groups.of(lab.name)
    places = [path for path in (groups.path, groups.memory, lab.places.root) if path is not None and path.exists()]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [*map(str, places), *(line for line in mounts if str(lab.places.root) in line)]


def test_two_labs_run_side_by_side_and_end_apart(lab: Lab, second: Lab) -> None:
    second.up(1, tpus=2)
    assert on(second, "head", "cat /sys/class/apex/apex_[01]/pci_address").split() == ["0001:02:00.0", "0001:01:00.0"]
    assert on(second, "head", "lspci -n -d 1ac1:089a | wc -l") == "2"
    assert on(second, "head", "ping -c1 -W1 10.77.0.2 >/dev/null || echo alone") == "alone"
    assert ssh(second, "head", "true").returncode == 0
    assert ssh(lab, "head", "true").returncode == 0
    second.down()
    assert remains(second) == []
    assert ssh(lab, "head", "true").returncode == 0


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2])
def test_a_killed_up_leaves_nothing_that_down_does_not_remove(second: Lab, seconds: float) -> None:
    command = [sys.executable, "-m", "clusteradm", "lab", "up", "--name", second.name, "--nodes", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()
    second.down()
    assert remains(second) == []


def test_a_lab_whose_supervisor_was_killed_can_be_brought_up_again(second: Lab) -> None:
    second.up(1)
    on(second, "head", "echo kept > /root/kept")
    os.kill(second.status()["pid"], signal.SIGKILL)

    def over() -> bool:
        try:
            second.status()
        except LabError as error:
            return "not running" in str(error)
        return False

    wait(over)
    second.up(1)
    assert on(second, "head", "cat /root/kept") == "kept"
    assert ssh(second, "head", "true").returncode == 0
