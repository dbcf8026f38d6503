"""One table from symptom to cause: what each way not to get in is called, and that it is called that everywhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import paramiko
import pytest
from paramiko.ssh_exception import NoValidConnectionsError

from clusteradm.errors import ClusteradmError, HostUnreachable
from clusteradm.fleet.enrolment import enrol
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import Hello
from clusteradm.transport import Limits
from clusteradm.transport.errors import LoginRefused, unreachable
from clusteradm.transport.known_hosts import KnownHosts
from clusteradm.transport.packets import Heard
from clusteradm.transport.symptoms import Symptom, diagnose

from .conftest import Boards, Start

# systemd's tmpfiles.d/systemd-nologin.conf, and what pam_nologin says of it while the host goes down (v247).
BOOTING = (
    "System is booting up. Unprivileged users are not permitted to log in yet. Please come back later. "
    "For technical details, see pam_nologin(8)."
)
DOWN = "System is going down. Unprivileged users are not permitted to log in anymore. See pam_nologin(8)."


def failure(boards: Boards, host: Host, connect: float = 15.0) -> ClusteradmError:
    with boards.connect([host], limits=Limits(connect=connect)) as connections:
        return connections.each([host], lambda each: connections.node(each).call(Hello())).failed[host.name]


@pytest.mark.parametrize("said", [BOOTING, DOWN])
def test_a_host_that_starts_or_stops_is_not_one_that_refuses_the_key(start: Start, said: str) -> None:
    boards = start(closes=said + "\n")
    error = failure(boards, boards.host(0))
    assert not isinstance(error, LoginRefused) and "it is starting or stopping" in error.what
    assert said[:60] in error.what and "wait" in error.next_step


@pytest.mark.parametrize("said", [BOOTING, DOWN])
def test_a_proxy_that_outlives_the_host_s_end_of_the_connection_hides_nothing(said: str) -> None:
    """nc as ProxyCommand goes on until its standard input ends, too; so the login runs into its limit."""
    error = paramiko.AuthenticationException("Authentication timeout.")
    assert diagnose(error, Heard(banner=said, at_login=True)).symptom is Symptom.STARTING
    assert diagnose(error, Heard(banner="Welcome to all", at_login=True)).symptom is Symptom.SLOW_LOGIN


def test_what_sshd_says_of_an_account_is_kept(start: Start) -> None:
    boards = start(closes="Your account has expired; please contact your system administrator.\n")
    error = failure(boards, boards.host(0))
    assert isinstance(error, LoginRefused) and "Your account has expired" in error.what


def test_a_login_that_breaks_off_is_no_refusal(start: Start) -> None:
    boards = start(closes="")
    error = failure(boards, boards.host(0))
    assert not isinstance(error, LoginRefused) and "closed the connection during the login" in error.what


def test_a_slow_login_is_no_refusal(start: Start) -> None:
    boards = start(slow=4)
    error = failure(boards, boards.host(0), connect=1.0)
    assert isinstance(error, HostUnreachable) and not isinstance(error, LoginRefused)
    assert "the login did not end within 1 s" in error.what
    assert "busy" in error.next_step and "--connect-timeout" in error.next_step


def test_too_many_keys_in_the_agent(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd ends the login after some keys, Paramiko goes on with the next: "No existing session"."""
    boards = start()
    key = tmp_path / "mine"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    Path(f"{key}.pub").unlink()
    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    socket, pid = re.findall(r"(?:SSH_AUTH_SOCK|SSH_AGENT_PID)=([^;]+);", said)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        for number in range(12):
            other = tmp_path / f"other{number}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
            subprocess.run(["ssh-add", "-q", other], check=True)
        error = failure(boards, boards.host(0, ansible_ssh_private_key_file=str(key)))
    finally:
        os.kill(int(pid), 15)
    assert isinstance(error, LoginRefused) and "too many keys" in error.what
    assert "ansible_ssh_private_key_file" in error.next_step and "ssh-add -l" in error.next_step


@pytest.mark.parametrize("said", ["Exceeded MaxStartups", "Not allowed at this time"])
def test_what_sshd_says_before_it_is_one(start: Start, said: str) -> None:
    boards = start(banner=f"{said}\r\n")
    error = failure(boards, boards.host(0))
    assert "no more connections at the moment" in error.what and said in error.what


@pytest.mark.parametrize("greeting", ["hello", 'hello\n\n\n{"have": "x"} ', "\x1b[31m"])
def test_a_login_that_prints_no_end_of_line(start: Start, greeting: str) -> None:
    boards = start(greeting=greeting)
    with boards.connect(limits=Limits(start=8.0)) as connections:
        outcome = connections.each(boards.hosts(), lambda host: connections.node(host).call(Hello()))
        assert not outcome.failed


def test_enrolment_on_a_host_that_prints_no_end_of_line(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    key = tmp_path / "admin"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    from clusteradm.transport import Password

    boards = start(home=str(home), cwd=str(home), methods="publickey,password", password="p", greeting="Welcome! ")
    host = boards.host(0, ansible_ssh_private_key_file=str(key))
    with boards.connect([host]) as connections:
        outcome = enrol(connections, [host], lambda hosts: Password("p"))
    assert outcome.failed == {} and outcome.ok == {"b0": "password"}


SILENT = [
    TimeoutError("timed out"),
    OSError(113, "No route to host"),
    OSError(112, "Host is down"),
    OSError(101, "Network is unreachable"),
    NoValidConnectionsError({("10.0.0.2", 22): OSError(113, "No route to host")}),
    paramiko.SSHException("No existing session"),
]


def judged(error: Exception, tmp_path: Path, proxy: str = "", heard: Heard | None = None) -> ClusteradmError:
    host = Host("w2", (), {"ansible_host": "10.0.0.2"}, {})
    return unreachable(host, KnownHosts(tmp_path / "k"), error, timeout=5, proxy_stderr=proxy, heard=heard or Heard())


@pytest.mark.parametrize("error", SILENT, ids=str)
def test_a_host_without_power_is_one_thing(error: Exception, tmp_path: Path) -> None:
    """How long one waits, and what the neighbour table knows, decides what the system calls it."""
    found = judged(error, tmp_path)
    assert found.what.startswith("no answer") and "power" in found.next_step and type(found) is HostUnreachable


@pytest.mark.parametrize(
    ("said", "what", "next_step"),
    [
        ("(UNKNOWN) [10.77.0.2] 22 (ssh) : No route to host", "no answer: its proxy command says: ", "power"),
        ("ssh: connect to host 10.0.0.2 port 22: Connection timed out", "no answer: its proxy", "power"),
        ("(UNKNOWN) [10.77.0.2] 22 (ssh) : Connection refused", "nothing listens there", "systemctl status ssh"),
        ("ssh: Could not resolve hostname gate: Name or service not known", "no such name", "ansible_host"),
        ("nsenter: reassociate to namespace failed", "its proxy command failed: its proxy command says: ", "by itself"),
    ],
)
def test_what_a_proxy_command_says_is_the_same_fact(said: str, what: str, next_step: str, tmp_path: Path) -> None:
    found = judged(EOFError(), tmp_path, said)
    assert found.what.startswith(what) and said in found.what and next_step in found.next_step


def test_what_a_gateway_says_is_the_same_fact(tmp_path: Path) -> None:
    found = judged(paramiko.ChannelException(2, "No route to host"), tmp_path)
    assert found.what == "no answer: its gateway cannot reach it: No route to host" and "power" in found.next_step


# What an administrator may have sshd show to everybody before the login (`Banner`).
NOTICES = [
    "Idle sessions are timed out after 10 minutes",
    "Too many authentication failures lock the account",
    "Connection refused to all who are not named in the list",
    "Your Name and time are logged; users not known here are reported",
    "If a server is unreachable, call the helpdesk",
    "The system is going down for maintenance on Friday at 18:00",
    "Exceeded MaxStartups? Not allowed at this time",
    "Your account has expired? Ask for a new one",
]
NO = paramiko.AuthenticationException("Authentication failed.")
EOF = paramiko.AuthenticationException("Authentication failed: transport shut down or saw EOF")


@pytest.mark.parametrize("notice", NOTICES)
def test_a_notice_before_the_login_is_no_cause_of_a_refusal(notice: str, tmp_path: Path) -> None:
    found = judged(NO, tmp_path, heard=Heard(banner=notice, at_login=True))
    assert isinstance(found, LoginRefused) and "login refused" in found.what and notice not in found.what


@pytest.mark.parametrize("notice", [*NOTICES[:5], "Authorised use only"])
@pytest.mark.parametrize("error", [EOF, EOFError(), ConnectionResetError(104, "Connection reset by peer")], ids=repr)
def test_a_notice_does_not_make_a_breakdown_a_refusal(error: Exception, notice: str, tmp_path: Path) -> None:
    found = judged(error, tmp_path, heard=Heard(banner=notice, at_login=True))
    assert type(found) is HostUnreachable and found.what.startswith("it closed the connection during the login")
    assert notice in found.what  # it may be the text of /etc/nologin


def test_what_pam_says_at_the_end_of_a_login_is_its_reason(tmp_path: Path) -> None:
    for error in (EOF, paramiko.SSHException("No existing session")):
        found = judged(error, tmp_path, heard=Heard(banner=BOOTING, at_login=True))
        assert type(found) is HostUnreachable and "it is starting or stopping" in found.what
        said = "Your account has expired; please contact your system administrator."
        found = judged(error, tmp_path, heard=Heard(banner=said, at_login=True))
        assert isinstance(found, LoginRefused) and said in found.what


@pytest.mark.parametrize(
    ("goodbye", "what"),
    [("Too many authentication failures", "too many keys"), ("Change of username not allowed", "login refused for")],
)
@pytest.mark.parametrize("error", [EOF, paramiko.SSHException("No existing session"), EOFError()], ids=repr)
def test_the_reason_of_a_disconnection_is_a_decision(error: Exception, goodbye: str, what: str, tmp_path: Path) -> None:
    found = judged(error, tmp_path, heard=Heard(goodbye=goodbye, banner=NOTICES[0], at_login=True))
    assert isinstance(found, LoginRefused) and what in found.what and goodbye in found.what


def test_what_comes_instead_of_ssh_is_quoted_and_not_believed(tmp_path: Path) -> None:
    error = paramiko.SSHException("Error reading SSH protocol banner")
    found = judged(error, tmp_path, heard=Heard(preamble=NOTICES[0]))
    assert found.what == f'something answers there, but no SSH server does: it says "{NOTICES[0]}"'


@pytest.mark.parametrize(
    "notice", [*NOTICES[:2], "If a server is unreachable, call us", "Name and time of a login not known here are kept"]
)
def test_the_notice_of_a_gateway_is_not_what_its_ssh_says(notice: str, tmp_path: Path) -> None:
    """`ssh -W` writes its gateway's `Banner` to standard error as well."""
    found = judged(EOFError(), tmp_path, notice)
    assert (
        type(found) is HostUnreachable and found.what == f"its proxy command failed: its proxy command says: {notice}"
    )


def test_the_banner_of_a_real_login_is_told_from_its_end(start: Start, tmp_path: Path) -> None:
    boards = start(notice=f"{NOTICES[0]}\n")
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    error = failure(boards, boards.host(0, ansible_ssh_private_key_file=str(key)))
    assert isinstance(error, LoginRefused) and "login refused" in error.what
