"""`clusteradm exec` as it is typed, on real SSH servers: output by lines and by groups, statuses, input, limits."""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from clusteradm.cli import main
from clusteradm.errors import UsageError
from clusteradm.fleet import commands
from clusteradm.fleet.commands import Source
from clusteradm.inventory import Host

from .conftest import Start
from .test_enroll_command import inventory

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def file(start: Start) -> str:
    """The inventory of four boards."""
    return inventory(start(4))


def run(file: str, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """`clusteradm exec` in a process of its own: its exit status and output."""
    command = [sys.executable, "-m", "clusteradm", "exec", "-i", file, "--accept-new", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_each_line_with_its_host_and_the_largest_status(file: str) -> None:
    status, out, err = run(file, "--", "echo", "one; echo two >&2; printf three; exit 4")
    assert status == 4
    for name in ("b0", "b1", "b2", "b3"):
        assert [line for line in out.splitlines() if line.startswith(name)] == [
            f"{name}: {word}" for word in ("one", "two", "three")
        ]
    assert "b[0-3]: exit status 4" in err


def test_equal_outputs_once_and_differences(file: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    odd = f"echo same; mkdir {counter} 2>/dev/null && echo odd; true"
    status, out, _ = run(file, "--gather", "--", odd)
    assert status == 0
    rule, heading, _, *lines = out.splitlines()
    assert set(rule) == {"-"} and heading.endswith("(3)") and lines[0] == "same"
    assert out.count("same") == 2 and out.count("odd") == 1
    counter.rmdir()
    _, out, _ = run(file, "--diff", "--", odd)
    assert "+odd" in out.splitlines() and out.splitlines()[3] == "same"


def test_json_has_status_output_and_error_of_each_host(file: str) -> None:
    status, out, _ = run(file, "--json", "--timeout", "2", "--", f"mkdir {file}.d 2>/dev/null && sleep 60; echo x")
    hosts = json.loads(out)["hosts"]
    late = [name for name, host in hosts.items() if host["status"] is None]
    assert status == 255 and len(late) == 1
    assert "the command did not end within 2 s" in hosts.pop(late[0])["error"]
    assert all(host == {"status": 0, "output": "x\n", "error": None} for host in hosts.values())


def test_standard_input_goes_to_every_host_as_it_comes(file: str) -> None:
    data = os.urandom(300_000)
    status, out, _ = run(file, "--", "sha256sum", stdin=data)
    digest = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout.decode().strip()
    assert status == 0 and sorted(out.splitlines()) == [f"b{number}: {digest}" for number in range(4)]
    status, out, _ = run(file, "-n", "--", "wc -c", stdin=data)
    assert {line.split()[1] for line in out.splitlines()} == {"0"}
    # A pipe that nobody closes holds up no command that does not read it.
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "clusteradm", "exec", "-i", file, "true"]
    assert subprocess.run(command, stdin=reader, cwd=ROOT, timeout=30, capture_output=True).returncode == 0
    os.close(writer)
    os.close(reader)


def test_an_input_that_cannot_be_read_or_kept_to_its_end_is_no_short_one(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, "-m", "clusteradm", "exec", "-i", file, "--accept-new", "--", "cat; exit 3"]
    broken, unreadable = os.open("/proc/self/mem", os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)  # the latter by nohup
    for stdin, status, said in ((broken, 255, "not complete: Input/output error"), (unreadable, 3, "exit status 3")):
        done = subprocess.run(words, stdin=stdin, capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr
        os.close(stdin)

    def full(buffering: int) -> BinaryIO:
        return open("/dev/full", "r+b", buffering=buffering)  # type: ignore[return-value]

    def nowhere(buffering: int) -> BinaryIO:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory")

    monkeypatch.setattr(commands.tempfile, "TemporaryFile", full)
    (tmp_path / "data").write_bytes(b"x")
    with open(tmp_path / "data", "rb") as data:
        slow, source = Slow(), Source(data)
        commands._feed(slow, source)  # type: ignore[arg-type]
    assert source.broken == "No space left on device" and slow.closed and not slow.ended
    monkeypatch.setattr(commands.tempfile, "TemporaryFile", nowhere)
    with open(tmp_path / "data", "rb") as data, pytest.raises(UsageError, match="cannot be kept: No usable"):
        Source(data)


class Slow:
    """A command that takes its input slowly, and never more than a piece."""

    def __init__(self) -> None:
        self.taken, self.ended, self.closed = bytearray(), False, False

    def write(self, data: bytes, patient: bool = False) -> None:
        assert patient, "there is no limit to how late a command reads"
        self.taken += data

    def end_input(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True


def test_what_a_command_reads_late_is_kept_on_the_disk(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    with open(tmp_path / "data", "rb") as file:
        source = Source(file)
        for _ in range(2):
            slow = Slow()
            commands._feed(slow, source)  # type: ignore[arg-type]
            assert bytes(slow.taken) == data and slow.ended


def test_an_input_that_ends_by_an_error_is_no_end_of_input(tmp_path: Path) -> None:
    class Gone(Slow):
        def write(self, data: bytes, patient: bool = False) -> None:
            raise ConnectionError("the host stopped answering")

    (tmp_path / "data").write_bytes(b"x")
    with open(tmp_path / "data", "rb") as file:
        gone = Gone()
        commands._feed(gone, Source(file))  # type: ignore[arg-type]
    assert not gone.ended


def test_what_a_host_prints_is_no_command_to_the_terminal(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["exec", "-i", file, "--accept-new", "-n", "--", r"printf '\033[31mred\007\n'"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_host_that_cannot_be_reached_costs_no_other(start: Start) -> None:
    boards = start(2)
    file = inventory(boards, b1={"ansible_port": 1})
    status, out, err = run(file, "--", "echo here")
    assert (status, out) == (255, "b0: here\n")
    assert "b1" in err and "nothing listens there" in err and "not run, or not to its end, on 1 host: b1" in err


@pytest.mark.parametrize(("reader", "status", "said"), [("| head -1", 141, ""), (">/dev/full", 1, "No space left")])
def test_output_that_nobody_takes_is_no_fault_of_the_hosts(file: str, reader: str, status: int, said: str) -> None:
    program = shlex.join(
        [sys.executable, "-m", "clusteradm", "exec", "-i", file, "--accept-new", "-n", "--", "seq 50000"]
    )
    script = f"{program} {reader}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == status, done.stderr
    assert said in done.stderr and done.stderr.count("\n") == 1 + bool(said)


def test_what_a_host_has_said_of_a_command_that_does_not_end(file: str) -> None:
    """Also a line without its end: a question, for example."""
    late = f"mkdir {file}.d 2>/dev/null && printf 'a\\fb\\n[y/n] ' && sleep 60; echo x"
    status, out, err = run(file, "--timeout", "1", "-g", "--", late)
    assert status == 255 and "the command did not end within 1 s" in err
    _, heading, _, said, *lines = out.splitlines()
    assert heading.endswith("(3)") and said == "x" and lines[1].startswith("b") and lines[3:] == ["a\\x0cb", "[y/n] "]


def test_a_command_may_go_on_after_its_output() -> None:
    class Late:
        def exit_status(self, within: float | None) -> int | None:
            return 7 if within is None else None

        def stderr_tail(self) -> str:
            return ""

    late: Any = Late()
    host = Host("b0", (), {}, {})
    assert commands._status(host, late, lambda host, line: None, math.inf) == 7
    with pytest.raises(TimeoutError):
        commands._status(host, late, lambda host, line: None, 0.0)


def test_ctrl_c_names_the_hosts_that_are_not_done(file: str) -> None:
    command = [sys.executable, "-m", "clusteradm", "exec", "-i", file, "--accept-new", "-n", "--"]
    command.append(f"mkdir {file}.d 2>/dev/null || exec sleep 60; echo done")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    assert process.stdout is not None and process.stderr is not None
    done = process.stdout.readline().decode().partition(":")[0]
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read().decode()
    assert process.wait(20) == 130
    process.stdout.close()
    process.stderr.close()
    assert "not completed: b[" in said and done not in said.partition("not completed")[2]


def test_no_line_is_lost_of_many(file: str) -> None:
    status, out, _ = run(file, "-n", "--", "seq 20000")
    lines = out.splitlines()
    assert status == 0 and len(lines) == 80_000
    for number in range(4):
        mine = [line.split()[1] for line in lines if line.startswith(f"b{number}:")]
        assert mine == [str(value) for value in range(1, 20_001)]


def test_a_word_in_another_encoding_and_output_that_is_no_text(file: str) -> None:
    words = ("-n", "--limit", "b0", "--", "printf '%s\\0' \udce9 | od -An -tx1; printf '\\377\\n'")
    assert run(file, *words)[:2] == (0, "b0:  e9 00\nb0: \ufffd\n")
    assert json.loads(run(file, "--json", *words)[1])["hosts"]["b0"]["output"] == " e9 00\n\ufffd\n"


def test_words_that_are_refused(file: str) -> None:
    assert run(file, "--json", "--gather", "--", "true")[0] == 2
    status, _, err = run(file, "--limit", "nothing", "--", "true")
    assert status == 2 and "nothing" in err
