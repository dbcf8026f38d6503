"""Modules that change files: what the agreement with Ansible, which needs boards, cannot show."""

from __future__ import annotations

import http.server
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node import files

Do = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("letters", "before", "after"),
    [
        ("u+x", 0o644, 0o744),
        ("a=r", 0o777, 0o444),
        ("go-rwx", 0o777, 0o700),
        ("u=rwX,go=rX", 0o700, 0o755),
        ("u=rwX,go=rX", 0o600, 0o644),
        ("g=u,o=", 0o750, 0o770),
        ("u+s,g+s,o+t", 0o755, 0o7755),
        ("u=rw", 0o4755, 0o655),
        ("g+w-x", 0o750, 0o760),
    ],
)
def test_letters_of_a_mode(do: Do, tmp_path: Path, letters: str, before: int, after: int) -> None:
    path = tmp_path / "f"
    path.touch()
    path.chmod(before)
    assert do("file", path=str(path), mode=letters)["changed"] is True
    assert path.stat().st_mode & 0o7777 == after
    assert do("file", path=str(path), mode=letters)["changed"] is False


def test_what_is_disproved_is_never_there(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old\n")
    seen = tmp_path / "seen"
    # The mode is what it will be before anybody can read it under its own name.
    proof = f'sh -c \'stat -c %a "$0" >{seen}; grep -q new "$0"\' %s'
    result = do("copy", body=b"bad\n", src="", dest=str(path), mode="0600", validate=proof, backup=True)
    assert result["status"] == "failed" and result["msg"] == "failed to validate" and result["exit_status"] == 1
    assert (path.read_text(), seen.read_text()) == ("old\n", "600\n")
    assert do("copy", body=b"new\n", src="", dest=str(path), mode="0600", validate=proof)["status"] == "changed"
    assert path.read_text() == "new\n"
    assert "must contain %s" in do("copy", body=b"x", src="", dest=str(path), validate="true")["msg"]
    assert [name for name in os.listdir(tmp_path) if name.startswith(".f.")] == []


def test_copy_is_of_single_files(do: Do, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    assert "is a folder" in do("copy", src=str(tmp_path / "from"), dest=str(tmp_path / "to"), remote_src=True)["msg"]
    assert not (tmp_path / "to").exists()
    wrong = do("copy", body=b"x", src="x", dest=str(tmp_path / "to"), checksum="00")
    assert wrong["status"] == "failed" and not (tmp_path / "to").exists()


def test_attributes_that_a_file_has_beyond_its_mode_stay(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one\n")
    try:
        os.setxattr(path, "user.kept", b"yes")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")
    assert do("lineinfile", path=str(path), line="two")["status"] == "changed"
    assert os.getxattr(path, "user.kept") == b"yes"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_write_in_a_folder_may_replace_what_is_another_s() -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, nobody, nobody)
        path = Path(folder, "f")
        path.write_text("old")
        child = os.fork()
        if not child:
            os.setgid(nobody)
            os.setuid(nobody)
            try:
                files.write(str(path), b"new")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert (path.read_text(), path.stat().st_uid, os.listdir(folder)) == ("new", nobody, ["f"])


def test_a_line_is_never_glued_to_the_one_before(do: Do, tmp_path: Path) -> None:
    """Ansible does so, after a last line without end that insertafter names."""
    path = tmp_path / "f"
    path.write_bytes(b"first\nlast")
    assert do("lineinfile", path=str(path), line="new", insertafter="^last")["status"] == "changed"
    assert path.read_bytes() == b"first\nlast\nnew\n"
    assert do("lineinfile", path=str(path), line="new", insertafter="^last")["status"] == "ok"
    path.write_bytes(b"\xff\xfe\r\nlast")
    assert do("blockinfile", path=str(path), block="new")["status"] == "changed"
    assert path.read_bytes().startswith(b"\xff\xfe\r\nlast\n# BEGIN")
    assert "no regular expression" in do("lineinfile", path=str(path), regexp="(", line="x")["msg"]


def test_recursion_ends_where_links_go_round(do: Do, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/round").symlink_to("..")
    (tmp_path / "a/b/nowhere").symlink_to("none")
    (tmp_path / "a/b/f").touch()
    assert do("file", path=str(tmp_path / "a"), state="directory", recurse=True, mode="go=")["status"] == "changed"
    assert (tmp_path / "a/b/f").stat().st_mode & 0o077 == 0
    assert do("file", path=str(tmp_path / "a"), state="directory", recurse=True, mode="go=")["status"] == "ok"


def test_the_folders_that_are_missing_are_made(do: Do, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    assert files.missing(f"{deep}/") == [str(tmp_path / "a"), str(tmp_path / "a/b"), str(deep)]
    assert files.missing(str(tmp_path)) == files.missing("/") == []
    file = {"path": str(deep), "state": "directory", "mode": "0711"}
    copy = {"body": b"x", "src": "f", "dest": f"{tmp_path / 'd' / 'e'}/", "mode": "0600"}
    for module, args, top in (("file", file, "a"), ("copy", copy, "d")):
        assert do(module, check=True, **args)["status"] == "changed" and not (tmp_path / top).exists()
        assert [do(module, **args)["status"] for _ in range(2)] == ["changed", "ok"]
    # The mode that a task names is that of every folder for `file`, of the file alone for `copy`.
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b/c", "d/e/f")}
    assert modes == {"a": 0o711, "a/b/c": 0o711, "d/e/f": 0o600}


def test_no_folder_is_made_where_a_file_is_in_the_way(do: Do, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert files.missing(str(tmp_path / "f")) == []
    for module, args in (
        ("file", {"path": str(tmp_path / "f/deep"), "state": "directory"}),
        ("copy", {"body": b"x", "src": "x", "dest": f"{tmp_path / 'f/deep'}/"}),
    ):
        failed = do(module, **args)
        assert failed["status"] == "failed" and f"Not a directory: '{tmp_path}/f/deep" in failed["msg"]


def test_authorized_key_says_what_it_does_not_take(do: Do, tmp_path: Path) -> None:
    args = {"user": "root", "path": str(tmp_path / "keys"), "manage_dir": False}
    assert "not a URL" in do("authorized_key", key="https://example.org/me.keys", **args)["msg"]
    assert not (tmp_path / "keys").exists()


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/nothing" else 200)
        if self.path == "/named":
            self.send_header("Content-Disposition", 'attachment; filename="../real name"')
        self.send_header("Content-Length", "100" if self.path == "/cut" else "4")
        self.end_headers()
        self.wfile.write(self.headers.get("X-Say", "body").encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/key.asc", "Connection refused"),
        ("http://nowhere.invalid/key.asc", ""),
        ("file:///nowhere/key.asc", "No such file"),
        ("{site}/nothing", "404"),
        ("{site}/cut", "bytes came"),
    ],
)
def test_what_cannot_be_fetched_is_named(do: Do, site: str, tmp_path: Path, url: str, why: str) -> None:
    url = url.format(site=site)
    failed = do("get_url", url=url, dest=str(tmp_path / "f"))
    assert failed["msg"].startswith(f"cannot fetch {url}: ") and why in failed["msg"]
    key = do("deb822_repository", name="x", uris="http://x", suites="s", signed_by="http://127.0.0.1:1/key.asc")
    assert "http://127.0.0.1:1/key.asc" in key["msg"]


def test_get_url_takes_only_what_came_whole(do: Do, site: str, tmp_path: Path) -> None:
    cut = do("get_url", url=f"{site}/cut", dest=str(tmp_path / "f"))
    assert cut["status"] == "failed" and "4 of 100 bytes" in cut["msg"]
    (tmp_path / "into").mkdir()
    named = do("get_url", url=f"{site}/named", dest=str(tmp_path / "into"), headers={"X-Say": "text"})
    assert (named["dest"], Path(named["dest"]).read_text()) == (str(tmp_path / "into/real name"), "text")
    assert os.listdir(tmp_path / "into") == ["real name"] and not (tmp_path / "f").exists()
    bad = do("get_url", url="gopher://x/y", dest=str(tmp_path / "f"))
    assert bad["status"] == "failed" and "gopher" in bad["msg"]
