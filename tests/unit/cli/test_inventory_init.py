"""`clusteradm inventory init`: from options, and by questions on a real terminal; what it writes is an inventory."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
import terminal
import yaml

from clusteradm import shipped
from clusteradm.cli import inventory_init
from clusteradm.cli.main import main
from clusteradm.inventory import load
from clusteradm.inventory.variables import VARIABLES


def test_from_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yml").unlink()
    assert main(["inventory", "init", "--head", "192.0.2.60", "--compute", "192.0.2.[61:62]", "w=board.example"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "  clusteradm enroll"
    cluster = load(tmp_path / "inventory.yml")
    assert {host.name: (host.address, host.cluster_ip, host.user) for host in cluster.hosts.values()} == {
        "coral-0": ("192.0.2.60", "10.20.0.1", "mendel"),
        "coral-1": ("192.0.2.61", "10.20.0.2", "mendel"),
        "coral-2": ("192.0.2.62", "10.20.0.3", "mendel"),
        "w": ("board.example", "10.20.0.4", "mendel"),
    }
    text = (tmp_path / "inventory.yml").read_text()
    assert text.count("#") > 8 and all(name in text for name in ("cluster_subnet", "cluster_interface", "cluster_tpus"))
    written = yaml.safe_load(text)["all"]["vars"]
    assert {name for name in written if name.startswith("cluster_")} <= set(VARIABLES)
    # A person's file is never overwritten.
    assert main(["inventory", "init", "--head", "192.0.2.1"]) == 2
    assert "is not overwritten" in capsys.readouterr().err and (tmp_path / "inventory.yml").read_text() == text


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without keys and ssh_config."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(inventory_init, "files", tuple)
    (tmp_path / "home/.ssh").mkdir(parents=True)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("key", "words", "steps"),
    [
        ("", [], ["  ssh-keygen -t ed25519 -f ~/.ssh/clusteradm", "  clusteradm enroll"]),
        ("id_rsa", [], ["  clusteradm enroll"]),
        ("", ["--key", "~/.ssh/mine"], ["  clusteradm enroll"]),
    ],
)
def test_a_key_is_named(
    key: str,
    words: list[str],
    steps: list[str],
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    if key:
        (home / ".ssh" / key).touch()
    assert main(["inventory", "init", "--head", "192.0.2.60", *words]) == 0
    assert capsys.readouterr().err.splitlines()[1:] == steps
    named = words[1] if words else f"~/.ssh/{key or 'clusteradm'}"
    assert load(home / "inventory.yml").head.vars["ansible_ssh_private_key_file"] == named


@pytest.mark.parametrize(
    ("own", "name"), [("desk", "desk"), ("desk.example.org", "desk"), ("my_pc", "pc-0"), ("localhost", "pc-0")]
)
def test_this_machine_keeps_its_name(own: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: own)
    path = tmp_path / "new.yml"
    assert main(["inventory", "init", "--kind", "pc", "--head", "local", "-o", str(path)]) == 0
    assert load(path).head.name == name
    # A name that is given is that one.
    path.unlink()
    assert main(["inventory", "init", "--kind", "pc", "--head", "x=local", "-o", str(path)]) == 0
    assert load(path).head.name == "x"


def test_a_pc_that_is_its_own_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my site/new.yml"
    words = ["--kind", "pc", "--head", "local", "--compute", "b=10.9.0.7", "c=10.9.0.1", "--subnet", "10.9.0.0/24"]
    assert main(["inventory", "init", *words, "--cluster", "no: 1", "--tpus", "0", "-o", str(path)]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"  clusteradm enroll -i '{path}'"
    cluster = load(path)
    assert cluster.head.is_local and cluster.head.name == socket.gethostname().split(".")[0]
    assert cluster.setting("cluster_name") == "no: 1" and cluster.setting("cluster_tpus") == 0
    # Hosts that are reached in the private network keep their addresses, and nobody else gets them.
    assert [host.cluster_ip for host in cluster.hosts.values()] == ["10.9.0.2", "10.9.0.7", "10.9.0.1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no terminal to ask on"),
        (["--head", "a[1:2]"], "stands for 2 hosts"),
        (["--head", "x y"], "ansible_host must be an address or a host name"),
        (["--head", "a", "--compute", "a"], "is already that of"),
        (["--head", "coral-1=a", "--compute", "b"], "two hosts have one name"),
        (["--head", "a", "--compute", "x=b[1:2]"], "1 names for 2 addresses"),
        (["--head", "a", "--compute", "b[1:99999999]"], "hosts in one range"),
        (["--head", "a", "--compute", "10.9.0.[1:3]", "--subnet", "10.8.0.0/30"], "no room for 4 hosts"),
        (["--head", "a", "--subnet", "10.0.0.1/24"], "did you mean 10.0.0.0/24?"),
        (["--head", "a", "--interface", "a b"], "the name of a network interface"),
        (["--head", "a", "--tpus", "-1"], "cluster_tpus must be a whole number"),
        (["--head", "my_board=a"], "my_board cannot be a machine's name"),
        (["--head", "a", "--user", "cluster"], "is the login user"),
    ],
)
def test_what_makes_no_inventory_is_not_written(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.yml"
    assert main(["inventory", "init", "-o", str(path), *words]) == 2
    assert message in capsys.readouterr().err and not path.exists()


def asked(shown: terminal.Terminal, question: str, answer: str) -> None:
    while not shown.screen.text.rstrip().endswith(question):
        assert shown.read(), shown.screen.text
    shown.type(answer + "\n")


def test_by_questions(tmp_path: Path) -> None:
    path = tmp_path / "new.yml"
    with terminal.command(
        [sys.executable, "-m", "clusteradm", "inventory", "init", "-o", str(path)], width=100
    ) as shown:
        asked(shown, "[dev-board]:", "pcs")
        asked(
            shown,
            "once more:\nmachines (dev-board: Coral Dev Boards (Mendel Linux); pc: PCs (Debian) with Edge TPU modules"
            " on PCIe) [dev-board]:",
            "pc",
        )
        asked(shown, "[cluster]:", "lab 1")
        asked(shown, "this machine):", "not/an/address")
        asked(shown, "once more:\naddress or ssh alias of the head (local: this machine):", "192.0.2.70")
        asked(shown, "[-]:", "192.0.2.[71:72]  extra=alias")
        asked(shown, "]:", "eve")
        asked(shown, "]:", "~/.ssh/key")
        asked(shown, "[10.20.0.0/24]:", "10.5.0.0/99")
        asked(shown, "once more:\nprivate network of the cluster [10.20.0.0/24]:", "10.5.0.0/24")
        asked(shown, "[enp2s0]:", "")
        asked(shown, "[8]:", "11")
        assert shown.finish() == 0
    cluster = load(path)
    assert [host.address for host in cluster.hosts.values()] == ["192.0.2.70", "192.0.2.71", "192.0.2.72", "alias"]
    assert [host.cluster_ip for host in cluster.hosts.values()] == [f"10.5.0.{number}" for number in range(1, 5)]
    assert cluster.setting("cluster_tpus") == 11 and cluster.head.user == "eve"


@pytest.mark.parametrize(("key", "status"), [("\x04", 2), ("\x03", 130)])
def test_who_goes_leaves_no_file(tmp_path: Path, key: str, status: int) -> None:
    path = tmp_path / "new.yml"
    with terminal.command([sys.executable, "-m", "clusteradm", "inventory", "init", "-o", str(path)]) as shown:
        while "[dev-board]:" not in shown.screen.text:
            assert shown.read()
        shown.type(key)
        assert shown.finish() == status
    assert not path.exists()


def test_no_inventory_says_how_to_write_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CLUSTERADM_INVENTORY")
    monkeypatch.setattr("clusteradm.cli.context.LAB_INVENTORY", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["health"]) == 2
    assert "clusteradm inventory init" in capsys.readouterr().err


def test_where_the_playbooks_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["playbook", "path"]) == 0
    assert Path(capsys.readouterr().out.strip()) == shipped.PLAYBOOKS
    for name in ("bootstrap", "bootstrap.yml"):
        assert main(["playbook", "path", name]) == 0
        assert yaml.safe_load(Path(capsys.readouterr().out.strip()).read_text())
    assert main(["playbook", "path", "bootstrp"]) == 2
    assert 'did you mean "bootstrap"?' in capsys.readouterr().err
