"""Enrolment, sudo's password and host keys on boards with a real sshd, sudo and PAM, by the boards' own tools."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from clusteradm import shipped
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

PASSWORD, TYPO = "correct-horse", "corect-horse"
# What these tests change on a board, put back as it was when they are done.
KEPT = "/etc/ssh /etc/sudoers.d /etc/shadow /home/mendel/.ssh"
# What they make there.
MADE = "/opt/clusteradm /var/lib/clusteradm /etc/systemd/system/clusteradm-* /etc/systemd/system/*.wants/clusteradm-*"


@dataclass
class Desk:
    """The admin's machine: its home, its known_hosts, and bare boards that were never enrolled."""

    lab: Lab
    home: Path

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    def on(self, node: str, command: str, *, check: bool = True) -> str:
        return str(self.lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()

    def address(self, node: str) -> str:
        inventory = yaml.safe_load(self.lab.inventory.read_text())["all"]["children"]
        return str(next(group["hosts"][node]["ansible_host"] for group in inventory.values() if node in group["hosts"]))

    def words(self, *words: object) -> list[str]:
        where = ["-i", self.lab.inventory, "--known-hosts", self.known_hosts]
        return [str(word) for word in (sys.executable, "-m", "clusteradm", *words[:1], *where, *words[1:])]

    @property
    def environment(self) -> dict[str, str]:
        environment = {**os.environ, "HOME": str(self.home), "PYTHONPATH": str(shipped.PLAYBOOKS.parent)}
        environment.pop("SSH_AUTH_SOCK", None)
        return environment

    def run(self, *words: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """clusteradm with no terminal: nobody can be asked."""
        return subprocess.run(
            [*before, *self.words(*words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            start_new_session=True,
            check=False,
        )

    def type(self, answers: dict[str, str], *words: object) -> tuple[int, str]:
        """clusteradm on a terminal, with an answer to each question, in order; its status and all that was seen."""
        child, terminal = pty.fork()
        if not child:
            os.execvpe(sys.executable, self.words(*words), self.environment)  # noqa: S606
        seen, start, left = b"", 0, list(answers.items())
        while True:
            try:
                data = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            seen += data
            while left and left[0][0].encode() in seen[start:]:
                start = len(seen)
                os.write(terminal, left.pop(0)[1].encode() + b"\n")
        _, status = os.waitpid(child, 0)
        os.close(terminal)
        text = seen.decode().replace("\r\n", "\n")
        assert not left, f"never asked: {left}\n{text}"
        return os.waitstatus_to_exitcode(status), text

    def count(self, node: str, words: str) -> int:
        """How often the board's journal has these words."""
        return int(self.on(node, f"journalctl --sync; journalctl -q -o cat | grep -cF -- {shlex.quote(words)}; true"))


def line_of(desk: Desk, node: str, host: str | None = None) -> str:
    """A line of known_hosts with a board's own key."""
    key = desk.on(node, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ecdsa_key.pub")
    return f"{host or desk.address(node)} {key}"


@pytest.fixture(scope="module")
def desk(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """head: enrolled. w1: knows mdt's key only. w2: knows no key, but takes a password. w3: enrolled, then flashed."""
    one = Desk(lab, tmp_path_factory.mktemp("home"))
    nodes = ("head", "w1", "w2", "w3")
    mdt = one.home / ".config" / "mdt" / "keys"
    mdt.mkdir(parents=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", "mdt", "-f", mdt / "mdt.key"],
        check=True,
    )
    # A gateway is logged in to with the person's own key, as ssh does.
    (one.home / ".ssh").mkdir(mode=0o700)
    (one.home / ".ssh" / "id_ed25519").write_bytes(lab.places.key.read_bytes())
    public = (mdt / "mdt.key.pub").read_text().strip()
    own = ["# my own", "@cert-authority *.example ssh-ed25519 AAAA", line_of(one, "head"), line_of(one, "w1")]
    own += [line_of(one, "head", "build-server"), line_of(one, "w3")]
    one.known_hosts.write_text("\n".join(own) + "\n")
    try:
        for node in nodes:
            one.on(node, f"tar -cpPf /root/before-enroll.tar {KEPT}")
        one.on("w1", f"echo {shlex.quote(public)} > /home/mendel/.ssh/authorized_keys")
        one.on("w2", f"rm -f /home/mendel/.ssh/authorized_keys; echo mendel:{PASSWORD} | chpasswd")
        one.on("w2", "printf 'PasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/00-password.conf")
        one.on("w3", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A")
        for node in ("w2", "w3"):
            one.on(node, "systemctl restart ssh")
        yield one
    finally:
        for node in nodes:
            one.on(
                node,
                f"tar -tf /root/before-enroll.tar >/dev/null && rm -rf {KEPT} && tar -xpPf /root/before-enroll.tar",
            )
            one.on(node, f"rm -rf /root/before-enroll.tar {MADE}; systemctl daemon-reload; systemctl restart ssh")


def test_first_contact(desk: Desk) -> None:
    """One table, one question, each way in; what a person had written in known_hosts stays."""
    mine = desk.known_hosts.read_text().splitlines()
    before = {words: desk.count("w2", words) for words in ("Failed password", "Accepted password")}
    status, seen = desk.type({"Accept these keys?": "y", "login password of w2: ": PASSWORD}, "enroll", "-k")
    assert status == 4, seen
    assert PASSWORD not in seen and seen.count("Hosts not seen before") == 1
    table = next(line for line in seen.splitlines() if line.startswith("  w2 "))
    assert table.split()[-1] in desk.on(
        "w2", "ssh-keygen -lf /etc/ssh/ssh_host_ecdsa_key.pub; ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    )
    said = {line.split()[0]: line.split(None, 1)[1] for line in seen.splitlines() if re.match(r"(head|w\d) ", line)}
    assert said["head"] == "already enrolled"
    assert said["w1"] == "key installed, logged in with mdt's key"
    assert said["w2"] == "key installed, logged in with the password"

    # w3 was flashed anew: it takes no part, and the message has both fingerprints.
    old = next(line for line in mine if line.startswith(f"{desk.address('w3')} "))
    known = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=old, capture_output=True, text=True, check=True
    ).stdout.split()[1]
    now = desk.on("w3", "ssh-keygen -lf /etc/ssh/ssh_host_ecdsa_key.pub").split()[1]
    assert said["w3"] == f"refused: the host key has changed: known {known}, now {now}"

    # What the boards have now.
    admin = subprocess.run(["ssh-keygen", "-y", "-f", desk.lab.places.key], capture_output=True, text=True, check=True)
    for node, lines in (("w1", 2), ("w2", 1)):
        file = "/home/mendel/.ssh/authorized_keys"
        assert desk.on(node, f"stat -c '%U %a' /home/mendel/.ssh {file}").splitlines() == ["mendel 700", "mendel 600"]
        written = desk.on(node, f"cat {file}").splitlines()
        assert len(written) == lines and admin.stdout.split()[1] in written[-1]
    assert desk.count("w2", "Accepted password") == before["Accepted password"] + 1
    assert desk.count("w2", "Failed password") == before["Failed password"]
    lines = desk.known_hosts.read_text().splitlines()
    assert lines[: len(mine)] == mine and [line.split()[0] for line in lines[len(mine) :]] == [desk.address("w2")]

    # The command that the message names, and then ours again.
    refusal = seen.splitlines().index(next(line for line in seen.splitlines() if line.startswith("w3 ")))
    command = seen.splitlines()[refusal + 1].split(": ")[-1]
    assert command.startswith("ssh-keygen -f ") and "-R " in command
    subprocess.run(shlex.split(command), capture_output=True, check=True)
    done = desk.run("enroll", "--accept-new", "--json")
    assert done.returncode == 0, done.stderr
    assert {host["state"] for host in json.loads(done.stdout)["hosts"].values()} == {"already enrolled"}
    after = desk.known_hosts.read_text().splitlines()
    assert [line for line in after if line in mine] == [line for line in mine if line != old]
    assert set(after) - set(lines) == {next(line for line in after if line.startswith(f"{desk.address('w3')} "))}


def test_a_password_is_told_once(desk: Desk) -> None:
    desk.on("w2", "mv /home/mendel/.ssh/authorized_keys /home/mendel/.ssh/away")
    before = desk.count("w2", "Failed password")
    try:
        status, seen = desk.type({"login password of w2: ": TYPO}, "enroll", "-k", "--limit", "w2")
        assert status == 4 and "it refuses the password of mendel" in seen and TYPO not in seen
        assert desk.count("w2", "Failed password") == before + 1
    finally:
        desk.on("w2", "mv /home/mendel/.ssh/away /home/mendel/.ssh/authorized_keys")


def test_sudo_with_a_password(desk: Desk, tmp_path: Path) -> None:
    """It works, is told to one board first, and is in no process list and no environment there."""
    script = "grep -alFf /root/secret /proc/[0-9]*/cmdline /proc/[0-9]*/environ; true"
    task = {"ansible.builtin.shell": script, "changed_when": False, "register": "found"}
    (tmp_path / "look.yml").write_text(yaml.safe_dump([{"hosts": "w2,w3", "gather_facts": False, "tasks": [task]}]))
    words = ["bootstrap", "--playbook", tmp_path / "look.yml", "--limit", "w2,w3"]
    refusal = "pam_unix(sudo:auth): authentication failure"
    for node in ("w2", "w3"):
        desk.on(node, f"echo mendel:{PASSWORD} | chpasswd; echo {PASSWORD} > /root/secret")
        desk.on(node, "echo 'mendel ALL=(ALL) ALL' > /etc/sudoers.d/mendel")
    done = desk.run(*words)
    assert done.returncode == 3 and "sudo asks for a password" in done.stdout and "-K" in done.stdout

    before = sum(desk.count(node, refusal) for node in ("w2", "w3"))
    status, seen = desk.type({"sudo password: ": TYPO}, *words, "-K")
    assert status == 4 and "sudo refuses the password" in seen and "was not tried" in seen and TYPO not in seen
    assert sum(desk.count(node, refusal) for node in ("w2", "w3")) == before + 1

    status, seen = desk.type({"sudo password: ": PASSWORD}, *words, "-K", "--json")
    assert status == 0 and PASSWORD not in seen, seen
    hosts = json.loads(seen[seen.index("{\n") :])["hosts"]
    assert [hosts[node]["tasks"][0]["result"]["stdout"] for node in ("w2", "w3")] == ["", ""]
    for node in ("w2", "w3"):
        # No ticket is left that another process of the user's could use, and nothing of it is in the journal.
        assert "password is required" in desk.on(node, "runuser -u mendel -- sudo -n true 2>&1; true")
        assert desk.count(node, PASSWORD) == 0
        desk.on(node, "rm /root/secret")


def test_a_gateway_is_verified_as_strictly(desk: Desk, tmp_path: Path) -> None:
    """head as the way to w1, from within the boards' own network."""
    document = yaml.safe_load(desk.lab.inventory.read_text())
    document["all"]["vars"]["ansible_ssh_common_args"] = f"-J mendel@{desk.address('head')}"
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(document))
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(line_of(desk, "w1") + "\n")
    inside = ("nsenter", f"--net={desk.lab.places.netns}")
    words = ("enroll", "-i", tmp_path / "inventory.yml", "--known-hosts", known_hosts, "--limit", "w1")
    from_the_gateway = f" {desk.address('head')} port "

    done = desk.run(*words, before=inside)
    assert done.returncode == 4 and "gateway mendel@" in done.stderr and "was not accepted" in done.stdout
    known_hosts.write_text(line_of(desk, "w1") + "\n" + line_of(desk, "w1", desk.address("head")) + "\n")
    done = desk.run(*words, "--accept-new", before=inside)
    assert done.returncode == 4 and "the host key has changed" in done.stdout
    assert f"-R {desk.address('head')}" in done.stdout
    assert desk.count("w1", from_the_gateway) == 0, "nobody came through"

    known_hosts.write_text(line_of(desk, "w1") + "\n")
    done = desk.run(*words, "--accept-new", before=inside)
    assert done.returncode == 0 and done.stdout.split() == ["w1", "already", "enrolled"], done.stderr
    assert known_hosts.read_text().splitlines()[1].startswith(desk.address("head") + " ")
    assert desk.count("w1", from_the_gateway) > 0


@pytest.mark.skipif(not (shipped.PLAYBOOKS / "passwords.yml").exists(), reason="the playbook is not there yet")
def test_passwords_off(desk: Desk) -> None:
    assert desk.on("w2", "sshd -T | grep -i ^passwordauthentication").split()[1] == "yes"
    done = desk.run("enroll", "--no-passwords", "--limit", "w2", "--json")
    assert done.returncode == 3 and "sudo asks for a password" in json.loads(done.stdout)["hosts"]["w2"]["cause"]
    status, seen = desk.type({"sudo password: ": PASSWORD}, "enroll", "--no-passwords", "-K", "--limit", "w1,w2")
    assert status == 0 and seen.count("takes no passwords") == 2, seen
    for node in ("w1", "w2"):
        settings = desk.on(node, "sshd -T").splitlines()
        assert "passwordauthentication no" in settings and "kbdinteractiveauthentication no" in settings
    argv = desk.lab.ssh_argv("w2", ["true"])
    options = ["-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "PubkeyAuthentication=no"]
    done = subprocess.run(
        [argv[0], "-o", "StrictHostKeyChecking=no", *options, *argv[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 255 and "Permission denied (publickey)" in done.stderr
    done = desk.run("enroll", "--json")
    assert done.returncode == 0, done.stderr
