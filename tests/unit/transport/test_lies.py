"""Hosts that lie at each stage of SSH, of the start of the node program, and of the first request.

Each is an error of that host alone, says what happened there, and comes within the time limit; the others complete.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.node import Hello, PutBlob
from clusteradm.transport import Connections, FirstContact, Limits, Node, Silent, packets
from clusteradm.transport import stream as streams

from .conftest import Start

# Seconds for those that are to exceed them, and for all others, however busy the machine is.
START, ANSWER, PATIENCE = 6.0, 1.0, 60.0
_INTERPRETER = """#!{python} -IS
import json, os, struct, sys, time
digest = sys.argv[-1]
def say(what):
    os.write(1, what if isinstance(what, bytes) else json.dumps(what).encode() + b"\\n")
def have():
    say({{"have": digest}})
def asked():
    return json.loads(sys.stdin.buffer.readline())["id"]
def wait():
    while os.read(0, 65536):
        pass
def take(size):
    return sys.stdin.buffer.read(size)
{body}
"""

# Stage and lie -> what the interpreter does, and what the error says.
BEFORE = {
    "silence": ("wait()", r"the node program did not start within \d+ s"),
    "the end": ("", "ended with status 0"),
    "an exit": ("os.write(2, b'boom'); sys.exit(3)", "ended with status 3: boom"),
    "a signal": ("os.kill(os.getpid(), 9)", "connection lost|ended with status"),
    "endless lines": ("while True: say(b'hello\\n')", "did not start; instead: hello"),
    "an endless line": ("while True: say(b'x' * 65536)", "a line of more than 64 KiB"),
    "a dribble": ("while True: say(b'.'); time.sleep(0.1)", r"did not start within \d+ s"),
    "a dribble of lines": (
        "while True: say(b'one\\n'); time.sleep(0.5)",
        r"did not start within \d+ s; it printed: one",
    ),
    "empty lines": ("while True: say(b'\\n')", "did not start; instead"),
    "another digest": ("say({'have': '0' * 16}); wait()", r"did not start within \d+ s; it printed: .*0000"),
    "a deep line": ("say(b'[' * 60000 + b'\\n'); wait()", r"did not start within \d+ s; it printed: \[\["),
    "the archive, never taken": ("say({'need': digest}); time.sleep(40)", r"did not start within \d+ s"),
    "the archive, half taken": ("say({'need': digest}); take(1000); sys.exit(4)", "ended with status 4"),
    "the archive, twice": (
        "say({'need': digest}); take(struct.unpack('>Q', take(8))[0]); say({'need': digest}); wait()",
        "asks for the node program again",
    ),
    "a flood on standard error": ("while True: os.write(2, b'x' * 65536)", r"did not start within \d+ s"),
}
AFTER = {
    "silence": ("wait()", "no answer within 1 s"),
    "the end": ("", "ended with status 0"),
    "an exit": ("os.write(2, b'boom'); sys.exit(3)", "ended with status 3: boom"),
    "an endless line": ("while True: say(b'x' * 65536)", "a line of more than 16384 KiB"),
    "endless lines": ("while True: say(b'hello\\n')", r"unexpected output of the node program \(.*\): hello"),
    "a dribble": ("while True: say(b'.'); time.sleep(0.1)", "no answer within 1 s"),
    "a flood on standard error": ("while True: os.write(2, b'x' * 65536)", "no answer within 1 s"),
    "a deep line": ("say(b'[' * 100000 + b'\\n')", "unexpected output of the node program"),
    "no object": ("say([1])", r"unexpected output of the node program: \[1\]"),
    "NaN": ('say(b\'{"id": 1, "time": NaN}\\n\')', "NaN is no number of JSON"),
    "a long number": ("say(b'{\"id\": ' + b'9' * 5000 + b'}\\n')", "unexpected output of the node program"),
    "no UTF-8": ("say(b'\\xff\\xfe\\n')", "unexpected output of the node program"),
    "another's number": ("while True: say({'id': 7, 'done': True})", "answers a request that was not made: 7"),
    "nobody's number": ("while True: say({'id': None, 'done': True})", "answers a request that was not made: None"),
    "another's reply": ("say({'id': 1, 'done': True, 'facts': {}})", "its reply to hello is not as agreed: protocol"),
    "no last reply": ("while True: say({'id': 1, 'protocol': 1})", "it is not the last"),
    "half a character": (
        "say({'id': 1, 'done': True, 'protocol': 1, 'python': '\\ud800', 'time': 1.0, 'boot': ''})",
        "a text with half a character",
    ),
    "a disk that is full": (
        "say({'id': 1, 'done': True, 'error': '/srv/x: No space left on device'})",
        r"No space left on device.*df -h",
    ),
    "an error that is no text": ("say({'id': 1, 'done': True, 'error': {}})", "an error that is no text"),
}


def test_a_liar_is_alone_whatever_it_says(start: Start, tmp_path: Path) -> None:
    lies = [(f"before: {name}", lie) for name, lie in BEFORE.items()]
    lies += [
        (f"after: {name}", (f"have()\nif asked() == 1:\n  {body or 'pass'}", text))
        for name, (body, text) in AFTER.items()
    ]
    boards = start(len(lies) + 2)
    hosts = []
    for number, (_, (body, _)) in enumerate(lies):
        script = tmp_path / f"liar{number}"
        script.write_text(_INTERPRETER.format(python=sys.executable, body=body))
        script.chmod(0o755)
        hosts.append(boards.host(number, ansible_python_interpreter=str(script)))
    honest = [boards.host(len(lies)), boards.host(len(lies) + 1)]
    mute = {host.name: text for host, (_, (_, text)) in zip(hosts, lies, strict=True) if " within " in text}
    failed, ok = {}, set()
    start_limit = START
    # First those that answer at once: how long the honest ones take beside them says how busy the machine is.
    for late in (False, True):
        group = [*(host for host in hosts if ("start within" in mute.get(host.name, "")) is late), *honest]
        with boards.connect(
            group, limits=Limits(start=start_limit if late else PATIENCE), forks=len(group)
        ) as connections:

            def work(host: Host, among: Connections = connections) -> str:
                node = among.node(host)
                return str(node.call(Hello(), timeout=ANSWER if host.name in mute else PATIENCE).python)

            connections.open(honest)
            began = time.monotonic()
            for host in honest:  # the package is unpacked, so that the machine's load counts less
                work(host)
            start_limit = min(max(START, 5 * (time.monotonic() - began)), PATIENCE / 2)
            began = time.monotonic()
            outcome = connections.each(group, work)
            assert time.monotonic() - began < PATIENCE
        failed.update(outcome.failed)
        ok |= outcome.ok.keys()
    assert ok == {host.name for host in honest}
    wrong = {}
    for host, (name, (_, text)) in zip(hosts, lies, strict=True):
        error = failed[host.name]
        if not (
            isinstance(error, (HostFailed, HostUnreachable))
            and error.where == host.name
            and re.search(text, str(error), re.DOTALL)
            and len(str(error)) < 6000
        ):
            wrong[name] = str(error)[:300]
    assert wrong == {}


def _endless(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x" * 4096)


def _lines(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"no ssh\r\n")
        time.sleep(0.02)


def _dribble(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x")
        time.sleep(0.05)


def _packet(sock: socket.socket) -> None:
    sock.sendall(b"SSH-2.0-liar\r\n" + struct.pack(">I", 0x7FFFFFF0))
    _endless(sock)


def _nothing(sock: socket.socket) -> None:
    time.sleep(60)


def _hang_up(sock: socket.socket) -> None:
    sock.sendall(b"SSH-2.0-liar\r\n")


@contextlib.contextmanager
def server(lie: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listener that says this to each that connects; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=talk, args=(sock,), daemon=True).start()

    def talk(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            lie(sock)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@pytest.mark.parametrize("lie", [_endless, _lines, _dribble, _packet, _nothing, _hang_up])
def test_what_is_no_ssh_server_is_an_error_of_its_host_in_time(
    lie: Callable[[socket.socket], None], tmp_path: Path
) -> None:
    with server(lie) as port:
        host = Host("b0", ("compute",), {"ansible_host": "127.0.0.1", "ansible_port": port}, {})
        cluster = Cluster(tmp_path / "inventory.yml", {}, {"b0": host})
        limits = Limits(connect=2.0)
        began = time.monotonic()
        with Connections(cluster, tmp_path / "known_hosts", first_contact=FirstContact.ACCEPT, limits=limits) as all_of:
            error = all_of.each([host], lambda one: all_of.node(one)).failed["b0"]
        assert time.monotonic() - began < 15
    assert isinstance(error, HostUnreachable) and "b0 (" in error.where


def test_data_beyond_the_window_ends_the_connection() -> None:
    pipe = packets._BoundedPipe(1000)
    pipe.feed(b"x" * 1000)
    with pytest.raises(Exception, match="more than the channel's window"):
        pipe.feed(b"x")
    pipe.read(600)
    pipe.feed(b"x" * 600)


def test_a_packet_that_nobody_takes_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "_WRITE_SECONDS", 0.5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.1)
        packetizer = packets.BoundedPacketizer(ours)
        began = time.monotonic()
        with pytest.raises(EOFError):
            while True:
                packetizer.write_all(b"x" * 65536)
        assert time.monotonic() - began < 20


# A process that reads what a liar says, and prints by how much its memory grew, in KiB.
_MEASURE = """
import resource, subprocess, sys
from clusteradm.errors import HostFailed
from clusteradm.node.spec.wire.node import GatherFacts
from clusteradm.transport.node import Node
from clusteradm.transport.stream import ProcessStream
liar = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=-1, stdout=-1, stderr=-1)
node = Node("w1", ProcessStream(liar))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    node.call(GatherFacts(), timeout=60)
except HostFailed as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error.what[:200], error.next_step)
"""


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("while True: os.write(1, b'x' * 65536)", "a line of more than 16384 KiB"),
        ("while True: os.write(2, b'x' * 65536); os.write(1, b'x' * 65536)", "a line of more than 16384 KiB"),
        (
            'os.write(1, b\'{"id": 1, "done": true, "facts": {"a": [\')\nwhile True: os.write(1, b\'{},\' * 20000)',
            "a line of",
        ),
        ("sys.stdout.write('[' + '{},' * 5000000 + '{}]\\n')", "more than 500000 values"),
        ("sys.stdout.write('{\"id\": 1, \"facts\": ' + '[' * 7000000 + '\\n')", "more than 500000 values"),
    ],
)
def test_the_memory_that_a_liar_costs_is_bounded(lie: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, f"import os, sys\n{lie}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    grown, _, what = done.stdout.partition(" ")
    assert said in what and int(grown) < 120 << 10
    assert "if a task has an output that large, have it written to a file on the host" in what


def test_what_nobody_takes_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WRITE_SECONDS", 0.5)
    deaf = subprocess.Popen(["sleep", "60"], stdin=-1, stdout=-1, stderr=-1)
    node = Node("w1", streams.ProcessStream(deaf))
    node.send(PutBlob("0" * 64, 1 << 22))
    with pytest.raises(Silent, match="it takes nothing of what is sent to it"):
        node._write(b"x" * (1 << 22))
    assert node.closed


def test_an_empty_line_is_not_the_end() -> None:
    echo = streams.ProcessStream(subprocess.Popen(["printf", r"a\n\nb\n"], stdin=-1, stdout=-1, stderr=-1))
    lines = streams.Lines(echo)
    assert [lines.read(10) for _ in range(4)] == [b"a", b"", b"b", None]
    echo.close()
