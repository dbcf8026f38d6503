"""Every fault that the lab can do, as the board's own tools show it; and nothing of it left after restore."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from jobs import wait

from clusteradm.errors import UsageError
from clusteradm.lab import Lab, LabError

pytestmark = pytest.mark.lab

APEX = "/sys/class/apex/apex_0"
RULE = "/etc/udev/rules.d/65-apex.rules"


@pytest.fixture(autouse=True)
def restored(lab: Lab) -> Iterator[None]:
    """Whatever a test does to these two boards, the next one finds them without faults."""
    yield
    lab.restore("w1")
    if faults(lab, "head"):
        lab.restore("head")
    assert (faults(lab, "head"), faults(lab, "w1")) == ("", "")


def on(lab: Lab, node: str, command: str, *, check: bool = True) -> str:
    """Standard output of a shell command on a board, as root."""
    return str(lab.exec(node, ["sh", "-c", command], check=check, timeout=60).stdout).strip()


def faults(lab: Lab, node: str) -> str:
    return str(lab.status()["nodes"][node]["fault"])


def apex(lab: Lab, name: str) -> str:
    return on(lab, "w1", f"cat {APEX}/{name} 2>/dev/null || echo none")


def address(lab: Lab, node: str = "w1") -> str:
    return on(lab, node, f"cat {APEX}/pci_address")


# ---- Edge TPUs ----


def test_hot(lab: Lab) -> None:
    usual = apex(lab, "temp")
    lab.fault("w1", "hot")
    assert faults(lab, "w1") == "hot"
    assert int(apex(lab, "trip_point1_temp")) < int(apex(lab, "temp")) < int(apex(lab, "trip_point2_temp"))
    lab.restore("w1")
    assert apex(lab, "temp") == usual


def test_wedged(lab: Lab) -> None:
    usual = apex(lab, "temp")
    lab.fault("w1", "wedged")
    assert (apex(lab, "temp"), apex(lab, "status")) == ("-89700", "ALIVE")
    knock = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(0.5);"
        " s.connect('/run/clusteradm-lab/tpu/apex_0.sock'); print(s.recv(1))"
    )
    assert "timed out" in lab.exec("w1", ["python3", "-c", knock], check=False).stderr
    lab.restore("w1")
    assert (apex(lab, "temp"), apex(lab, "status")) == (usual, "ALIVE")
    assert on(lab, "w1", f'python3 -c "{knock}"') == "b'R'"


def test_lamed(lab: Lab) -> None:
    msix = "lspci -vv -d 1ac1:089a 2>/dev/null | grep -o 'MSI-X: Enable.'"
    lab.fault("w1", "lamed")
    assert (apex(lab, "status"), apex(lab, "interrupt_counts")) == ("LAMED", "none")
    assert on(lab, "w1", msix) == "MSI-X: Enable-"
    lab.restore("w1")
    assert apex(lab, "status") == "ALIVE"
    assert len(apex(lab, "interrupt_counts").splitlines()) == 13
    assert on(lab, "w1", msix) == "MSI-X: Enable+"


def test_absent(lab: Lab) -> None:
    shown = "lspci -n -d 1ac1:089a; grep 1ac1089a /proc/bus/pci/devices; ls -d /dev/apex_* /sys/class/apex/apex_*"
    before = on(lab, "w1", shown)
    assert len(before.splitlines()) == 4
    lab.fault("w1", "absent")
    assert on(lab, "w1", shown, check=False) == ""
    on(lab, "w1", "echo 1 >/sys/bus/pci/rescan; sleep 0.5")
    assert on(lab, "w1", shown, check=False) == "", "an empty slot stays empty"
    lab.restore("w1")
    assert on(lab, "w1", shown) == before


def test_permission(lab: Lab) -> None:
    mode = "stat -c '%a %G' /dev/apex_0"
    try:
        on(lab, "w1", f'groupadd -r apex; echo \'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"\' >{RULE}')
        on(lab, "w1", "udevadm control --reload && udevadm trigger --subsystem-match=apex")
        assert on(lab, "w1", mode) == "660 apex"
        lab.fault("w1", "permission")
        assert on(lab, "w1", mode) == "600 root"
        lab.restore("w1")
        assert on(lab, "w1", mode) == "660 apex"
    finally:
        on(lab, "w1", f"rm -f {RULE}; groupdel apex; udevadm trigger --subsystem-match=apex")


def test_busy(lab: Lab) -> None:
    lab.fault("w1", "busy")
    owner = apex(lab, "device_owner")
    assert apex(lab, "is_device_owned") == "1" and int(apex(lab, "node_0_num_mapped_pages")) > 0
    assert "/dev/apex_0" in on(lab, "w1", f"ls -l /proc/{owner}/fd")
    assert "hold_tpu.py" in on(lab, "w1", f"tr '\\0' ' ' </proc/{owner}/cmdline")
    with pytest.raises(UsageError, match="no Edge TPU apex_7"):
        lab.fault("w1", "busy", 7)
    lab.restore("w1")
    wait_for(lab, f"cat {APEX}/is_device_owned", "0")
    assert on(lab, "w1", f"ls /proc/{owner} 2>/dev/null || true") == ""


def wait_for(lab: Lab, command: str, expected: str) -> None:
    """What follows by itself, but not at once."""
    wait(lambda: on(lab, "w1", command, check=False) == expected)


# ---- the rest of the board ----


def test_disk(lab: Lab) -> None:
    free = "df --output=avail /var | tail -n1"
    status = on(lab, "w1", "sha256sum /var/lib/dpkg/status")
    lab.fault("w1", "disk")
    assert on(lab, "w1", free) == "0"
    assert on(lab, "w1", "sha256sum /var/lib/dpkg/status") == status
    full = lab.exec("w1", ["sh", "-c", "head -c 100000 /dev/zero >/var/lib/more"], check=False)
    assert "No space left on device" in full.stderr
    lab.restore("w1")
    assert int(on(lab, "w1", free)) > 1000000
    assert on(lab, "w1", "ls /var/lib/more 2>/dev/null; findmnt -n /var || true") == ""


def test_nfs(lab: Lab) -> None:
    with pytest.raises(LabError, match="runs no NFS server"):
        lab.fault("w1", "nfs")
    assert faults(lab, "w1") == ""
    # Bare boards have none: a stand-in, to see that what stands still goes on.
    pid = on(lab, "w1", "systemd-run --quiet --collect --unit=nfs-ganesha sleep 1000; "
                        "systemctl show -p MainPID --value nfs-ganesha")  # fmt: skip
    try:
        lab.fault("w1", "nfs")
        wait_for(lab, f"cut -d' ' -f3 /proc/{pid}/stat", "T")
        lab.restore("w1")
        wait_for(lab, f"cut -d' ' -f3 /proc/{pid}/stat", "S")
    finally:
        on(lab, "w1", "systemctl stop nfs-ganesha")


def test_address(lab: Lab) -> None:
    def addresses(node: str, interface: str) -> list[str]:
        shown = json.loads(on(lab, node, f"ip -4 -json address show dev {interface}"))
        return [entry["local"] for link in shown if link for entry in link["addr_info"]]

    for node, interface, taken in (("w1", "enp2s0", "10.78.0.1"), ("head", "eth0", "10.78.0.2")):
        before = addresses(node, interface)
        lab.fault(node, "address")
        assert taken in addresses(node, interface)
        lab.restore(node)
        assert addresses(node, interface) == before


def test_sshd(lab: Lab) -> None:
    argv = lab.ssh_argv("w1", ["true"])
    ssh = [argv[0], "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", *argv[1:]]
    lab.fault("w1", "sshd")
    assert on(lab, "w1", "ss -Hltn 'sport = :22'") == ""
    assert subprocess.run(ssh, capture_output=True, timeout=60, check=False).returncode == 255
    lab.restore("w1")
    assert "LISTEN" in on(lab, "w1", "ss -Hltn 'sport = :22'")
    assert subprocess.run(ssh, capture_output=True, timeout=60, check=False).returncode == 0


def test_several_faults_at_once_and_which_a_reboot_undoes(lab: Lab) -> None:
    for kind in ("hot", "sshd"):
        lab.fault("w1", kind)
    assert faults(lab, "w1") == "hot, sshd"
    boots = lab.status()["nodes"]["w1"]["boots"]
    on(lab, "w1", "systemctl reboot", check=False)
    wait(lambda: (now := lab.status()["nodes"]["w1"])["boots"] > boots and now["state"] == "running")
    assert faults(lab, "w1") == "hot"
    assert apex(lab, "temp") == "91050"
    assert "LISTEN" in on(lab, "w1", "ss -Hltn 'sport = :22'")


def test_what_cannot_be_done_is_said(lab: Lab) -> None:
    with pytest.raises(UsageError, match="not to one of its Edge TPUs"):
        lab.fault("w1", "sshd", 0)
    with pytest.raises(UsageError, match="unknown fault"):
        lab.fault("w1", "haunted")


# ---- the bus ----


def test_remove_and_rescan_are_obeyed(lab: Lab) -> None:
    place = f"/sys/bus/pci/devices/{address(lab)}"
    shown = f"echo $(ls -d /dev/apex_0 {APEX} {place} 2>/dev/null | wc -l) $(lspci -n -d 1ac1:089a | wc -l)"
    assert on(lab, "w1", shown) == "3 1"
    on(lab, "w1", f"echo 0 >{place}/remove; sleep 0.3")
    assert on(lab, "w1", shown) == "3 1", "0 is no request"
    on(lab, "w1", f"echo 1 >{place}/remove")
    wait_for(lab, shown, "0 0")
    on(lab, "w1", "echo 1 >/sys/bus/pci/rescan")
    wait_for(lab, shown, "3 1")


def test_a_wedge_is_not_cured_by_a_rescan(lab: Lab) -> None:
    bus = f"/sys/bus/pci/devices/{address(lab)}"
    lab.fault("w1", "wedged")
    on(lab, "w1", f"echo 1 >{bus}/remove; sleep 0.3; echo 1 >/sys/bus/pci/rescan")
    # On the bus again, but the driver gave up on it.
    wait_for(lab, f"ls -d {bus} {bus}/driver {APEX} /dev/apex_0 2>/dev/null", bus)
    lab.restore("w1")
    assert apex(lab, "status") == "ALIVE"


# ---- clusteradm tpu reset ----


def tpu_reset(lab: Lab, subject: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clusteradm", "tpu", "reset", subject, "--inventory", str(lab.inventory), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_a_reset_brings_a_fresh_device_with_the_mode_that_udev_gives_it(lab: Lab) -> None:
    made = f"stat -c %z {APEX}/status"
    before = on(lab, "w1", made)
    try:
        on(lab, "w1", f'echo \'SUBSYSTEM=="apex", MODE="0640"\' >{RULE}; udevadm trigger --subsystem-match=apex')
        done = tpu_reset(lab, f"w1:{address(lab)}", "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["before"]["node"] == document["after"]["node"] == "0640 root:root"
        assert on(lab, "w1", "stat -c %a /dev/apex_0") == "640"
        assert on(lab, "w1", made) > before
    finally:
        on(lab, "w1", f"rm -f {RULE}; udevadm trigger --subsystem-match=apex")


def test_a_reset_is_refused_while_a_process_has_the_tpu(lab: Lab) -> None:
    lab.fault("w1", "busy")
    owner = apex(lab, "device_owner")
    done = tpu_reset(lab, "w1:apex_0")
    assert done.returncode == 3 and f"in use by process {owner} of root" in done.stderr
    assert (apex(lab, "device_owner"), apex(lab, "is_device_owned")) == (owner, "1")
