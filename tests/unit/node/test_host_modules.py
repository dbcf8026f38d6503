"""What the agreement with Ansible cannot show of the modules for the kernel, the clock and known hosts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.spec import modules as module_specs

Do = Callable[..., dict[str, Any]]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMEyZQf1AWHQOcKc4tMunKVafJzmfdRoDuiYM2eU7QqL"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILamJ7ZFo0Vk0ch3DsqKGy4QfO/Vqxm6RgPKMHYhrqN6"

ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="there is no ssh-keygen")


def found(host: str, path: Path) -> list[str]:
    """The lines that ssh takes to be about the host."""
    done = subprocess.run(["ssh-keygen", "-F", host, "-f", str(path)], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


@ssh
def test_a_hashed_name_is_known_to_ssh_and_to_nobody_else(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    args = {"name": "hidden", "key": f"hidden {KEY}", "path": str(path), "hash_host": True}
    assert do("known_hosts", **args)["status"] == "changed"
    assert "hidden" not in path.read_text()
    assert len(found("hidden", path)) == 1
    assert do("known_hosts", **args)["status"] == "ok"
    args["key"] = f"hidden {OTHER}"
    assert do("known_hosts", **args)["status"] == "changed"
    (line,) = found("hidden", path)
    assert line.endswith(OTHER)


@ssh
def test_a_list_whose_last_line_does_not_end_keeps_it(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"one {KEY}")
    assert do("known_hosts", name="two", key=f"two {OTHER}", path=str(path))["status"] == "changed"
    assert path.read_text() == f"one {KEY}\ntwo {OTHER}\n"


@ssh
def test_checked_known_hosts_stay(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"one {KEY}\n")
    for args in ({"state": "absent"}, {"key": f"one {OTHER}"}):
        assert do("known_hosts", check=True, name="one", path=str(path), **args)["status"] == "changed"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("known")] == ["known_hosts"]
    assert path.read_text() == f"one {KEY}\n"


@pytest.mark.skipif(not shutil.which("sysctl"), reason="there is no sysctl")
def test_what_else_is_in_a_file_of_settings_stays(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "sysctl.conf"
    path.write_text("# agree.one = 9\nagree.two = a = b\n; c\nnot a setting\nagree.one=1\n")
    path.chmod(0o640)
    args = {"name": "agree.one", "value": "off", "sysctl_file": str(path), "reload": False}
    assert do("sysctl", check=True, **args)["status"] == "changed"
    assert "agree.one=1\n" in path.read_text()
    assert do("sysctl", **args)["status"] == "changed"
    assert path.read_text() == "# agree.one = 9\nagree.two=a = b\n; c\nnot a setting\nagree.one=0\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert do("sysctl", **args)["status"] == "ok"
    assert do("sysctl", **{**args, "value": None, "state": "absent"})["status"] == "changed"
    assert "agree.one=" not in path.read_text()


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("sysctl", {"name": "a", "value": "1", "state": "started"}),
        ("sysctl", {"name": "a", "value": ["1"]}),
        ("known_hosts", {"name": "a", "type": "rsa"}),
        ("timezone", {}),
        ("timezone", {"hwclock": "utc"}),
    ],
)
def test_what_is_not_there_is_refused(module: str, args: dict[str, Any]) -> None:
    with pytest.raises(module_specs.OptionError):
        module_specs.normalise(module, args)
