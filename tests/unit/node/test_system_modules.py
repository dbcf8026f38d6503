"""What the agreement with Ansible cannot show of the modules for programs, accounts, services and packages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.context import Completed, Context, ModuleFailed
from clusteradm.node.modules import apt, modprobe, nmcli, user
from clusteradm.node.spec import modules as module_specs

Do = Callable[..., dict[str, Any]]


def test_what_a_command_leaves_running_is_not_waited_for(do: Do) -> None:
    begin = time.monotonic()
    assert do("shell", cmd="sleep 60 & echo begun")["stdout"] == "begun"
    assert time.monotonic() - begin < 30


def test_a_large_input_and_output(do: Do, tmp_path: Path) -> None:
    text = "0123456789" * 50_000
    assert do("command", argv=["cat"], stdin=text, stdin_add_newline=False)["stdout"] == text
    assert do("command", cmd="true", stdin=text)["rc"] == 0  # takes nothing of it


@pytest.mark.parametrize("word", ["$AGREE_NOT_THERE", "~nobody-of-this-name"])
def test_what_stands_for_nothing_stays(do: Do, word: str) -> None:
    assert do("command", argv=["echo", word])["stdout"] == word


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("user", {"name": "x", "login_class": "staff"}),
        ("user", {"name": "x", "state": "locked"}),
        ("group", {"name": "x", "local": True}),
        ("systemd", {"name": "x", "state": "started", "scope": "user"}),
        ("service", {"name": "x", "state": "started", "use": "upstart"}),
        ("shell", {"cmd": "true", "argv": ["true"]}),
    ],
)
def test_what_is_not_there_is_refused(module: str, args: dict[str, Any]) -> None:
    with pytest.raises(module_specs.OptionError):
        module_specs.normalise(module, args)


class Kernel:
    """A kernel of the test, which knows "good" and not "bad", and the folders that say what it loads at boot."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded, self.at_boot, self.parameters = folder / "modules", folder / "load.d", folder / "modprobe.d"
        for place in (self.at_boot, self.parameters, folder / "bin"):
            place.mkdir()
        self.loaded.write_text("other_one 1 0 - Live 0\n")
        (folder / "builtin").write_text("kernel/fs/inside.ko\n")
        program = folder / "bin/modprobe"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/calls\n'
            'case "$*" in *bad*) echo "FATAL: Module bad not found." >&2; exit 1 ;; -n*) ;;\n'
            f"-r*) sed -i /^$2/d {self.loaded} ;; *) echo $1 1 0 - Live 0 >>{self.loaded} ;; esac\n"
        )
        program.chmod(0o755)
        self._calls = folder / "calls"
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
        for name, path in (("_LOADED", self.loaded), ("_BUILT_IN", folder / "builtin")):
            monkeypatch.setattr(modprobe, name, str(path))
        for name, path in (("_AT_BOOT", self.at_boot), ("_PARAMETERS", self.parameters)):
            monkeypatch.setattr(modprobe, name, str(path))

    def calls(self) -> str:
        said = self._calls.read_text() if self._calls.exists() else ""
        self._calls.unlink(missing_ok=True)
        return said

    @staticmethod
    def do(check: bool = False, **options: Any) -> Any:
        context = Context(lambda line: None)
        context.check = check
        return modprobe.run(module_specs.normalise("modprobe", options), context)["changed"]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch)


def test_a_module_is_loaded_once_and_taken_out_once(kernel: Kernel) -> None:
    assert kernel.do(check=True, name="good") and kernel.calls() == "-n good\n"
    assert kernel.do(name="good", params="a=1 b='2 3'") and kernel.calls() == "good a=1 b=2 3\n"
    assert not kernel.do(name="good") and not kernel.do(name="other-one") and not kernel.do(name="inside")
    assert kernel.do(name="good", state="absent") and kernel.calls() == "-r good\n"
    assert not kernel.do(name="good", state="absent") and kernel.calls() == ""
    with pytest.raises(ModuleFailed, match="Module bad not found"):
        kernel.do(name="bad")


def test_a_module_at_boot(kernel: Kernel) -> None:
    (kernel.parameters / "old.conf").write_text("options inside old=1\noptions insider old=1\n")
    assert kernel.do(check=True, name="inside", persistent="present") and not list(kernel.at_boot.iterdir())
    assert kernel.do(name="inside", persistent="present", params="a=1 b=2")
    assert (kernel.at_boot / "inside.conf").read_text() == "inside\n"
    assert (kernel.parameters / "inside.conf").read_text() == "options inside a=1\noptions inside b=2\n"
    assert (kernel.parameters / "old.conf").read_text() == "#options inside old=1\noptions insider old=1\n"
    assert not kernel.do(name="inside", persistent="present", params="b=2 a=1")
    assert kernel.do(name="inside", persistent="absent") and not kernel.do(name="inside", persistent="absent")
    assert (kernel.at_boot / "inside.conf").read_text() == "#inside\n"


class Recorder(Context):
    """Runs nothing: keeps the commands and what they were given."""

    def __init__(self) -> None:
        Context.__init__(self, lambda line: None)
        self.commands: list[tuple[list[str], str]] = []

    def run(self, command: list[str], stdin: str = "", *_: Any, **__: Any) -> Completed:
        self.commands.append((command, stdin))
        return Completed(0, "", "")


def test_a_hash_is_in_no_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root:!:1:0:99999:7:::\n")
    monkeypatch.setattr(user, "_SHADOW", str(tmp_path / "shadow"))
    context = Recorder()
    options = module_specs.normalise("user", {"name": "root", "password": "$6$salt$hash", "password_lock": True})
    assert user.run(options, context)["password"] == "NOT_LOGGING_PASSWORD"
    assert context.commands == [(["chpasswd", "-e"], "root:!$6$salt$hash\n")]


@pytest.mark.parametrize("name", ["a*", "a>=1", "a=1=2"])
def test_packages_by_pattern_are_refused(name: str) -> None:
    with pytest.raises(ModuleFailed, match="invalid package spec"):
        apt.run(module_specs.normalise("apt", {"name": name}), Recorder())


def test_a_size_of_packets_needs_the_type() -> None:
    options = module_specs.normalise("nmcli", {"conn_name": "c", "mtu": 1400, "state": "present"})
    with pytest.raises(ModuleFailed, match="mtu needs type: ethernet"):
        nmcli.run(options, Recorder())
