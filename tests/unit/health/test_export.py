"""What the head's NFS server says of its export, to whom, and what is made of servers that say something else."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusteradm.node.probe import export

HEAD = "127.0.0.2"
STEPS = 4
NOENT, ACCESS, STALE = 2, 13, 70
# Leaves as the kernel writes them; 127.0.0.2 is the head's address in the cluster.
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
           |-- 127.0.0.2
              /32 host LOCAL
           |-- 127.0.0.9
              /32 link UNICAST
              /32 host LOCAL
           |-- 127.255.255.255
              /32 link BROADCAST
Local:
           |-- 127.0.0.1
              /32 host LOCAL
"""


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def opaque(data: bytes) -> bytes:
    return words(len(data)) + data + b"\0" * (-len(data) % 4)


def reply(number: int, status: int, done: int = STEPS, *, verifier: bytes = b"", tag: bytes = b"") -> bytes:
    """What a server makes of a COMPOUND; the results of its steps are not looked at."""
    return words(number, 1, 0, 0) + opaque(verifier) + words(0, status) + opaque(tag) + words(done)


def framed(message: bytes, *, pieces: int = 1) -> bytes:
    size = -(-len(message) // pieces) or 1
    parts = [message[at : at + size] for at in range(0, len(message) or 1, size)]
    return b"".join(words((0x80000000 if part is parts[-1] else 0) | len(part)) + part for part in parts)


# What a server does with a call: its connection, who calls, the call's number.
Manner = Callable[[socket.socket, str, int], None]


@contextlib.contextmanager
def serving(manner: Manner) -> Iterator[tuple[int, list[tuple[str, int, bytes]]]]:
    """A server at HEAD; its port, and (address, port, request) of each call."""
    calls: list[tuple[str, int, bytes]] = []
    with socket.create_server((HEAD, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, (address, port) = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        request = connection.recv(4096)
                        calls.append((address, port, request))
                        manner(connection, address, struct.unpack_from(">I", request, 4)[0])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], calls
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def says(inside: int, **outside: int) -> Manner:
    """Answers with the status for HEAD, and for each other address with its own (a1: 127.0.0.1) or NOENT."""

    def manner(connection: socket.socket, address: str, number: int) -> None:
        other = outside.get("a" + address.rpartition(".")[2], NOENT)
        connection.sendall(framed(reply(number, inside if address == HEAD else other)))

    return manner


def sends(data: Callable[[int], bytes]) -> Manner:
    return lambda connection, address, number: connection.sendall(data(number))


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/fib_trie").write_text(FIB_TRIE)
    return str(tmp_path)


def asked(root: str, port: int, limit: float = 3.0, **options: Any) -> dict[str, Any]:
    found = export.probe(root, {"head": None, "address": HEAD, "subnet": f"{HEAD}/32", **options}, limit, port)
    assert found is not None
    assert found.pop("handles", None) is None, "no folder was named"
    return found


def test_only_the_head_is_asked(root: str) -> None:
    with serving(says(0)) as (port, calls):
        assert export.probe(root, {"head": "10.0.0.1", "address": HEAD, "subnet": "10.0.0.0/8"}, 3.0, port) is None
    assert calls == []


def test_a_server_that_is_as_it_should_be(root: str) -> None:
    with serving(says(0)) as (port, calls):
        found = asked(root, port)
    assert found == {
        "answers": True,
        "exports": True,
        "error": None,
        "outsider": {"from": "127.0.0.1", "refused": True, "said": "NFS4ERR_NOENT"},
    }
    assert [address for address, _, _ in calls] == [HEAD, "127.0.0.1", "127.0.0.9"]


def test_one_address_that_is_let_in_outweighs_those_that_are_refused(root: str) -> None:
    with serving(says(0, a1=ACCESS, a9=0)) as (port, _):
        found = asked(root, port)
    assert found["exports"] and found["outsider"] == {"from": "127.0.0.9", "refused": False, "said": "NFS4_OK"}


def test_one_that_is_refused_outweighs_those_that_get_no_word(root: str) -> None:
    with serving(says(0, a1=10006, a9=ACCESS)) as (port, _):
        assert asked(root, port)["outsider"] == {"from": "127.0.0.9", "refused": True, "said": "NFS4ERR_ACCESS"}
    with serving(says(0, a1=10006, a9=4711)) as (port, _):
        found = asked(root, port)["outsider"]
    assert found == {"from": "127.0.0.1", "refused": None, "said": "NFS4ERR_SERVERFAULT"}


def test_a_server_that_does_not_export(root: str) -> None:
    with serving(says(STALE, a9=0)) as (port, _):
        found = asked(root, port)
    assert (found["answers"], found["exports"]) == (True, False)
    assert found["error"] == "asked for /cluster from 127.0.0.2, it says NFS4ERR_STALE"
    assert found["outsider"]["refused"] is False


def test_without_a_subnet_there_is_no_outside(root: str) -> None:
    with serving(says(0)) as (port, calls):
        assert asked(root, port, subnet=None) == {"answers": True, "exports": True, "error": None, "outsider": None}
        assert asked(root, port, subnet="127.0.0.0/8")["outsider"] is None
    assert {address for address, _, _ in calls} == {HEAD}


def test_nothing_listens(root: str) -> None:
    with socket.create_server((HEAD, 0)) as gone:
        port = gone.getsockname()[1]
    error = f"connection refused: nothing listens at {HEAD}, port {port}"
    assert asked(root, port) == {"answers": False, "exports": None, "error": error, "outsider": None}


def test_a_stopped_server_takes_connections_and_is_given_up_in_time(root: str) -> None:
    with socket.create_server((HEAD, 0)) as silent:
        begun = time.monotonic()
        found = asked(root, silent.getsockname()[1], 0.2)
        assert 0.15 < time.monotonic() - begun < 2
        error = "it takes connections, but does not answer (0.2 s)"
        assert found == {"answers": False, "exports": None, "error": error, "outsider": None}
        # Nothing of it waits for the server: its end is a reset.
        connection, _ = silent.accept()
        with connection, pytest.raises(ConnectionResetError):
            assert connection.recv(4096)
            connection.recv(1)


def test_a_server_that_dribbles_is_given_up_in_time(root: str) -> None:
    def dribble(connection: socket.socket, address: str, number: int) -> None:
        for byte in framed(reply(number, 0)):
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    with serving(dribble) as (port, _):
        begun = time.monotonic()
        assert asked(root, port, 0.3)["error"] == "it takes connections, but does not answer (0.3 s)"
        assert time.monotonic() - begun < 0.7
        assert asked(root, port, 20.0, subnet=None)["exports"]


def test_outsiders_that_hear_nothing_share_what_time_is_left(root: str) -> None:
    def manner(connection: socket.socket, address: str, number: int) -> None:
        if address == HEAD:
            connection.sendall(framed(reply(number, 0)))
        else:
            connection.recv(1)  # until it is given up

    with serving(manner) as (port, calls):
        begun = time.monotonic()
        found = asked(root, port, 0.6)
        assert 0.5 < time.monotonic() - begun < 2
    assert found["exports"] and len(calls) == 3
    assert (found["outsider"]["from"], found["outsider"]["refused"]) == ("127.0.0.1", None)
    assert found["outsider"]["said"].startswith("it takes connections, but does not answer")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (lambda number: b"", "it closes the connection without an answer"),
        (lambda number: framed(reply(number, 0))[:-1], "it closes the connection without an answer"),
        (lambda number: b"SSH-2.0-OpenSSH_9.2\r\n", "what answers is no NFS server"),
        (lambda number: framed(b""), "its answer is cut short"),
        (lambda number: framed(reply(number, 0)[:-4]), "its answer is cut short"),
        (lambda number: framed(reply(number ^ 1, 0)), "what answers is no NFS server"),
        (lambda number: framed(words(number, 0, 2, 100003, 4, 1)), "what answers is no NFS server"),
        (lambda number: framed(words(number, 1, 2, 1, 5)), "what answers is no NFS server"),
        (lambda number: words(0x10000004) + b"abcd", "what answers is no NFS server"),
        (lambda number: words(0) * 5000, "what answers is no NFS server"),
        (lambda number: framed(reply(number, 0, 3)), "its answer lacks some of the operations that were asked for"),
    ],
)
def test_no_answer(root: str, data: Callable[[int], bytes], error: str) -> None:
    with serving(sends(data)) as (port, _):
        assert asked(root, port) == {"answers": False, "exports": None, "error": error, "outsider": None}


@pytest.mark.parametrize(
    ("rest", "said", "refused"),
    [
        (words(1, 1, 1, 5), "AUTH_ERROR 5", True),
        (words(1, 1, 0, 2, 2), "RPC_MISMATCH", None),
        (words(1, 0, 0, 0, 2, 3, 3), "PROG_MISMATCH", None),
        (words(1, 0, 0, 0, 5), "accept_stat 5", None),
    ],
)
def test_what_rpc_itself_refuses(root: str, rest: bytes, said: str, refused: bool | None) -> None:
    with serving(sends(lambda number: framed(words(number) + rest))) as (port, _):
        found = asked(root, port)
    assert (found["answers"], found["exports"]) == (True, False) and found["error"].endswith(f"it says {said}")
    assert found["outsider"] == {"from": "127.0.0.1", "refused": refused, "said": said}


def test_addresses_that_cannot_be_asked(root: str) -> None:
    assert asked(root, 1, address="192.0.2.1")["error"] == "from 192.0.2.1: Cannot assign requested address"
    assert "illegal IP address" in asked(root, 1, address=None)["error"]


def test_a_port_of_root_where_there_is_one(root: str) -> None:
    with serving(says(0)) as (port, calls):
        asked(root, port)
        asked(root, port)  # now the first ones may be taken
    allowed = [1 <= port < 1024 for _, port, _ in calls]
    with socket.socket() as trial:
        try:
            trial.bind((HEAD, 600))
            expected = True
        except PermissionError:
            expected = False
    assert len(calls) == 6 and set(allowed) == {expected}


def test_the_call() -> None:
    request, steps = export.call(7, "/srv/clusters")
    mark, rest = struct.unpack_from(">I", request)[0], request[4:]
    assert mark == 0x80000000 | len(rest)
    assert rest.startswith(words(7, 0, 2, 100003, 4, 1, 1))
    lookups = words(15, 3) + b"srv\0" + words(15, 8) + b"clusters"
    assert rest.endswith(words(65534, 65534, 0, 0, 0, 0, 0, 5, 24) + lookups + words(10, 3, 3))
    assert steps == 5


def test_fragments_are_joined_and_what_is_incomplete_waited_for() -> None:
    message = reply(1, 0, verifier=b"short", tag=b"some text")
    for pieces in (1, 2, 5):
        data = framed(message, pieces=pieces)
        assert export.record(data + b"more") == message
        assert {export.record(data[:size]) for size in range(len(data))} == {None}
    assert export.answer(message, 1, STEPS) == "NFS4_OK"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([b"", words(7, 1), words(7, 1, 0, 0)]),
    st.lists(
        st.binary(max_size=20) | st.sampled_from([words(n) for n in (0, 1, 2, 7, 13, 0x80000000, 0xFFFFFFFF)]),
        max_size=10,
    ).map(b"".join),
)
def test_no_bytes_do_anything_but_say_something_or_nothing(begin: bytes, rest: bytes) -> None:
    data = begin + rest
    with contextlib.suppress(export.NoAnswer):
        assert isinstance(export.record(data), (bytes, type(None)))
    with contextlib.suppress(export.NoAnswer):
        assert export.answer(data, 7, STEPS)
        assert data.startswith(words(7, 1))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_answer_is_no_ok(data: st.DataObject) -> None:
    good = reply(7, 0)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    try:
        said = export.answer(bytes(bad), 7, STEPS)
    except export.NoAnswer:
        return
    # Only the verifier's flavour says nothing.
    assert said != "NFS4_OK" or place in range(12, 16), (place, said)


def test_own_addresses_outside() -> None:
    assert export.outside(FIB_TRIE, "127.0.0.2/32") == ["127.0.0.1", "127.0.0.9"]
    assert export.outside(FIB_TRIE, "127.0.0.2/30") == ["127.0.0.9"]
    assert export.outside(FIB_TRIE, "nonsense") == export.outside("", "10.0.0.0/8") == []
    own = export.outside(Path("/proc/net/fib_trie").read_text(), "192.0.2.0/24")
    assert "127.0.0.1" in own and not any(one.count(".") != 3 for one in own)


def test_which_file_systems_have_handles(tmp_path: Path) -> None:
    """/proc has none, whatever machine this is; a folder that is not there says nothing."""
    assert export.handles("/proc/self") is False
    assert export.handles(str(tmp_path / "nowhere")) is None and export.handles(None) is None
    assert export.handles(str(tmp_path)) in (True, False)
