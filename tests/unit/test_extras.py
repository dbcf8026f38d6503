"""The command that installs an extra, by how clusteradm itself was installed."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from clusteradm import extras


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment of its own, with pip, and no other tool on the PATH."""
    folder = tmp_path / "my clusteradm"
    folder.mkdir()
    monkeypatch.setattr(sys, "prefix", str(folder))
    monkeypatch.setattr(sys, "executable", str(folder / "bin/python3"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(extras, "requirements", lambda extra: ["one >=1,<2", "two"])
    return folder


def test_a_virtual_environment(environment: Path) -> None:
    words = shlex.split(extras.install_command("convert"))
    assert words == [str(environment / "bin/python3"), "-m", "pip", "install", "one >=1,<2", "two"]


def test_pipx(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment / "pipx_metadata.json").touch()
    assert shlex.split(extras.install_command("convert"))[1:3] == ["-m", "pip"]
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/pipx" if name == "pipx" else None)
    assert shlex.split(extras.install_command("convert")) == ["pipx", "inject", "my clusteradm", "one >=1,<2", "two"]


def test_without_pip(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "-m ensurepip && " in extras.install_command("convert")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/uv" if name == "uv" else None)
    assert shlex.split(extras.install_command("convert"))[:4] == ["uv", "pip", "install", "--python"]


def test_the_systems_own_python(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(environment))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "--break-system-packages" not in extras.install_command("convert")
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert "pip install --break-system-packages 'one >=1,<2'" in extras.install_command("convert")


def test_requirements_are_those_of_the_installed_metadata() -> None:
    assert any(name.startswith("ai-edge-litert") for name in extras.requirements("lab"))
    assert extras.requirements("nothing") == ["clusteradm[nothing]"]
