"""Why the head's cluster user is not let in: by sshd's configuration, and only else "run clusteradm bootstrap"."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from clusteradm.health.checks import login as check
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host
from clusteradm.node.probe import login as probe

W1 = Host("w1", ("compute",), {"cluster_ip": "10.0.0.2"}, {})
DENIED = "cluster@w1: Permission denied (publickey)."
ABOUT: dict[str, Any] = {"user": "cluster", "sshd": {}, "groups": ["cluster", "apex"], "loose": []}


@pytest.mark.parametrize(
    ("sshd", "cause", "remedy"),
    [
        ({"allowusers": ["mendel", "ann@10.*"]}, "only AllowUsers mendel ann@10.*", "add cluster to AllowUsers"),
        ({"allowgroups": ["sudo"]}, "only AllowGroups sudo", "add cluster to AllowGroups"),
        ({"denyusers": ["clus*"]}, "DenyUsers there names it", "take it out of DenyUsers"),
        ({"denygroups": ["apex"]}, "DenyGroups there names it", "take it out of DenyGroups"),
        ({"pubkeyauthentication": ["no"]}, "takes no keys", "PubkeyAuthentication yes"),
        ({"authorizedkeysfile": ["/etc/ssh/keys/%u"]}, "reads keys from /etc/ssh/keys/%u", "AuthorizedKeysFile"),
    ],
)
def test_what_bootstrap_cannot_mend_is_not_sent_to_it(sshd: dict[str, list[str]], cause: str, remedy: str) -> None:
    found = check.refused(W1, DENIED, Reading({**ABOUT, "sshd": sshd}))
    assert cause in found[0] and DENIED in found[0]
    assert remedy in found[1] and "bootstrap" not in found[1] and "systemctl reload ssh" in found[1]


@pytest.mark.parametrize(
    "sshd",
    [
        {},
        {"allowusers": ["mendel", "cl?ster"], "denyusers": ["cluster2", "[c]luster"]},
        {"allowusers": ["cluster@10.0.0.*"], "allowgroups": ["ape?"]},
        {"authorizedkeysfile": [".ssh/authorized_keys", "/etc/keys"], "pubkeyauthentication": ["yes"]},
        {"denygroups": ["*", "!cluster", "!apex"]},
    ],
)
def test_what_lets_it_in_is_not_blamed(sshd: dict[str, list[str]]) -> None:
    found = check.refused(W1, DENIED, Reading({**ABOUT, "sshd": sshd}))
    assert found[0].endswith(DENIED) and "run clusteradm bootstrap; if that changes nothing" in found[1]


def test_a_home_that_others_may_write() -> None:
    found = check.refused(W1, DENIED, Reading({**ABOUT, "loose": ["/home/cluster"]}))
    assert "others may write /home/cluster" in found[0] and "chmod go-w /home/cluster" in found[1]


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("ssh: connect to host w1 port 22: Connection refused", "ListenAddress"),
        ("ssh: connect to host w1 port 22: Connection timed out", "firewall"),
        ("no answer in time", "firewall"),
        ("Host key verification failed.", "run clusteradm bootstrap"),
    ],
)
def test_a_login_that_does_not_come_that_far(reason: str, remedy: str) -> None:
    limited = Reading({**ABOUT, "sshd": {"allowusers": ["mendel"]}})
    assert remedy in check.refused(W1, reason, limited)[1]


def test_sshd_is_asked_only_where_its_files_say_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def output(command: list[str], seconds: float) -> str:
        asked.append(command)
        return "port 22\nallowusers mendel\nallowusers ann@10.*\nauthorizedkeysfile .ssh/a .ssh/b\n"

    monkeypatch.setattr(probe, "output", output)
    folder = tmp_path / "etc/ssh/sshd_config.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/ssh/sshd_config").write_text("# AllowUsers mendel\nUsePAM yes\n")
    assert probe.settings(str(tmp_path), "cluster", "10.0.0.1") == {} and asked == []
    (folder / "50.conf").write_text("  allowusers mendel\n")
    assert probe.settings(str(tmp_path), "cluster", "10.0.0.1") == {
        "allowusers": ["mendel", "ann@10.*"],
        "authorizedkeysfile": [".ssh/a", ".ssh/b"],
    }
    assert asked[0][1:] == ["-T", "-C", "user=cluster,host=10.0.0.1,addr=10.0.0.1"]


def test_the_section_on_this_machine() -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    found = probe.probe("/", {"user": me, "head": "10.0.0.1", "address": "10.0.0.2"})
    assert found["user"] == me and found["groups"] and isinstance(found["loose"], list)
    assert probe.probe("/", {"user": "nobody-at-all"})["groups"] == []
