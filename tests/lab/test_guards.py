"""Changes that could cut the admin off, by clusteradm and by Ansible: back within the limit, or kept for good.

One lab, two clusters of two boards: each engine has its own, and both work at the same time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from agreement import ANSIBLE
from jobs import wait

from clusteradm import shipped
from clusteradm.inventory import Host, load
from clusteradm.lab import Lab
from clusteradm.lab.topology import boards
from clusteradm.playbook.render.jinja import Templates

pytestmark = pytest.mark.lab

# Seconds: short where the guard is to act, long where a busy machine must not make it.
SHORT, LONG = 8, 90
PROFILE = "/etc/NetworkManager/system-connections/cluster.nmconnection"
DROPIN = "/etc/ssh/sshd_config.d/00-clusteradm.conf"
AUTOMATIC = "Wired connection "
# What the guard may change, and what must not be left of it.
STATE = f"""
ip -4 -o address show | awk '{{ print $2, $4 }}'; cat {PROFILE}; cat {DROPIN} /etc/ssh/sshd_config; sshd -T
nmcli -g NAME,DEVICE connection show --active | sort
systemctl list-timers --all --no-legend 'clusteradm-*'; ls -A /var/lib/clusteradm/guard | grep -v back
ls /etc/NetworkManager/system-connections /etc/ssh/sshd_config.d
"""
# An earlier bootstrap had cluster_interface eth0 and, as cluster_ip, the board's one address.
OWN = f"""
cd /etc/NetworkManager/system-connections
sed -i 's/^id=.*/id=cluster/; s/^uuid=.*/uuid=5c7a5f04-7f0c-4b6e-9a2e-6d1f2c0a8e11/' management.nmconnection
mv management.nmconnection {PROFILE}; nmcli connection reload; nmcli connection up cluster
"""
# No profile at all: NetworkManager makes one of its own for each interface.
BLANK = f"""
systemctl stop NetworkManager; rm {PROFILE} /etc/NetworkManager/conf.d/*
ip address flush dev eth0; ip link set eth0 down; systemctl start NetworkManager
"""


@dataclass
class Side:
    """One engine and its boards: `victim`, a PC whose eth0 the admin comes by, and `other`."""

    lab: Lab
    engine: str
    other: Host
    victim: Host
    folder: Path

    def on(self, node: str, command: str, *, check: bool = True) -> str:
        return str(self.lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()

    @property
    def state(self) -> str:
        return self.on(self.victim.name, STATE, check=False)

    @property
    def address(self) -> str:
        return self.victim.address

    def login(self, *options: str, address: str | None = None, seconds: int = 30) -> subprocess.CompletedProcess[str]:
        """An attempt to log in to the victim, always by a connection of its own."""
        argv = self.lab.ssh_argv(self.victim.name)
        options = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}", *options)
        options += ("-o", f"HostName={address or self.address}", "-o", f"HostKeyAlias={self.address}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                [*argv[:-1], *options, argv[-1], "true"],
                capture_output=True,
                text=True,
                timeout=2 * seconds,
                check=False,
            )
        return subprocess.CompletedProcess(argv, 255, "", "no answer")

    def inventory(
        self, victim: dict[str, str] | None = None, other: dict[str, str] | None = None, **everybody: str
    ) -> Path:
        """The lab's, of these two boards, with other variables."""
        document = yaml.safe_load(self.lab.inventory.read_text(encoding="utf-8"))
        hosts = {
            name: variables
            for group in document["all"]["children"].values()
            for name, variables in group["hosts"].items()
        }
        document["all"]["vars"].update(
            {"cluster_network_guard": LONG, "ansible_python_interpreter": "/usr/bin/python3", **everybody}
        )
        document["all"]["children"] = {
            "head": {"hosts": {self.other.name: {**hosts[self.other.name], **(other or {})}}},
            "compute": {"hosts": {self.victim.name: {**hosts[self.victim.name], **(victim or {})}}},
        }
        (self.folder / "known_hosts").write_bytes(self.lab.inventory.with_name("known_hosts").read_bytes())
        path = self.folder / "inventory.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def start(self, playbook: Path, inventory: Path) -> subprocess.Popen[str]:
        ours = [sys.executable, "-m", "clusteradm", "bootstrap", "--playbook"]
        program = ours if self.engine == "clusteradm" else [os.environ.get("CLUSTERADM_ANSIBLE", ANSIBLE)]
        known = f"-o UserKnownHostsFile={self.folder / 'known_hosts'}"
        return subprocess.Popen(
            [*map(str, program), playbook, "-i", inventory],
            env={**os.environ, "ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_EXTRA_ARGS": known, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, playbook: Path, inventory: Path) -> tuple[int, str]:
        process = self.start(playbook, inventory)
        try:
            said = process.communicate(timeout=600)[0]
        finally:
            process.kill()
        return process.returncode, said


@pytest.fixture(scope="module")
def sides(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """Boards whose sshd takes passwords; the victims' eth0 has a profile of the cluster's."""
    lab = Lab(f"pytest-{os.getpid()}-guards")
    try:
        lab.up(4, networks=["networkmanager"])
        head, w1, w2, w3 = load(lab.inventory).hosts.values()
        for host in (head, w1, w2, w3):
            lab.exec(host.name, ["sh", "-c", "rm /etc/ssh/sshd_config.d/*; systemctl reload ssh"])
        for host in (w1, w3):
            lab.exec(host.name, ["sh", "-c", OWN])
        yield (
            Side(lab, "clusteradm", head, w1, tmp_path_factory.mktemp("clusteradm")),
            Side(lab, "ansible", w2, w3, tmp_path_factory.mktemp("ansible")),
        )
    finally:
        lab.down()


def each(sides: tuple[Side, Side], do: Callable[[Side], None]) -> None:
    """Do it on both sides at once."""
    with ThreadPoolExecutor() as pool:
        for side, done in [(side, pool.submit(do, side)) for side in sides]:
            try:
                done.result()
            except AssertionError as error:
                pytest.fail(f"{side.engine}: {error}", pytrace=False)


def recap(said: str, host: Host) -> dict[str, int]:
    """A host's line of the recap, which is the same for both: "w1 : ok=9 changed=0 ..."."""
    line = next(line for line in reversed(said.splitlines()) if line.split()[:2] == [host.name, ":"])
    return {key: int(number) for key, number in (word.split("=") for word in line.split()[2:])}


@pytest.fixture(scope="module")
def playbooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ones, but on the victims the guard waits a short time only, and passwords.yml locks the admin out."""
    folder, right = tmp_path_factory.mktemp("playbooks"), "PasswordAuthentication no"
    shutil.copytree(shipped.TEMPLATES, folder / "templates")
    shutil.copytree(shipped.PLAYBOOKS, folder / "playbooks")
    for name, old, new in (
        ("vars/cluster.yml", "default(60) }}", f"default(60) if is_head else victim_guard | default({SHORT}) }}}}"),
        ("passwords.yml", f"{right}\n", f"{{{{ '{right}' if is_head else 'AllowUsers nobody' }}}}\n"),
    ):
        file = folder / "playbooks" / name
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), encoding="utf-8")
    return folder / "playbooks"


def new_addresses(side: Side, **victim: str) -> Path:
    """An inventory that moves the cluster to another subnet; the victim's eth0, by which the admin comes, too."""
    host, other = (each.address.rpartition(".")[2] for each in (side.victim, side.other))
    return side.inventory(
        victim={"cluster_interface": "eth0", "cluster_ip": f"10.79.0.{host}", **victim},
        other={"cluster_ip": f"10.79.0.{other}"},
        cluster_subnet="10.79.0.0/24",
    )


def cut_off(side: Side, **victim: str) -> Path:
    """The same where the old address is the cluster's own, and no ansible_host says that the admin comes by it."""
    name = f"{side.victim.name}.example"
    proxied = str(side.victim.vars["ansible_ssh_common_args"]).replace("%h", side.address)
    path = new_addresses(side, ansible_host=name, ansible_ssh_common_args=proxied, **victim)
    known_hosts = path.with_name("known_hosts")
    lines = known_hosts.read_text(encoding="ascii")
    known_hosts.write_text(lines + lines.replace(side.address, name), encoding="ascii")
    return path


@contextlib.contextmanager
def outage(side: Side) -> Iterator[list[float]]:
    """While this lasts, tries to log in; the list gets, at each refusal, the seconds since the first of its row."""
    end = threading.Event()
    spans: list[float] = []

    def watch() -> None:
        began = None
        while not end.is_set():
            asked = time.monotonic()
            if side.login(seconds=4).returncode:  # soon, else the first attempt would last until all is well again
                began = began or asked
                spans.append(time.monotonic() - began)
            else:
                began = None
            end.wait(0.5)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield spans
    finally:
        end.set()
        thread.join()


def taken_back(side: Side, playbook: Path, inventory: Path) -> None:
    """The run fails on the victim, which is soon what it was; the other board is done."""
    before = side.state
    with outage(side) as spans:
        status, said = side.run(playbook, inventory)
    assert status == (3 if side.engine == "clusteradm" else 2), said
    assert "the old one is back" in said, said
    assert recap(said, side.victim)["failed"] == 1 and recap(said, side.other)["failed"] == 0, said
    assert spans and max(spans) < LONG / 2, f"nobody could log in for {spans} s"
    wait(lambda: side.state == before)
    assert side.login().returncode == 0


def test_an_address_that_cuts_the_admin_off(sides: tuple[Side, Side], playbooks: Path) -> None:
    each(sides, lambda side: taken_back(side, playbooks / "network.yml", cut_off(side)))


def test_a_configuration_of_sshd_that_locks_the_admin_out(sides: tuple[Side, Side], playbooks: Path) -> None:
    each(sides, lambda side: taken_back(side, playbooks / "passwords.yml", side.inventory()))


def test_the_power_goes_before_a_change_is_confirmed(sides: tuple[Side, Side], playbooks: Path) -> None:
    """One board has a new network, the other a new sshd; at boot each is what it was."""
    changes = {
        "clusteradm": ("network.yml", "ip -4 address show dev eth0 | grep 10.79.0"),
        "ansible": ("passwords.yml", "sshd -T | grep 'allowusers nobody' && ls /var/lib/clusteradm/guard/sshd/in-use"),
    }

    def of(side: Side) -> None:
        before = side.state
        playbook, done = changes[side.engine]
        process = side.start(playbooks / playbook, cut_off(side, victim_guard=str(LONG)))
        try:
            wait(lambda: side.on(side.victim.name, done, check=False) != "")
        finally:
            process.kill()
            process.communicate()
        assert side.state != before
        side.lab.fault(side.victim.name, "power")
        side.lab.restore(side.victim.name)
        wait(lambda: side.login().returncode == 0)
        wait(lambda: side.state == before)
        said = side.on(side.victim.name, "journalctl -b -q -u 'clusteradm-guard@*'")
        assert "was not confirmed: putting the old one back" in said

    each(sides, of)


def test_a_key_is_found_where_sshd_looks_for_it(sides: tuple[Side, Side]) -> None:
    """The play refuses a host on which whoever logs in has none: without a password nobody could log in as him."""
    (play,) = yaml.safe_load((shipped.PLAYBOOKS / "passwords.yml").read_text(encoding="utf-8"))
    look = next(task for task in play["tasks"] if task.get("register") == "sshd")["ansible.builtin.shell"]
    side, _ = sides
    for user, expected in (("mendel", ["key", "includes"]), ("nobody", ["includes"])):
        scope = {"guard_kept": "/nowhere", "login": {"stdout": user}}
        scope["sshd_says"] = Templates().string(play["vars"]["sshd_says"], scope)
        assert side.on(side.victim.name, Templates().string(look, scope)).split() == expected


@pytest.fixture(scope="module")
def changed(sides: tuple[Side, Side]) -> Iterator[tuple[Side, Side]]:
    """After good changes: a cluster address on an interface that had one by DHCP, and no more passwords."""
    macs = {board.name: board.mac("eth0") for board in boards(4, 1)}
    given = [f"{macs[side.victim.name]}={side.address}" for side in sides]
    server = Path(__file__).with_name("dhcp.py")
    inside = ["nsenter", f"--net={sides[0].lab.places.netns}"]
    subprocess.run([*inside, "ip", "address", "add", "10.79.0.254/24", "dev", "management"], check=True)
    process = subprocess.Popen([*inside, sys.executable, server, "management", *given])

    def of(side: Side) -> None:
        # As on a machine that nobody gave a profile; and an sshd that reads no folder, as Debian 10's.
        side.on(side.victim.name, BLANK)
        side.on(side.other.name, f"rm {DROPIN}; sed -i /^Include/d /etc/ssh/sshd_config")
        wait(lambda: " dynamic " in side.on(side.victim.name, SHOW))
        assert AUTOMATIC in side.on(side.victim.name, ACTIVE)
        assert "Permission denied (publickey,password)." in side.login("-o", "PubkeyAuthentication=no").stderr
        status, said = side.run(both(side), new_addresses(side))
        assert status == 0, said

    try:
        each(sides, of)
        yield sides
    finally:
        process.terminate()
        process.wait()


SHOW = "ip -4 -o address show dev eth0"
ACTIVE = "nmcli -g GENERAL.CONNECTION device show eth0"


def both(side: Side) -> Path:
    """A playbook that changes the network and sshd."""
    path = side.folder / "both.yml"
    names = [str(shipped.PLAYBOOKS / name) for name in ("network.yml", "passwords.yml")]
    path.write_text(yaml.safe_dump([{"import_playbook": name} for name in names]), encoding="utf-8")
    return path


def holds(side: Side) -> None:
    """Both addresses answer, the automatic profile is there and idle, sshd takes keys alone, and nothing is pending."""
    node, new = side.victim.name, f"10.79.0.{side.address.rpartition('.')[2]}"
    shown = {line.split()[3]: "dynamic" in line.split() for line in side.on(node, SHOW).splitlines()}
    assert shown == {f"{new}/24": False, f"{side.address}/24": True}
    assert side.on(node, ACTIVE) == "cluster"
    assert AUTOMATIC in side.on(node, "nmcli -g NAME connection show")
    for address in (side.address, new):
        assert side.login(address=address).returncode == 0
        assert "Permission denied (publickey)." in side.login("-o", "PubkeyAuthentication=no", address=address).stderr
    for board in (side.victim, side.other):
        said = side.on(board.name, "sshd -T | grep -E '^(password|kbdinteractive)authentication'").split()
        assert said[1::2] == ["no", "no"]
        assert side.on(board.name, "systemctl list-timers --all --no-legend 'clusteradm-*'") == ""
        assert side.on(board.name, "ls -A /var/lib/clusteradm/guard") == ""


def test_good_changes_hold_and_a_second_run_changes_nothing(changed: tuple[Side, Side]) -> None:
    def of(side: Side) -> None:
        holds(side)
        status, said = side.run(both(side), new_addresses(side))
        assert status == 0 and recap(said, side.victim)["changed"] == recap(said, side.other)["changed"] == 0, said
        assert side.on(side.victim.name, f"stat -c %a {PROFILE}; grep -c Passw {DROPIN}").split() == ["600", "1"]
        assert (
            side.on(side.other.name, f"grep -c '^Passw' /etc/ssh/sshd_config; ls {DROPIN} 2>&1", check=False)[0] == "1"
        )

    each(changed, of)


def test_good_changes_hold_after_a_reboot(changed: tuple[Side, Side]) -> None:
    def of(side: Side) -> None:
        node = side.victim.name
        boots = side.lab.status()["nodes"][node]["boots"]
        side.on(node, "systemctl reboot", check=False)
        wait(lambda: side.lab.status()["nodes"][node]["boots"] > boots)
        wait(lambda: side.login().returncode == 0)
        holds(side)

    each(changed, of)


def test_what_sshd_refuses_or_comes_too_late_is_never_used(changed: tuple[Side, Side]) -> None:
    """By the guard's own verbs."""
    side, guard = changed[0], "/opt/clusteradm/bin/guard sshd"
    for before, line, reason in (
        ("", "AllowUser nobody", "Bad configuration option: AllowUser"),
        (f"{guard} revert;", "AllowUsers nobody", "came after the guard's time was over"),
    ):
        state = side.state
        change = f"{guard} arm; {before} echo {line} >>/etc/ssh/sshd_config; {guard} apply 60"
        done = side.lab.exec(side.victim.name, ["sh", "-c", change], check=False)
        assert done.returncode == 1 and reason in done.stderr and "the old one is back" in done.stderr, done.stderr
        assert side.state == state
        assert side.on(side.victim.name, f"{guard} confirm; echo $?") == "1"
