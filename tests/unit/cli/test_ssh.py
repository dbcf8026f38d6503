"""`clusteradm ssh`: the words of ssh, and what is refused before."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from clusteradm.cli.main import main

INVENTORY = """\
all:
  vars: {{cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}}
  children:
    head: {{hosts: {{h: {{ansible_connection: local, cluster_ip: 10.0.0.1}}}}}}
    compute:
      hosts:
        c1:
          ansible_host: 192.0.2.2
          ansible_port: 2222
          ansible_user: mendel
          ansible_ssh_private_key_file: {0}/my key
          ansible_ssh_common_args: -o ProxyCommand="nc %h %p"
          cluster_ip: 10.0.0.2
        c2: {{ansible_host: 192.0.2.3, cluster_ip: 10.0.0.3}}
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "100 % mine"
    folder.mkdir()
    (folder / "inventory.yml").write_text(INVENTORY.format(folder))
    (folder / "known_hosts").write_text(f"[192.0.2.2]:2222 {KEY}\n192.0.2.3 {KEY}\n")
    monkeypatch.setenv("CLUSTERADM_INVENTORY", str(folder / "inventory.yml"))
    monkeypatch.setattr("clusteradm.transport.ssh_config.files", list)

    def execvp(program: str, words: list[str]) -> None:
        raise SystemExit(repr(words))

    monkeypatch.setattr(os, "execvp", execvp)
    return folder


def words(*typed: str) -> list[str]:
    with pytest.raises(SystemExit) as became:
        main(["ssh", *typed])
    found: list[str] = ast.literal_eval(str(became.value))
    return found


def test_all_that_the_inventory_says(folder: Path) -> None:
    assert words("c1") == [
        *("ssh", "-o", f'UserKnownHostsFile="{folder.parent}/100 %% mine/known_hosts"'),
        *("-o", "StrictHostKeyChecking=yes", "-p", "2222", "-l", "mendel", "-i", f"{folder}/my key"),
        *("-o", "ProxyCommand=nc %h %p", "--", "192.0.2.2"),
    ]
    assert words("-t", "c2", "--", "sudo", "-i")[5:] == ["-t", "--", "192.0.2.3", "sudo", "-i"]


def test_this_machine_needs_no_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert words("h") == ["/bin/sh", "-l"] and words("h", "--", "uname", "-n") == ["/bin/sh", "-c", "uname -n"]


def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ssh", "c3"]) == 2
    assert "c3" in capsys.readouterr().err
    (folder / "known_hosts").write_text("")
    assert main(["ssh", "c1"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "c1: its host key is not known" in said and "clusteradm enroll" in said and "--limit c1" in said
