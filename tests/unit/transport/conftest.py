"""Boards that are SSH servers of sshd.py, and connections that reach them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
import pytest

from clusteradm.inventory import Cluster, Host
from clusteradm.transport import Connections, FirstContact, ssh_config

SSHD = Path(__file__).with_name("sshd.py")


@dataclass
class Boards:
    """SSH servers in one process, and the inventory that names them b0, b1, ..."""

    folder: Path
    process: int
    ports: list[int]
    keys: list[paramiko.PKey]
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def host(self, number: int, **more: Any) -> Host:
        variables = {"ansible_host": "127.0.0.1", "ansible_port": self.ports[number], **self.variables, **more}
        return Host(f"b{number}", ("compute",), variables, {})

    def hosts(self, **more: Any) -> list[Host]:
        return [self.host(number, **more) for number in range(len(self.ports))]

    def connections(self, number: int) -> int:
        """How many connections a board has been asked for so far."""
        log = self.folder / f"log{number}"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def attempts(self, number: int) -> list[str]:
        """The passwords that a board was told so far."""
        file = self.folder / f"attempts{number}"
        return file.read_text().splitlines() if file.exists() else []

    def connect(self, hosts: list[Host] | None = None, **options: Any) -> Connections:
        chosen = self.hosts() if hosts is None else hosts
        cluster = Cluster(self.folder / "inventory.yml", {}, {host.name: host for host in chosen})
        options.setdefault("first_contact", FirstContact.ACCEPT)
        return Connections(cluster, self.known_hosts, **options)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process, number)
        if number is signal.SIGSTOP:  # each of its threads stops when it next gives way
            while any(_state(thread) != "T" for thread in Path(f"/proc/{self.process}/task").iterdir()):
                time.sleep(0.005)

    def stop(self) -> None:
        """End the servers, and wait until their ports are free."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
            end = time.monotonic() + 10  # its number may be another process's soon
            while Path(f"/proc/{self.process}").exists() and time.monotonic() < end:
                time.sleep(0.005)


def _state(thread: Path) -> str:
    return thread.joinpath("stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture(autouse=True)
def no_ssh_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests do not depend on the person's own ssh_config."""
    monkeypatch.setattr(ssh_config, "files", list)
    ssh_config._reach.cache_clear()


Start = Callable[..., Boards]


def public(key: paramiko.PKey) -> str:
    return key.get_base64()


@pytest.fixture(scope="session")
def servers() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, SSHD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()  # each group of its servers was ended with its test


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What boards keep. They share it, so that the node package is unpacked once for all tests."""
    folder = tmp_path_factory.mktemp("state")
    folder.chmod(0o755)
    return folder


@pytest.fixture
def start(tmp_path: Path, servers: subprocess.Popen[bytes], state: Path) -> Iterator[Start]:
    """Starts boards: `start(3, greeting=...)`; every option of sshd.py is for all of them."""
    running: list[Boards] = []

    def make(count: int = 1, *, ports: list[int] | None = None, **options: Any) -> Boards:
        mine = tmp_path / "id_ecdsa"
        if not mine.exists():
            paramiko.ECDSAKey.generate().write_private_key_file(str(mine))
        allowed = public(paramiko.ECDSAKey.from_private_key_file(str(mine)))
        hosts, keys = [], []
        for number in range(count):
            key = paramiko.ECDSAKey.generate()
            file = tmp_path / f"key{number}-{len(running)}"
            key.write_private_key_file(str(file))
            keys.append(key)
            hosts.append(
                {
                    "key": str(file),
                    "authorized": [allowed],
                    "log": str(tmp_path / f"log{number}"),
                    "attempts": str(tmp_path / f"attempts{number}"),
                    **({"port": ports[number]} if ports else {}),
                    **options,
                    "env": {"CLUSTERADM_STATE": str(state), **options.get("env", {})},
                }
            )
        assert servers.stdin is not None and servers.stdout is not None
        servers.stdin.write(json.dumps(hosts).encode() + b"\n")
        servers.stdin.flush()
        process, bound = json.loads(servers.stdout.readline())
        variables = {
            "ansible_user": "root",  # so that nothing asks for sudo; the server does not care
            "ansible_ssh_private_key_file": str(mine),
            "ansible_python_interpreter": sys.executable,
        }
        boards = Boards(tmp_path, process, bound, keys, variables)
        running.append(boards)
        return boards

    yield make
    for boards in running:
        boards.stop()


@pytest.fixture
def proxy(tmp_path: Path) -> str:
    """A proxy command that connects standard input and output to %h, port %p."""
    script = tmp_path / "proxy.py"
    script.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while True:\n"
        "        data = os.read(0, 65536)\n"
        "        if not data: os._exit(0)\n"
        "        s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while True:\n"
        "    data = s.recv(65536)\n"
        "    if not data: break\n"
        "    while data: data = data[os.write(1, data):]\n"
    )
    return f'-o ProxyCommand="{sys.executable} {script} %h %p"'


@pytest.fixture
def nothing_leaks() -> Iterator[None]:
    """Fails where the test leaves a thread, an open file or a child behind."""

    def held() -> tuple[set[str], int, set[str]]:
        threads = {f"{thread.name} {thread.ident}" for thread in threading.enumerate()}
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return threads, len(os.listdir("/proc/self/fd")), set(children)

    threads, files, children = held()
    yield
    deadline = time.monotonic() + 5
    while True:
        left, opened, born = held()
        extra = (sorted(left - threads), max(0, opened - files), sorted(born - children))
        if extra == ([], 0, []) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert extra == ([], 0, [])
