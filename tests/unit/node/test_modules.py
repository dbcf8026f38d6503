"""Modules on a tree of the test: what they change, what they leave, what check mode says."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.spec import modules as module_specs


def test_template_writes_once(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert do("template", body=b"a\n", src="f.j2", dest=str(path), mode="0640", check=True)["status"] == "changed"
    assert not path.exists()
    assert do("template", body=b"a\n", src="f.j2", dest=str(path), mode="0640")["status"] == "changed"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"a\n", 0o640)
    before = path.stat().st_ino
    assert do("template", body=b"a\n", src="f.j2", dest=str(path), mode="0640")["status"] == "ok"
    assert path.stat().st_ino == before
    result = do("template", body=b"b\n", src="f.j2", dest=str(path), backup=True)
    assert Path(result["backup_file"]).read_bytes() == b"a\n"
    assert result["diff"][0]["before"] == "a\n" and result["diff"][0]["after"] == "b\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == sorted(["f", os.path.basename(result["backup_file"]), "state"])


def test_a_missing_directory_is_named(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = do("template", body=b"a\n", src="f", dest=str(tmp_path / "no/f"))
    assert result["status"] == "failed" and "no does not exist" in result["msg"]


def test_command(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    there = tmp_path / "there-1.2"
    there.touch()
    assert do("command", cmd="false", creates=f"{tmp_path}/there-*")["status"] == "ok"
    assert do("command", argv=["echo", "a b"])["stdout"] == "a b"
    assert do("command", cmd="echo 'a b' | cat")["stdout"] == "a b | cat"
    assert do("shell", cmd="echo 'a b' | cat", chdir=str(tmp_path))["stdout"] == "a b"
    assert do("command", cmd="touch x", chdir=str(tmp_path), check=True)["status"] == "unknown"
    assert not (tmp_path / "x").exists()
    assert do("command", cmd="touch x", creates=str(tmp_path / "x"), check=True)["status"] == "changed"
    assert "No such file" in do("command", cmd="no-such-program")["msg"]


def test_lineinfile(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a=1\nb=2\na=3\n")
    assert do("lineinfile", path=str(path), regexp="^a=", line="a=4")["status"] == "changed"
    assert path.read_text() == "a=1\nb=2\na=4\n"
    assert do("lineinfile", path=str(path), regexp="^a=4", line="a=4")["status"] == "ok"
    assert do("lineinfile", path=str(path), line="c", insertafter="^b")["status"] == "changed"
    assert path.read_text() == "a=1\nb=2\nc\na=4\n"
    assert do("lineinfile", path=str(path), regexp="^a", state="absent", check=True)["status"] == "changed"
    assert do("lineinfile", path=str(path), regexp="^a", state="absent")["status"] == "changed"
    assert path.read_text() == "b=2\nc\n"
    assert do("lineinfile", path=str(path), regexp="^a", state="absent")["status"] == "ok"
    assert "does not exist" in do("lineinfile", path=str(tmp_path / "none"), line="x")["msg"]


def test_blockinfile(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one\ntwo\n")
    args = {"path": str(path), "marker": "# {mark} X", "insertbefore": "BOF"}
    assert do("blockinfile", block="a\nb\n", **args)["status"] == "changed"
    assert path.read_text() == "# BEGIN X\na\nb\n# END X\none\ntwo\n"
    assert do("blockinfile", block="a\nb", **args)["status"] == "ok"
    assert do("blockinfile", block="c", **args)["status"] == "changed"
    assert path.read_text() == "# BEGIN X\nc\n# END X\none\ntwo\n"
    assert do("blockinfile", block="", **args)["status"] == "changed"
    assert path.read_text() == "one\ntwo\n"


def test_file(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    assert do("file", path=str(path), state="directory", mode="0750")["status"] == "changed"
    assert path.is_dir() and path.stat().st_mode & 0o777 == 0o750
    assert do("file", path=str(path), state="directory", mode="0750")["status"] == "ok"
    assert do("file", path=str(path), state="directory", mode="0700")["status"] == "changed"
    assert do("file", path=str(tmp_path / "l"), src="a", state="link")["status"] == "changed"
    assert do("file", path=str(tmp_path / "l"), src="a", state="link")["status"] == "ok"
    assert os.readlink(tmp_path / "l") == "a"
    assert do("file", path=str(tmp_path / "a"), state="absent")["status"] == "changed"
    assert do("file", path=str(tmp_path / "a"), state="absent")["status"] == "ok"
    assert do("file", path=str(tmp_path / "a"), state="file")["status"] == "failed"


def test_slurp_and_get_url(do: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\0x")
    assert base64.b64decode(do("slurp", src=str(tmp_path / "f"))["content"]) == b"\0x"
    assert do("slurp", src=str(tmp_path / "none"))["status"] == "failed"
    url, dest = (tmp_path / "f").as_uri(), tmp_path / "g"
    assert do("get_url", url=url, dest=str(dest))["status"] == "changed"
    assert do("get_url", url=url, dest=str(dest))["status"] == "ok"
    bad = do("get_url", url=url, dest=str(dest), checksum="sha256:00", force=True)
    assert bad["status"] == "failed" and "did not match" in bad["msg"]
    assert dest.read_bytes() == b"\0x"


def test_what_is_installed_is_left_alone(do: Callable[..., dict[str, Any]]) -> None:
    if not os.path.exists("/var/lib/dpkg/status"):
        pytest.skip("not a Debian system")
    assert do("apt", name=["dpkg", "bash"])["status"] == "ok"


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("file", {}, "needs the option path"),
        ("file", {"path": "/x", "stat": 1}, "has no option stat"),
        ("file", {"path": "/x", "state": "dir"}, "must be one of"),
        ("file", {"path": "/x", "mode": "u+k"}, "cannot be 'u.k'"),
        ("command", {}, "needs one of cmd, argv"),
        ("service", {"name": "x"}, "needs one of"),
        ("lineinfile", {"path": "/x", "insertafter": "a", "insertbefore": "b"}, "takes only one of"),
        ("apt", {"name": "x", "update_cache": "perhaps"}, "cannot be 'perhaps'"),
    ],
)
def test_bad_options_are_refused(module: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(module_specs.OptionError, match=message):
        module_specs.normalise(module, args)


def test_options_are_converted() -> None:
    options = module_specs.normalise("file", {"dest": "/x", "mode": "0644", "recurse": "yes"})
    assert (options["path"], options["mode"], options["recurse"], options["owner"]) == ("/x", 0o644, True, None)
    assert module_specs.normalise("apt", {"pkg": "a, b"})["name"] == ["a", "b"]
