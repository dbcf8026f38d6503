"""What bootstrap leaves on the boards, by the boards' own tools; and what it does when run again, cut or wrong."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from jobs import wait

from clusteradm import shipped
from clusteradm.inventory import Cluster, Host, load
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

SHARED = "/srv/cluster"
MCA = "/etc/openmpi/openmpi-mca-params.conf"


class Boards:
    """A bootstrapped lab: its boards, and the command."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster: Cluster = load(lab.inventory)
        self.head = self.cluster.head.name
        self.compute = [host.name for host in self.cluster.compute]
        self.hosts: list[Host] = list(self.cluster.hosts.values())

    def on(self, node: str, command: str, *, check: bool = True) -> str:
        """The output of a shell command, run as root on a board."""
        return str(self.lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()

    def refused(self, node: str, command: str) -> str:
        """What a command that must fail says."""
        done = self.lab.exec(node, ["sh", "-c", command], check=False, timeout=120)
        assert done.returncode != 0, f"{node}: {command}: {done.stdout}"
        return str(done.stdout + done.stderr)

    def answers(self, node: str) -> bool:
        """Whether one can log in."""
        argv = self.lab.ssh_argv(node, ["true"])
        return subprocess.run(argv, capture_output=True, timeout=120, check=False).returncode == 0

    def start(self, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "clusteradm", "bootstrap", "--json", *map(str, args)]
        environment = {**os.environ, "CLUSTERADM_INVENTORY": str(self.lab.inventory)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def bootstrap(self, *args: object, expect: int = 0) -> dict[str, Any]:
        """The document of a run of `clusteradm bootstrap --json`."""
        process = self.start(*args)
        out, err = process.communicate(timeout=900)
        assert process.returncode == expect, f"{args}: {process.returncode}\n{err}"
        document: dict[str, Any] = json.loads(out)
        return document

    def cluster_user(self, command: str) -> str:
        """A command line, for `on`, that runs as the cluster user."""
        return f"cd /home/cluster && HOME=/home/cluster timeout 110 runuser -u cluster -- {command}"


@pytest.fixture(scope="module")
def boards(cluster_lab: Lab) -> Boards:
    return Boards(cluster_lab)


def changed(document: dict[str, Any]) -> dict[str, list[str]]:
    """Host -> its tasks that changed something, or would."""
    found = {
        name: [task["task"] for task in host["tasks"] if task["status"] in ("changed", "unknown")]
        for name, host in document["hosts"].items()
    }
    return {name: tasks for name, tasks in found.items() if tasks}


@contextlib.contextmanager
def files_watched(boards: Boards) -> Iterator[Callable[[], dict[str, str]]]:
    """Gives a function: host -> the files that changed since, where bootstrap has any."""
    for host in boards.hosts:
        boards.on(host.name, "touch /run/since && sleep 0.05")
    yield lambda: {
        host.name: said
        for host in boards.hosts
        if (
            said := boards.on(
                host.name,
                "find /etc /opt /home /usr/share/keyrings /usr/lib/python3 /srv -newer /run/since"
                " ! -path '*/__pycache__*' ! -name .proof ! -name mtab",
            )
        )
    }


def test_check_on_bare_boards_says_what_would_change_and_changes_nothing(lab: Lab) -> None:
    boards = Boards(lab)
    with files_watched(boards) as files:
        document = boards.bootstrap("--check", "--detailed-exit-code", expect=5)
        assert files() == {}
    for name, host in document["hosts"].items():
        assert (host["failed"], host["unreachable"]) == (0, 0)
        assert {"Install the packages", "Create the cluster user's group"} <= set(changed(document)[name])
        assert boards.on(name, "dpkg-query -W -f '${db:Status-Status}' openmpi-bin", check=False) != "installed"
        boards.refused(name, "getent passwd cluster")


def test_names(boards: Boards) -> None:
    for host in boards.hosts:
        assert boards.on(host.name, "hostname; cat /etc/hostname").split() == [host.name, host.name]
        for other in boards.hosts:
            addresses = boards.on(host.name, f"getent ahosts {other.name} | cut -d' ' -f1 | sort -u")
            assert addresses == other.cluster_ip
        assert boards.on(host.name, "getent ahosts localhost | cut -d' ' -f1 | sort -u").split() in (
            ["127.0.0.1"],
            ["127.0.0.1", "::1"],
            ["::1"],
        )


def test_private_network(boards: Boards) -> None:
    for host in boards.hosts:
        interface = host.cluster_interface
        shown = boards.on(host.name, f"ip -4 -o address show dev {interface}").splitlines()
        assert [line.split()[3] for line in shown] == [f"{host.cluster_ip}/24"]
        # What administers the board, and the decoy, are as they were.
        addresses = boards.on(host.name, "ip -4 -o address show | awk '{print $2, $4}'").splitlines()
        assert f"{host.address}/24" in [line.split()[1] for line in addresses]
        assert "usb0 192.168.100.2/24" in addresses
        for other in boards.hosts:
            boards.on(host.name, f"ping -c 1 -W 2 {other.cluster_ip}")


def test_cluster_user(boards: Boards) -> None:
    for host in boards.hosts:
        assert boards.on(host.name, "getent passwd cluster").split(":")[2:4] == ["6600", "6600"]
        assert set(boards.on(host.name, "id -nG cluster").split()) == {"cluster", "apex"}
        # No password, and no more than the user of MPI: neither root nor an administrator.
        assert boards.on(host.name, "passwd -S cluster").split()[1] == "L"
        # The end of its last login takes nothing from its jobs.
        assert boards.on(host.name, "loginctl show-user cluster -p Linger") == "Linger=yes"
        boards.refused(host.name, "runuser -u cluster -- sudo -n true")
        # The way in is as the distribution made it.
        boards.on(host.name, "cmp /etc/ssh/sshd_config /usr/share/openssh/sshd_config")
        boards.refused(host.name, "grep -rE 'clusteradm|bootstrap' /etc/ssh/sshd_config.d")


def test_the_key_of_mpi_opens_nothing_else(boards: Boards) -> None:
    for host in boards.cluster.compute:
        ssh = "ssh -o BatchMode=yes -o ConnectTimeout=30"
        assert boards.on(boards.head, boards.cluster_user(f"{ssh} {host.name} hostname")) == host.name
        # The same board, asked from outside of the cluster's subnet.
        elsewhere = f"{ssh} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        said = boards.refused(boards.head, boards.cluster_user(f"{elsewhere} {host.address} hostname"))
        assert "Permission denied" in said
        assert "Permission denied" in boards.refused(boards.head, boards.cluster_user(f"{ssh} root@{host.name} true"))
        assert boards.on(host.name, "ls /home/cluster/.ssh") == "authorized_keys"
        # mpirun's logins take the quick way; those to elsewhere are as ssh has them.
        ways = {
            place: boards.on(boards.head, boards.cluster_user(f"ssh -G {place} | grep -i ^kexalgorithms"))
            for place in (host.name, "elsewhere.example")
        }
        assert ways[host.name].startswith("kexalgorithms curve25519-sha256,ecdh-sha2-nistp256,")
        assert "diffie-hellman-group-exchange-sha256" in ways["elsewhere.example"]


def test_export(boards: Boards) -> None:
    listening = boards.on(boards.head, "ss -Hltn 'sport = :2049'").splitlines()
    places = [line.split()[3].replace("[::ffff:", "").replace("]", "") for line in listening]
    assert places == [f"{boards.cluster.head.cluster_ip}:2049"]
    for name in boards.compute:
        source, fstype = boards.on(name, f"findmnt -n -o SOURCE,FSTYPE {SHARED}").split()
        assert source == f"{boards.head}:/cluster"
        assert fstype in ("nfs4", "fuse.nfs4")
        boards.on(name, boards.cluster_user(f"sh -c 'echo from {name} >{SHARED}/jobs/of-{name}'"))
        file = f"{SHARED}/jobs/of-{name}"
        assert boards.on(boards.head, f"stat -c '%u %g' {file}; cat {file}") == f"6600 6600\nfrom {name}"
        # A compute node's root is nobody on the export.
        assert "denied" in boards.refused(name, f"touch {SHARED}/by-root")
        boards.on(boards.head, f"rm {file}")


def test_the_export_is_refused_outside_of_the_subnet(boards: Boards) -> None:
    outside = boards.cluster.head.address
    mount = f"mkdir -p /mnt/outside; timeout 100 mount -t nfs4 -o vers=4.0,retry=0 {outside}:/cluster /mnt/outside"
    assert "refused" in boards.refused(boards.compute[0], mount)


def test_mpi(boards: Boards) -> None:
    said = boards.on(boards.head, boards.cluster_user("mpirun --hostfile /etc/clusteradm/hostfile hostname"))
    slots = [host.name for host in boards.cluster.workers for _ in range(host.vars["cluster_tpus"])]
    assert sorted(said.split()) == sorted(slots)
    program = "from mpi4py import MPI; print(MPI.COMM_WORLD.allreduce(1))"
    command = f"mpirun --hostfile /etc/clusteradm/hostfile /opt/clusteradm/bin/python3 -c '{program}'"
    assert boards.on(boards.head, boards.cluster_user(command)).split() == [str(len(slots))] * len(slots)


def test_tpus_can_be_used_by_the_cluster_user(boards: Boards) -> None:
    for host in boards.hosts:
        status = boards.on(host.name, "dpkg-query -W -f '${db:Status-Status}' libedgetpu1-std")
        assert status == "installed"
        assert boards.on(host.name, "stat -c '%U:%G %a' /dev/apex_0") == "root:apex 660"
        boards.on(host.name, boards.cluster_user("sh -c 'test -r /dev/apex_0 && test -w /dev/apex_0'"))
        # The source is believed for its own key alone.
        assert "[signed-by=" in boards.on(host.name, "cat /etc/apt/sources.list.d/coral-edgetpu.list")


def test_runtime(boards: Boards) -> None:
    program = "import ai_edge_litert.interpreter, mpi4py.MPI, numpy, PIL, sys; print(sys.prefix)"
    for host in boards.hosts:
        command = boards.cluster_user(f"/opt/clusteradm/bin/python3 -c '{program}'")
        assert boards.on(host.name, command) == "/opt/clusteradm/venv"


def test_a_second_run_changes_nothing(boards: Boards) -> None:
    with files_watched(boards) as files:
        document = boards.bootstrap()
        assert changed(document) == {}
        assert {name: host["changed"] for name, host in document["hosts"].items()} == dict.fromkeys(
            boards.cluster.hosts, 0
        )
        assert files() == {}


# In the place of python3: notes each start of a Python on the board, by whom and with what.
# A link to the wrapper, whose name ends in the version: as that of Debian does.
COUNTED = r"""
[ -e /usr/bin/python3.real ] || mv /usr/bin/python3 /usr/bin/python3.real
version=$(readlink /usr/bin/python3.real | sed 's/.*python//')
cat >/usr/bin/counted-python$version <<'END'
#!/bin/bash
printf '%s\0' "$0 ${*:1:80}" >>/run/python-starts
exec -a "$0" "$(readlink -f /usr/bin/python3.real)" "$@"
END
chmod 755 /usr/bin/counted-python$version; ln -sf counted-python$version /usr/bin/python3; : >/run/python-starts
"""
# On the head of a lab, whose file system (overlay) is none of those that are known to have file handles.
HANDLES = "/usr/bin/python3 -I -S - /srv/cluster"


def test_a_second_run_starts_python_once_on_each_board(boards: Boards) -> None:
    """A start takes a slow board seconds: the node program's own is the only one."""
    for host in boards.hosts:
        boards.on(host.name, COUNTED)
    try:
        boards.bootstrap()
        for host in boards.hosts:
            starts = boards.on(host.name, "cat /run/python-starts").split("\0")[:-1]
            begun = [start.partition("\n")[0] for start in starts if start != HANDLES]
            assert begun == ["/usr/bin/python3 -I -S -c "], starts
    finally:
        for host in boards.hosts:
            boards.on(host.name, "mv /usr/bin/python3.real /usr/bin/python3; rm /usr/bin/counted-python*")


def test_a_run_on_one_host_changes_nothing_on_it(boards: Boards) -> None:
    """It does without what the others would have told: their host keys, and the head's key for MPI."""
    for name in (boards.head, boards.compute[0]):
        document = boards.bootstrap("--limit", name)
        assert list(document["hosts"]) == [name]
        assert changed(document) == {}


def test_check_and_diff_then_the_repair_of_one_file(boards: Boards) -> None:
    node = boards.compute[0]
    # What MPI goes by has changed: an earlier proof says nothing about it.
    repaired = {
        node: ["Limit MPI to the cluster's subnet"],
        boards.head: ["Prove that all ranks start, talk and write"],
    }
    right = boards.on(node, f"cat {MCA}")
    boards.on(node, f"echo '# by hand' >>{MCA}")
    with files_watched(boards) as files:
        document = boards.bootstrap("--check", "--diff", "--detailed-exit-code", expect=5)
        assert changed(document) == repaired
        (task,) = [task for task in document["hosts"][node]["tasks"] if task["status"] == "changed"]
        assert "# by hand" in json.dumps(task["result"]["diff"])
        assert files() == {}
    assert changed(boards.bootstrap()) == repaired
    assert boards.on(node, f"cat {MCA}") == right
    # What a person had written is not lost.
    assert boards.on(node, f"grep -l '# by hand' {MCA}.*~")
    boards.on(node, f"rm {MCA}.*~")


def test_a_strangers_uid_is_named_and_nothing_is_changed(boards: Boards, tmp_path: Path) -> None:
    inventory = edited(boards, tmp_path, all={"cluster_uid": 1000})
    document = boards.bootstrap("-i", inventory, "--playbook", shipped.PLAYBOOKS / "base.yml", expect=3)
    assert changed(document) == {}
    for host in document["hosts"].values():
        said = json.dumps(host["tasks"][-1]["result"])
        assert "mendel:x:1000:1000" in said and "cluster_uid" in said


def test_a_cut_line_in_the_middle_of_apt(boards: Boards) -> None:
    node = boards.compute[0]
    boards.on(
        node, "DEBIAN_FRONTEND=noninteractive apt-get -qq purge --auto-remove -y openmpi-bin python3-venv >/dev/null"
    )
    process = boards.start("--limit", node)
    try:
        wait(lambda: boards.on(node, "pgrep -x dpkg", check=False) != "")
    finally:
        process.kill()
        process.communicate()
    # The next run takes it up, whether the node is still at work or not; nothing is half installed.
    document = boards.bootstrap()
    assert "failed" not in {task["status"] for host in document["hosts"].values() for task in host["tasks"]}
    assert boards.on(node, "dpkg --audit") == ""
    for package in ("openmpi-bin", "python3-venv"):
        assert boards.on(node, f"dpkg-query -W -f '${{db:Status-Status}}' {package}") == "installed"
    assert changed(boards.bootstrap()) == {}


def edited(boards: Boards, folder: Path, **changes: dict[str, Any]) -> Path:
    """The lab's inventory with other variables, of `all` or of hosts."""
    document = yaml.safe_load(boards.lab.inventory.read_text(encoding="utf-8"))
    document["all"]["vars"].update(changes.pop("all", {}))
    for group in document["all"]["children"].values():
        for name, variables in group["hosts"].items():
            variables.update(changes.get(name, {}))
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    (folder / "known_hosts").write_bytes(boards.lab.inventory.with_name("known_hosts").read_bytes())
    return path


def test_power_returns_everywhere_and_the_head_comes_last(boards: Boards) -> None:
    for name in [*boards.compute, boards.head]:
        boards.lab.fault(name, "power")
    # A compute node is up when its mount is, so these wait; meanwhile one can log in.
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(boards.lab.restore, name, 300) for name in boards.compute]
        for name in boards.compute:
            wait(lambda: boards.answers(name))  # noqa: B023 - called at once
            assert boards.on(name, f"findmnt -n {SHARED}", check=False) == ""
        boards.lab.restore(boards.head)
        for each in waiting:
            each.result()
    for name in boards.compute:
        assert boards.on(name, f"findmnt -n -o SOURCE {SHARED}") == f"{boards.head}:/cluster"
    test_private_network(boards)
    test_export(boards)
    test_mpi(boards)
    assert changed(boards.bootstrap()) == {}
