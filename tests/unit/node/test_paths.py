"""Root in folders that another user can write: whatever is put there as a link, nothing outside of them changes."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node import files, paths
from clusteradm.node.context import ModuleFailed

Do = Callable[..., dict[str, Any]]
NOBODY = 65534
NONE = {"owner": None, "group": None, "mode": None}
REFUSED = "is a link that root does not follow"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root is kept from links")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of another user."""
    path = tmp_path / "home"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


@pytest.fixture
def etc(tmp_path: Path) -> Iterator[Path]:
    """A folder of root with a file; both must be at the end what they were."""
    path = tmp_path / "etc"
    path.mkdir(mode=0o755)
    (path / "passwd").write_text("root")
    (path / "passwd").chmod(0o644)

    def state() -> list[Any]:
        found = [(p.name, p.stat().st_uid, p.stat().st_mode, p.stat().st_mtime_ns) for p in (path, path / "passwd")]
        return [*found, sorted(os.listdir(path)), (path / "passwd").read_text()]

    before = state()
    yield path
    assert state() == before


def link(path: Path, target: Path) -> Path:
    """A link as the other user makes it."""
    path.symlink_to(target)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("file", {"path": "{}", "state": "directory", "owner": "nobody", "mode": "0700"}),
        ("file", {"path": "{}/sub", "state": "directory", "owner": "nobody"}),
        ("file", {"path": "{}/passwd", "owner": "nobody", "mode": "0666"}),
        ("file", {"path": "{}/passwd", "state": "touch"}),
        ("file", {"path": "{}/new", "state": "touch"}),
        ("file", {"path": "{}/passwd", "state": "absent"}),
        ("file", {"path": "{}/l", "state": "link", "src": "passwd"}),
        ("copy", {"dest": "{}/passwd", "src": "a", "content": "mine"}),
        ("copy", {"dest": "{}/new", "src": "a", "content": "mine"}),
        ("copy", {"dest": "{}/sub/", "src": "a", "content": "mine"}),
        ("lineinfile", {"path": "{}/passwd", "line": "mine"}),
        ("lineinfile", {"path": "{}/sub/new", "line": "mine", "create": True}),
        ("blockinfile", {"path": "{}/passwd", "block": "mine", "backup": True}),
        ("authorized_key", {"user": "nobody", "path": "{}/authorized_keys", "key": "ssh-ed25519 AAAA"}),
        ("slurp", {"src": "{}/passwd"}),
        ("get_url", {"url": "file:///etc/hostname", "dest": "{}/passwd"}),
    ],
)
def test_no_module_goes_through_a_link_to_a_folder(
    do: Do, home: Path, etc: Path, module: str, args: dict[str, Any]
) -> None:
    link(home / ".ssh", etc)
    args = {name: value.format(home / ".ssh") if isinstance(value, str) else value for name, value in args.items()}
    body = str(args.pop("content")).encode() if "content" in args else None
    result = do(module, body=body, **args)
    assert (result["status"], REFUSED in str(result)) == ("failed", True), result


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("file", {"path": "{}", "owner": "nobody", "mode": "0666"}),
        ("copy", {"dest": "{}", "src": "a", "content": "mine"}),
        ("lineinfile", {"path": "{}", "line": "mine"}),
        ("slurp", {"src": "{}"}),
    ],
)
def test_no_module_goes_through_a_link_to_a_file(
    do: Do, home: Path, etc: Path, module: str, args: dict[str, Any]
) -> None:
    link(home / "file", etc / "passwd")
    args = {name: value.format(home / "file") for name, value in args.items()}
    body = str(args.pop("content")).encode() if "content" in args else None
    result = do(module, body=body, **args)
    assert (result["status"], REFUSED in str(result)) == ("failed", True), result


def test_keys_replace_a_link(do: Do, home: Path, etc: Path) -> None:
    (home / ".ssh").mkdir()
    os.chown(home / ".ssh", NOBODY, NOBODY)
    path = link(home / ".ssh" / "authorized_keys", etc / "passwd")
    result = do("authorized_key", user="nobody", path=str(path), key="ssh-ed25519 AAAA")
    assert result["status"] in ("changed", "failed")


def test_a_second_name_of_a_file_is_not_given_away(do: Do, home: Path, etc: Path) -> None:
    (home / "f").hardlink_to(etc / "passwd")
    result = do("file", path=str(home / "f"), owner="nobody")
    assert "has a second name" in str(result["msg"])


def test_everything_in_a_folder_but_what_its_links_lead_to(do: Do, home: Path, etc: Path) -> None:
    link(home / "l", etc)
    result = do("file", path=str(home), state="directory", owner="nobody", recurse=True)
    assert REFUSED in str(result["msg"])
    assert do("file", path=str(home), state="directory", mode="u+w", recurse=True, follow=False)["status"] != "failed"


def test_links_of_root_are_followed(do: Do, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert do("file", path=str(tmp_path / "link" / "new"), state="touch")["status"] == "changed"
    assert paths.real(str(tmp_path / "link" / "new")) == str(tmp_path / "real" / "new")
    assert paths.real(str(tmp_path / "no" / "where")) == str(tmp_path / "no" / "where")


def test_a_sticky_folder_keeps_roots_links_but_nobody_elses(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "real").mkdir()
    (shared / "roots").symlink_to(tmp_path / "real")
    assert paths.real(str(shared / "roots")) == str(tmp_path / "real")
    shared.chmod(0o777)
    with pytest.raises(paths.UnsafePath, match="users other than root can write"):
        paths.real(str(shared / "roots"))
    shared.chmod(0o1777)
    link(shared / "theirs", tmp_path / "real")
    with pytest.raises(paths.UnsafePath, match="it belongs to uid 65534"):
        paths.real(str(shared / "theirs"))


def test_attributes_of_a_link_are_its_own(tmp_path: Path, etc: Path) -> None:
    (tmp_path / "l").symlink_to(etc / "passwd")
    assert files.attributes(str(tmp_path / "l"), {"owner": "nobody", "group": None, "mode": 0o600}, False)
    assert (tmp_path / "l").lstat().st_uid == NOBODY


def test_a_folder_that_turns_into_a_link_while_root_acts(home: Path, etc: Path) -> None:
    """Another thread swaps them all the time: each act is on the folder, or refused."""
    folder, spare, lure = home / "d", home / "spare", link(home / "lure", etc)
    folder.mkdir()
    (folder / "passwd").write_text("theirs")
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                folder.rename(spare)
                lure.rename(folder)
                folder.rename(lure)
                spare.rename(folder)
                # It is a folder for long enough that some of the work below is done, whatever else the machine does.
                ended.wait(random.random() / 1000)  # noqa: S311

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = {"done": 0, "refused": 0}
    try:
        deadline = time.monotonic() + 60
        while sum(outcomes.values()) < 500 or (0 in outcomes.values() and time.monotonic() < deadline):
            try:
                files.attributes(str(folder / "passwd"), {**NONE, "owner": "nobody", "mode": 0o666}, False)
                files.write(str(folder / "passwd"), b"mine")
                with paths.folder(str(folder)) as fd:
                    os.fchown(fd, NOBODY, NOBODY)
                outcomes["done"] += 1
            except (OSError, ModuleFailed):
                outcomes["refused"] += 1
    finally:
        ended.set()
        thread.join()
    assert min(outcomes.values()) > 0, outcomes
    assert stat.S_ISDIR(etc.stat().st_mode)
