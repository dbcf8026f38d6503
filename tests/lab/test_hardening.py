"""What the hosts of a cluster open to whom: ports, the export, locks, host keys, and what may be installed on them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SHARED, Cluster
from jobs import wait

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

NFS, NTP = 2049, 123
KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
KNOWN = "/etc/ssh/ssh_known_hosts"
KEYRING = "/usr/share/keyrings/coral-edgetpu.gpg"

# The lab's own NFS client, asked to make a file as the cluster user, by whoever runs it; with a file handle as its
# argument it does without looking the folder up.
CLIENT = """
import socket, sys
sys.path.insert(0, "/usr/local/lib/clusteradm-lab")
from nfs4.client import Client, NfsError
from nfs4.rpc import Server

client = Client(Server(socket.gethostbyname("head"), hard=False))
user = ((6600, 6600, ()), 0)
try:
    folder = bytes.fromhex(sys.argv[1]) if sys.argv[1:] else client.root("/cluster/jobs")
    client.create(user, folder, b"forged", 0o644, True, True)
    client.remove(user, folder, b"forged")
    print("made", folder.hex())
except NfsError as error:
    print("refused:", error.strerror)
"""


def on(lab: Lab, node: str, command: str, *, check: bool = True) -> str:
    """The output of a shell command, as root."""
    return str(lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()


def as_user(lab: Lab, node: str, command: str) -> subprocess.CompletedProcess[str]:
    """A shell command by an ordinary user of the board, who is neither root nor the cluster user, nor may use sudo."""
    on(lab, node, "id visitor >/dev/null 2>&1 || useradd --create-home visitor")
    return lab.exec(node, ["runuser", "-u", "visitor", "--", "sh", "-c", command], check=False, timeout=60)


def listening(lab: Lab, node: str) -> set[tuple[str, str, int]]:
    """(tcp or udp, address, port) of everything that takes what comes from elsewhere."""
    found = set()
    for line in on(lab, node, "ss -Hlntu").splitlines():
        kind, _, _, _, local = line.split()[:5]
        address, _, port = local.rpartition(":")
        address = address.strip("[]").removeprefix("::ffff:").partition("%")[0]
        if not address.startswith("127.") and address != "::1":
            found.add((kind, address, int(port)))
    return found


BARE: dict[str, set[tuple[str, str, int]]] = {}


def test_ports_of_bare_boards(lab: Lab) -> None:
    """Runs before the cluster is made; the next test compares."""
    for node in lab.status()["nodes"]:
        BARE[node] = listening(lab, node)
        assert {port for _, _, port in BARE[node]} == {22}


def test_bootstrap_adds_two_ports_on_the_clusters_address(cluster: Cluster) -> None:
    head = load(cluster.lab.inventory).head
    for node in cluster.nodes:
        before = BARE.get(node) or {("tcp", "0.0.0.0", 22), ("tcp", "::", 22)}  # noqa: S104 - what sshd has
        served = {("tcp", head.cluster_ip, NFS), ("udp", head.cluster_ip, NTP)}
        added = served if node == head.name else set()
        assert listening(cluster.lab, node) == before | added, node


def test_no_rpc_service_is_there_after_a_reboot(cluster: Cluster) -> None:
    lab = cluster.lab
    units = yaml.safe_load((shipped.PLAYBOOKS / "vars/packages.yml").read_text(encoding="utf-8"))["unneeded_units"]
    for node in cluster.nodes:
        states = on(lab, node, f"systemctl is-enabled {' '.join(units)}", check=False).split()
        assert states == ["masked"] * len(units)
        # Whoever asks for one by name does not get it either: neither a person nor mount.nfs.
        assert lab.exec(node, ["systemctl", "start", "rpcbind.socket"], check=False).returncode != 0
        assert on(lab, node, "systemctl is-system-running", check=False) == "running"


def test_what_mpi_listens_on_ends_with_its_job(cluster: Cluster) -> None:
    """Open MPI 4 cannot listen on one address alone (docs/security.md); nothing of it is there without a job."""
    lab = cluster.lab
    program = "from mpi4py import MPI; import time; MPI.COMM_WORLD.barrier(); time.sleep(600)"
    mpirun = f"mpirun --hostfile /etc/clusteradm/hostfile python3 -c '{program}'"
    job = f"cd / && HOME=/home/cluster runuser -u cluster -- {mpirun}"
    before = {node: listening(lab, node) for node in cluster.nodes}

    def ranks(node: str) -> str:
        return on(lab, node, "pgrep -f '^python3.*barrier'", check=False)

    on(lab, "head", f"systemd-run --quiet --unit=harden-mpi sh -c {json.dumps(job)}")
    try:
        for node in cluster.nodes:
            wait(lambda node=node: ranks(node) != "")  # type: ignore[misc]
        added = {node: listening(lab, node) - before[node] for node in cluster.nodes}
        assert added["head"] and {kind for ports in added.values() for kind, _, _ in ports} == {"tcp"}
    finally:
        on(lab, "head", "systemctl stop harden-mpi; systemctl reset-failed harden-mpi 2>/dev/null", check=False)
    for node in cluster.nodes:
        wait(lambda node=node: ranks(node) == "" and listening(lab, node) == before[node])  # type: ignore[misc]


def test_an_ordinary_user_of_a_board_cannot_speak_for_the_cluster_user(cluster: Cluster) -> None:
    lab = cluster.lab
    for node in ("w1", "head"):
        on(lab, node, f"cat >/tmp/client.py <<'END'\n{CLIENT}\nEND\nchmod 644 /tmp/client.py")
        # As root, from a privileged port, this is what a mount does: the refusals below are about the port.
        said, handle = on(lab, node, "python3 /tmp/client.py").split()
        assert said == "made"
        for known in ("", handle):
            done = as_user(lab, node, f"python3 /tmp/client.py {known}")
            assert done.stdout.startswith("refused: "), done
    file = f"{SHARED}/jobs/mine"
    on(lab, "w1", f"cd / && runuser -u cluster -- sh -c 'echo x >{file} && rm {file}'")


def test_every_mount_comes_from_a_privileged_port(cluster: Cluster) -> None:
    for node in cluster.nodes:
        if node != "head":
            peers = on(
                cluster.lab, node, f"ls {SHARED} >/dev/null; ss -Hnt state established 'dport = :{NFS}'"
            ).splitlines()
            ports = [int(line.split()[2].rpartition(":")[2]) for line in peers]
            assert ports and all(port < 1024 for port in ports), peers


# Every file that the product locks on a host (the names that `find` below may see).
LOCKS = r"find / -xdev \( -name '*.lock' -o -path '*/clusteradm/locks/*' \) -type f -path '*clusteradm*' 2>/dev/null"


def test_an_ordinary_user_can_hold_none_of_the_locks(cluster: Cluster) -> None:
    lab, node = cluster.lab, "w1"
    # A boot empties /run: it is there again once the guard has run.
    on(lab, node, "/opt/clusteradm/bin/guard network revert")
    found = set(on(lab, node, f"{LOCKS}; ls /run/clusteradm/*.lock /run/clusteradm*.lock", check=False).split())
    assert {"/var/lib/clusteradm/locks/batch", "/run/clusteradm/clusteradm-guard@network.lock"} <= found
    for path in found:
        held = as_user(lab, node, f"flock --nonblock '{path}' true")
        assert held.returncode != 0 and "ermission denied" in held.stderr, path
        assert on(lab, node, f"stat -c '%U %a' '{path}'") == "root 600", path
    # Nor can they be put in root's way: the folders are root's.
    for folder in ("/var/lib/clusteradm/locks", "/run/clusteradm"):
        assert on(lab, node, f"stat -c '%U %a' {folder}") == "root 700"


def hold(lab: Lab, node: str, path: str, user: str, seconds: int) -> str:
    """Have a user hold a POSIX lock on a file; the unit that does."""
    unit = f"harden-{user}"
    program = f"import fcntl, time; f = open('{path}', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep({seconds})"
    on(lab, node, f"cat >/tmp/{unit}.py <<'END'\n{program}\nEND")
    on(lab, node, f"systemd-run --quiet --collect --unit={unit} --uid={user} python3 /tmp/{unit}.py")
    held = f"pid=$(systemctl show -P MainPID {unit}); awk '{{print $5}}' /proc/locks | grep -qx $pid"
    on(lab, node, f"for i in $(seq 600); do {held} && exit 0; sleep 0.1; done; exit 1")
    return unit


def test_a_file_that_is_named_like_a_lock_of_apt_holds_nobody_up(cluster: Cluster) -> None:
    """The wait for apt goes by files, not by names that anybody may give."""
    lab, node = cluster.lab, "w1"
    wait = yaml.safe_load((shipped.PLAYBOOKS / "vars/sources.yml").read_text(encoding="utf-8"))["wait_for_apt"]
    on(lab, node, f"cat >/tmp/wait.sh <<'END'\n{wait}\nEND")
    place = "/home/visitor/x -> /var/lib/dpkg"
    as_user(lab, node, f"mkdir -p '{place}'")
    other = hold(lab, node, f"{place}/lock", "visitor", 600)
    try:
        assert on(lab, node, "timeout 60 sh /tmp/wait.sh") == ""
        unit = hold(lab, node, "/var/lib/dpkg/lock", "root", 600)
        said = "until grep -q 'waiting for another package manager' /tmp/said; do sleep 0.1; done"
        on(lab, node, f"sh /tmp/wait.sh >/tmp/said & {said}; systemctl stop {unit}; wait $!")
    finally:
        on(lab, node, f"systemctl stop {other}", check=False)


def site_of(lab: Lab) -> Path:
    """A playbook of the plays in which hosts tell each other their keys."""
    site = lab.inventory.with_name("harden.yml")
    plays = "".join(f"- import_playbook: {shipped.PLAYBOOKS}/{name}.yml\n" for name in ("base", "mpi"))
    site.write_text(plays, encoding="utf-8")
    return site


@pytest.fixture
def host_key(cluster: Cluster) -> Iterator[str]:
    """The public host key of w2, put back afterwards; the list of known hosts must never hear of another."""
    lab = cluster.lab
    right = on(lab, "w2", f"cat {KEY_FILE}")
    before = on(lab, "head", f"cat {KNOWN}")
    yield right
    on(lab, "w2", f"cat >{KEY_FILE} <<'END'\n{right}\nEND")
    assert on(lab, "head", f"cat {KNOWN}") == before


def other_key(comment: str = "") -> str:
    body = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(comment.encode()).digest()
    return f"ssh-ed25519 {base64.b64encode(body).decode()} {comment}".strip()


@pytest.mark.parametrize("form", ["another", "two lines", "option", "authority", "type", "garbage"])
def test_a_board_cannot_write_what_it_likes_into_the_list_of_known_hosts(
    cluster: Cluster, host_key: str, form: str
) -> None:
    text = {
        "another": other_key(),
        "two lines": f"{host_key}\nhead {other_key()}",
        "option": f'command="id" {host_key}',
        "authority": f"@cert-authority * {other_key()}",
        "type": "ssh-rsa " + base64.b64encode(b"\0\0\0\x07ssh-rsa" + b"x" * 64).decode(),
        "garbage": "\\377\\376\\000",
    }[form]
    on(cluster.lab, "w2", f"printf '%b\\n' '{text}' >{KEY_FILE}")
    site = site_of(cluster.lab)
    try:
        out, _ = cluster.run("bootstrap", "--json", "--playbook", site, expect=3)
    finally:
        site.unlink()
    hosts = json.loads(out)["hosts"]
    # It is that host's failure and nobody else's.
    assert {name: host["failed"] for name, host in hosts.items()} == {name: int(name == "w2") for name in hosts}
    assert hosts["w2"]["tasks"][-1]["task"].startswith("The host key is one key")
    assert all(host["changed"] == 0 for host in hosts.values())


def test_the_head_cannot_let_another_key_in_on_every_host(cluster: Cluster) -> None:
    lab, public = cluster.lab, "/home/cluster/.ssh/id_ed25519.pub"
    right = on(lab, "head", f"cat {public}")
    before = on(lab, "w1", "cat /home/cluster/.ssh/authorized_keys")
    on(lab, "head", f"echo '{other_key('more')}' >>{public}")
    site = site_of(lab)
    try:
        out, _ = cluster.run("bootstrap", "--json", "--playbook", site, expect=3)
        hosts = json.loads(out)["hosts"]
        assert {name: host["failed"] for name, host in hosts.items()} == {name: int(name == "head") for name in hosts}
        assert on(lab, "w1", "cat /home/cluster/.ssh/authorized_keys") == before
    finally:
        site.unlink()
        on(lab, "head", f"cat >{public} <<'END'\n{right}\nEND")


def test_each_line_of_the_known_hosts_is_the_key_that_was_accepted(cluster: Cluster) -> None:
    accepted = cluster.lab.inventory.with_name("known_hosts").read_text(encoding="utf-8")
    for node in cluster.nodes:
        lines = [line for line in on(cluster.lab, node, f"cat {KNOWN}").splitlines() if not line.startswith("#")]
        assert len(lines) == len(cluster.nodes)
        for line in lines:
            assert re.fullmatch(r"[\w-]+,[\d.]+ ssh-ed25519 [A-Za-z0-9+/]{68}", line)
            assert line.split()[2] in accepted


def test_a_wheel_that_is_not_the_one_that_was_listed_is_refused(cluster: Cluster) -> None:
    lab, node = cluster.lab, "w1"
    requirements = on(lab, node, "cat /opt/clusteradm/requirements.txt")
    listed = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    assert all("==" in line and "--hash=sha256:" in line for line in listed)
    wheels = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))["all"]["vars"]["cluster_wheels"]
    other = re.sub(
        r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, next(line for line in listed if line.startswith("tqdm"))
    )
    host = wheels.split("/")[2]
    pip = f"--no-index --find-links {wheels} --trusted-host {host} --no-deps --require-hashes --target /tmp/wheel"
    said = lab.exec(
        node,
        ["sh", "-c", f"echo '{other}' >/tmp/req; /opt/clusteradm/venv/bin/pip install {pip} -r /tmp/req"],
        check=False,
    )
    assert said.returncode != 0 and "hash" in (said.stdout + said.stderr).lower()


def fingerprint(armored: str) -> str:
    """Of an OpenPGP key: SHA-1 over 0x99, the length and the body of its first packet (RFC 4880, 12.2)."""
    body = armored.split("\n\n", 1)[1].split("\n=", 1)[0]
    data = base64.b64decode("".join(body.split()))
    if data[0] & 64:
        head, size = 2, data[1]
    else:
        head = (2, 3, 5)[data[0] & 3]
        size = int.from_bytes(data[1:head], "big")
    key = data[head : head + size]
    return hashlib.sha1(b"\x99" + len(key).to_bytes(2, "big") + key, usedforsecurity=False).hexdigest().upper()


@pytest.mark.parametrize("right", [True, False])
def test_the_key_of_the_package_source_is_taken_by_its_fingerprint(
    cluster: Cluster, tmp_path: Path, *, right: bool
) -> None:
    lab, node = cluster.lab, "w2"
    document: dict[str, Any] = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    url = document["all"]["vars"]["cluster_tpu_key"]
    fetch = f"import urllib.request; print(urllib.request.urlopen('{url}').read().decode())"
    mark = fingerprint(on(lab, node, f'python3 -c "{fetch}"'))
    document["all"]["vars"]["cluster_tpu_key_fingerprint"] = mark if right else "0" * 40
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "known_hosts").write_bytes(lab.inventory.with_name("known_hosts").read_bytes())
    on(lab, node, f"rm -f {KEYRING}*")
    try:
        run = ("bootstrap", "--json", "-i", inventory, "--limit", node, "--playbook", shipped.PLAYBOOKS / "tpu.yml")
        out, _ = cluster.run(*run, expect=0 if right else 3)
        if not right:
            said = json.dumps(json.loads(out)["hosts"][node]["tasks"][-1]["result"])
            assert mark in said and "0" * 40 in said
            assert on(lab, node, f"ls {KEYRING}*", check=False) == ""
        else:
            assert on(lab, node, f"stat -c '%U %a' {KEYRING}") == "root 644"
    finally:
        if not right:
            cluster.run("bootstrap", "--limit", node, "--playbook", shipped.PLAYBOOKS / "tpu.yml")
