"""SSH servers for tests, in processes of their own: real SSH, no root, no sshd. What they run, they run here.

For each line of its standard input, a JSON list of hosts, it starts a process that serves them until it is killed,
and answers with its id and their ports. Of each host: `key`, the host key; `authorized`, the public keys (base64) let
in; `env`, added to the environment of commands; `log`, a file that gets a line for each connection; `nologin`, a file
that keeps everybody out while it is there; `greeting`, what a login prints first; `banner`, said instead of SSH;
`home`, the home directory, whose authorized_keys lets in as well; `methods`, the ways to log in (publickey alone
unless said); `password`, the one that is right; `hang_up`, whether to do that when told one; `attempts`, a file that
gets a line for each password that was tried; `questions`, what keyboard-interactive asks, each with whether the
answer may be seen; `closes`, what it says to whom it knows, before it hangs up, as PAM has sshd do; `slow`, seconds
that a login takes; `notice`, what it says to everybody at the login, as sshd's `Banner`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import paramiko

_CHUNK = 1 << 16
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Server(paramiko.ServerInterface):
    def __init__(self, host: dict[str, Any]) -> None:
        self.host = host
        self.targets: dict[int, tuple[str, int]] = {}
        self.accepted: threading.Thread | None = None  # what runs the command of the request that is being answered
        self.transport: paramiko.Transport | None = None

    def get_banner(self) -> tuple[str | None, str | None]:
        return self.host.get("notice"), "en-US"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        nologin = self.host.get("nologin")
        known = key.get_base64() in [*self.host["authorized"], *self.at_home()]
        time.sleep(self.host.get("slow", 0))
        if known and "closes" in self.host:
            assert self.transport is not None
            said = paramiko.Message()
            said.add_byte(bytes([paramiko.common.MSG_USERAUTH_BANNER]))
            said.add_string(self.host["closes"])
            said.add_string("")
            if self.host["closes"]:
                self.transport._send_message(said)
            raise EOFError
        return 0 if known and not (nologin and Path(nologin).exists()) else 2

    def at_home(self) -> list[str]:
        file = Path(self.host.get("home", "/nowhere"), ".ssh", "authorized_keys")
        return [line.split()[1] for line in file.read_text().splitlines()] if file.exists() else []

    def get_allowed_auths(self, username: str) -> str:
        return str(self.host.get("methods", "publickey"))

    def check_auth_password(self, username: str, password: str) -> int:
        if "password" not in self.get_allowed_auths(username).split(","):
            return 2
        return self.judge(password)

    def judge(self, password: str) -> int:
        with open(self.host["attempts"], "a") as file:
            file.write(f"{password}\n")
        if self.host.get("hang_up"):
            raise EOFError
        return 0 if password == self.host.get("password") else 2

    def check_auth_interactive(self, username: str, submethods: str) -> int | paramiko.InteractiveQuery:
        if "keyboard-interactive" not in self.get_allowed_auths(username).split(","):
            return 2
        return paramiko.InteractiveQuery("", "", *self.host.get("questions", [["Password: ", False]]))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self.judge(responses[0])

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return 0

    def check_channel_direct_tcpip_request(self, chanid: int, origin: Any, destination: tuple[str, int]) -> int:
        self.targets[chanid] = destination
        return 0

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.accepted = threading.Thread(target=self.run, args=(channel, os.fsdecode(command)), daemon=True)
        return True

    def run(self, channel: paramiko.Channel, command: str) -> None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                **({"HOME": self.host["home"]} if "home" in self.host else {}),
                **self.host.get("env", {}),
            },
            cwd=self.host.get("cwd", "/"),
        )
        assert process.stdin and process.stdout and process.stderr
        if self.host.get("greeting"):
            channel.sendall(self.host["greeting"].encode())
        out = threading.Thread(target=copy, args=(process.stdout, channel.sendall), daemon=True)
        err = threading.Thread(target=copy, args=(process.stderr, channel.sendall_stderr), daemon=True)
        out.start()
        err.start()
        threading.Thread(target=self.feed, args=(channel, process), daemon=True).start()
        out.join()
        err.join()
        channel.send_exit_status(process.wait() % 256)
        channel.close()

    def feed(self, channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        with contextlib.suppress(OSError):
            while data := channel.recv(_CHUNK):
                process.stdin.write(data)
                process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()


def answer_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Paramiko's own answer, then the command: one that ends at once must not close its channel before the answer."""
    channel._handle_request(message)
    server = channel.get_transport().server_object
    accepted, server.accepted = server.accepted, None
    if accepted is not None:
        accepted.start()


paramiko.Transport._channel_handler_table[paramiko.common.MSG_CHANNEL_REQUEST] = answer_request


def copy(source: Any, write: Any) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(source.fileno(), _CHUNK):
            write(data)


def forward(channel: paramiko.Channel, target: tuple[str, int]) -> None:
    with contextlib.suppress(OSError), socket.create_connection(target) as there:

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := there.recv(_CHUNK):
                    channel.sendall(data)
            channel.close()

        threading.Thread(target=back, daemon=True).start()
        while data := channel.recv(_CHUNK):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)


def serve(host: dict[str, Any], listener: socket.socket) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=talk, args=(host, client), daemon=True).start()


def talk(host: dict[str, Any], client: socket.socket) -> None:
    if "log" in host:
        with open(host["log"], "a") as log:
            log.write("connection\n")
    if host.get("banner"):
        client.sendall(host["banner"].encode())
        client.close()
        return
    server = Server(host)
    transport = server.transport = paramiko.Transport(client)
    transport.add_server_key(paramiko.ECDSAKey.from_private_key_file(host["key"]))
    with contextlib.suppress(EOFError, paramiko.SSHException, OSError):
        transport.start_server(server=server)
        while transport.is_active():
            channel = transport.accept(1)
            if channel is not None and channel.chanid in server.targets:
                target = server.targets[channel.chanid]
                threading.Thread(target=forward, args=(channel, target), daemon=True).start()


def main() -> None:
    # Paramiko is imported once; each group of servers is a copy of this process.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        hosts = json.loads(line)
        listeners = [socket.create_server(("127.0.0.1", host.get("port", 0))) for host in hosts]
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            os.open(os.devnull, os.O_RDONLY)
            for host, listener in zip(hosts[1:], listeners[1:], strict=True):
                threading.Thread(target=serve, args=(host, listener), daemon=True).start()
            serve(hosts[0], listeners[0])
        ports = [listener.getsockname()[1] for listener in listeners]
        for listener in listeners:
            listener.close()
        sys.stdout.write(json.dumps([child, ports]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
