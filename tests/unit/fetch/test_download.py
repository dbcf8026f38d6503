"""Fetching from a server that is honest, cuts, stalls, lies or has changed: the right file or a clear error."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lying_server as lying
import pytest
from lying_server import Server

from clusteradm.errors import UsageError
from clusteradm.fetch import (
    FetchFailed,
    Progress,
    WrongContent,
    default_cache,
    download,
    exchange,
    fetch,
    name_of,
    store,
)

BODY, OTHER = (hashlib.shake_256(seed).digest(300_000) for seed in (b"a file", b"another"))
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with lying.running(Server(BODY)) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0,) * 4)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def parts(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "parts").iterdir())


def test_a_file_is_fetched_once(server: Server, cache: Path) -> None:
    seen: list[Progress] = []
    first = fetch(server.address("/pool/a_1.0.deb?token=x"), cache=cache, progress=seen.append)
    assert first.path.read_bytes() == BODY
    assert first.path == cache / SHA
    assert (first.name, first.sha256, first.size, first.cached) == ("a_1.0.deb", SHA, len(BODY), False)
    assert first.origin == server.address("/pool/a_1.0.deb")
    assert seen[-1] == Progress("a_1.0.deb", len(BODY), len(BODY))
    assert [state.done for state in seen] == sorted(state.done for state in seen)
    assert parts(cache) == []
    again = fetch(server.address(), sha256=SHA, size=len(BODY), cache=cache)
    assert again.cached and again.path == first.path
    assert len(server.asked) == 1
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_the_cache_is_for_its_owner_alone(server: Server, cache: Path) -> None:
    path = fetch(server.address(), cache=cache).path
    assert [oct(each.stat().st_mode & 0o777) for each in (cache, cache / "parts", path)] == ["0o700", "0o700", "0o600"]


def test_a_damaged_file_of_the_cache_is_fetched_again(server: Server, cache: Path) -> None:
    path = fetch(server.address(), cache=cache).path
    path.write_bytes(OTHER)
    again = fetch(server.address(), sha256=SHA.upper(), cache=cache)
    assert not again.cached and path.read_bytes() == BODY


def test_a_cut_is_taken_up_where_it_was(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(sent=100_000), lying.part(100_000, sent=50_000)]
    found = fetch(server.address(), cache=cache)
    assert found.path.read_bytes() == BODY
    assert server.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert [each.headers.get("if-range") for each in server.asked] == [None, lying.ETAG, lying.ETAG]


def test_the_next_run_goes_on(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(sent=100_000), *[lying.status(503)] * 4]
    with pytest.raises(FetchFailed, match=r"503 Service Unavailable, 5 times; 100,000 bytes are kept"):
        fetch(server.address(), cache=cache)
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges()[5:] == ["bytes=100000-"]


@pytest.mark.parametrize("sha256", [None, SHA])
def test_what_the_next_run_cannot_go_on_from_is_not_promised(server: Server, cache: Path, sha256: str | None) -> None:
    server.etag = None
    server.acts = [lying.whole(sent=100_000), *[lying.status(503)] * 4]
    with pytest.raises(FetchFailed) as caught:
        fetch(server.address(), sha256=sha256, cache=cache)
    assert ("100,000 bytes are kept, and the next run goes on" in caught.value.what) == (sha256 is not None)
    assert fetch(server.address(), sha256=sha256, cache=cache).path.read_bytes() == BODY
    assert server.ranges()[5:] == [None if sha256 is None else "bytes=100000-"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-299999/300000"},
        {"Content-Range": "bytes 100000-299999/300001"},
        {"Content-Range": "bytes 100000-300000/300000"},
        {"Content-Range": "bytes 100000-299999/*"},
        {"Content-Range": "items 1-2/3"},
        {"Content-Range": None},
        {"ETag": '"second"'},
        {"Content-Encoding": "gzip"},
        {"Content-Range": "bytes 100000-150000/300000"},
    ],
)
def test_a_part_of_another_place_or_file_is_not_taken(server: Server, cache: Path, headers: dict[str, Any]) -> None:
    server.acts = [lying.whole(sent=100_000), lying.part(100_000, headers=headers)]
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges() == [None, "bytes=100000-", None]


def test_a_server_without_ranges_gives_all_of_it_again(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(sent=100_000), lying.whole()]
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges() == [None, "bytes=100000-"]


def test_a_file_that_changes_between_two_parts_is_not_mixed(server: Server, cache: Path) -> None:
    def change(server: Server, to: Any) -> None:
        server.body, server.etag = OTHER, '"second"'
        lying.serve(server, to)

    server.acts = [lying.whole(sent=100_000), change]
    assert fetch(server.address(), cache=cache).path.read_bytes() == OTHER


def test_a_file_that_changes_unsaid_is_noticed_by_its_sha256(server: Server, cache: Path) -> None:
    server.etag = None
    server.body = OTHER[:1000] + BODY[1000:]
    server.acts = [lying.whole(sent=100_000)]

    def restore(server: Server, to: Any) -> None:
        server.body = BODY
        lying.serve(server, to)

    server.acts.append(restore)
    assert fetch(server.address(), sha256=SHA, cache=cache).path.read_bytes() == BODY
    assert server.ranges() == [None, "bytes=100000-", None]


def test_without_a_sign_of_the_version_nothing_is_taken_up(server: Server, cache: Path) -> None:
    server.etag = None
    server.acts = [lying.whole(sent=100_000)]
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges() == [None, None]


def test_a_weak_etag_is_no_sign_of_the_version(server: Server, cache: Path) -> None:
    server.etag = 'W/"first"'
    server.acts = [lying.whole(sent=100_000)]
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges() == [None, None]


def test_a_date_is_a_sign_of_the_version(server: Server, cache: Path) -> None:
    server.etag = "Thu, 01 Oct 2026 00:00:00 GMT"
    dated = {"Last-Modified": server.etag, "ETag": None}
    server.acts = [lying.whole(sent=100_000, headers=dated), lying.part(100_000, headers=dated)]
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.asked[1].headers["if-range"] == server.etag


def test_a_stall_ends(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SECONDS", 0.3)
    # The second attempt has all the time that a busy machine needs.
    monkeypatch.setattr(download.time, "sleep", lambda pause: monkeypatch.setattr(download, "SECONDS", 30.0))
    server.acts = [lying.stall(70_000)]
    notes: list[str] = []
    found = fetch(server.address(), cache=cache, progress=lambda state: notes.append(state.note))
    assert found.path.read_bytes() == BODY
    assert "the server sent nothing for 0 s; trying again" in notes
    assert server.ranges() == [None, "bytes=70000-"]


def test_bytes_one_at_a_time_are_a_stall(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SECONDS", 0.1)

    def drip(server: Server, to: Any) -> None:
        lying.whole(sent=0)(server, to)
        while not server.ended.wait(0.02):
            to.wfile.write(b"x")

    server.acts = [drip] * 5
    with pytest.raises(FetchFailed, match="sent nothing for 0 s, 5 times"):
        fetch(server.address(), cache=cache)


def test_headers_one_byte_at_a_time_are_a_stall(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SECONDS", 0.1)

    def drip(server: Server, to: Any) -> None:
        to.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not server.ended.wait(0.02):
            to.wfile.write(b"x")

    server.acts = [drip] * 5
    with pytest.raises(FetchFailed, match="sent nothing for 0 s, 5 times"):
        fetch(server.address(), cache=cache)


def test_a_length_that_is_too_long_is_no_whole_file(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(length=400_000), *[lying.status(416)] + [lying.whole(length=400_000)] * 5]
    with pytest.raises(FetchFailed, match=r"the connection ended after 300,000 of 400,000 bytes, 5 times"):
        fetch(server.address(), cache=cache)


def test_a_length_that_is_too_short_is_another_file(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(length=200_000)] * 2
    assert fetch(server.address(), cache=cache).size == 200_000
    with pytest.raises(WrongContent, match="it is another file"):
        fetch(server.address(), sha256=SHA, cache=cache)
    assert parts(cache) == []


@pytest.mark.parametrize("length", ["-5", "5e3", "99999999999999999999", "", ["1", "300000"], "0x10"])
def test_a_length_that_is_none_is_refused(server: Server, cache: Path, length: Any) -> None:
    server.acts = [lying.whole(length=None, headers={"Content-Length": length})]
    with pytest.raises(FetchFailed, match="no proper Content-Length"):
        fetch(server.address(), cache=cache)


def test_without_a_length_a_cut_shows_by_the_sha256_alone(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(length=None), lying.whole(length=None, sent=1000), lying.whole(length=None)]
    with pytest.raises(FetchFailed, match=r"does not say how long it is[\s\S]*name its sha256"):
        fetch(server.address(), cache=cache)
    with pytest.raises(WrongContent):
        fetch(server.address(), sha256=SHA, cache=cache)
    assert fetch(server.address(), sha256=SHA, cache=cache).path.read_bytes() == BODY


def chunked(body: bytes, *, ends: bool) -> lying.Act:
    data = b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if ends else b"")
    return lying.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)


def test_chunks_show_a_cut(server: Server, cache: Path) -> None:
    server.acts = [chunked(BODY[:1000], ends=False), chunked(BODY, ends=True)]
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY


def test_the_wrong_file_is_refused(server: Server, cache: Path) -> None:
    server.body = OTHER
    with pytest.raises(WrongContent) as caught:
        fetch(server.address(), sha256=SHA, cache=cache)
    found = hashlib.sha256(OTHER).hexdigest()
    assert caught.value.what == f"it has sha256 {found} (300,000 bytes), not {SHA}: it is another file"
    assert caught.value.sha256 == found
    assert sorted(path.name for path in cache.iterdir()) == ["parts"] and parts(cache) == []


def test_a_page_instead_of_the_file_is_called_one(server: Server, cache: Path) -> None:
    server.body = b"\n<!DOCTYPE HTML><title>Welcome to our Wi-Fi"
    with pytest.raises(WrongContent, match="it is a web page"):
        fetch(server.address(), sha256=SHA, cache=cache)


def test_another_size_is_refused_before_the_body(server: Server, cache: Path) -> None:
    server.acts = [lying.stall(0)]
    with pytest.raises(WrongContent, match="it has 300,000 bytes, not 5: it is another file"):
        fetch(server.address(), sha256=SHA, size=5, cache=cache)


def test_what_is_too_large_is_refused_before_the_body(server: Server, cache: Path) -> None:
    server.acts = [lying.stall(0)]
    with pytest.raises(FetchFailed, match="it has 300,000 bytes, more than 1,000"):
        fetch(server.address(), most=1000, cache=cache)


def test_what_grows_too_large_is_cut(server: Server, cache: Path) -> None:
    server.acts = [chunked(BODY, ends=True)]
    with pytest.raises(FetchFailed, match="more than 100,000"):
        fetch(server.address(), most=100_000, cache=cache)
    assert parts(cache) == []


def test_an_encoded_answer_is_refused(server: Server, cache: Path) -> None:
    server.acts = [lying.whole(headers={"Content-Encoding": "gzip"})]
    with pytest.raises(FetchFailed, match=r"encoded \(gzip\)"):
        fetch(server.address(), cache=cache)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "404 Not Found\n  see that the address is right"),
        (403, "403 Forbidden\n  fetch it by hand"),
        (206, "206 Partial Content"),
        (304, "304 Not Modified"),
        (302, "302 Found"),
        (500 + 99, "599"),
    ],
)
def test_a_refusal_is_final(server: Server, cache: Path, status: int, words: str) -> None:
    server.acts = [lying.status(status)]
    with pytest.raises(FetchFailed) as caught:
        fetch(server.address(), cache=cache)
    assert f"the server answers {words}" in str(caught.value)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_when_it_says(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.acts = [lying.status(429, Retry_After="7"), lying.status(503, Retry_After="86400"), lying.status(502)]
    assert fetch(server.address(), cache=cache).sha256 == SHA
    assert pauses == [7.0, 60.0, 0.0]


def test_what_is_no_http_is_an_error(server: Server, cache: Path) -> None:
    server.acts = [lying.raw(b"SSH-2.0-OpenSSH\r\n")] * 5
    with pytest.raises(FetchFailed, match="the answer is no HTTP"):
        fetch(server.address(), cache=cache)


def test_endless_headers_are_an_error(server: Server, cache: Path) -> None:
    server.acts = [lying.raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)] * 5
    with pytest.raises(FetchFailed, match="the answer is no HTTP"):
        fetch(server.address(), cache=cache)


def test_a_connection_that_ends_at_once_is_an_error(server: Server, cache: Path) -> None:
    server.acts = [lying.raw(b"")] * 5
    with pytest.raises(FetchFailed, match=r"Remote end closed connection without response, 5 times"):
        fetch(server.address(), cache=cache)


def test_nobody_there(cache: Path) -> None:
    with lying.running(Server(BODY)) as server:
        address = server.address()
    with pytest.raises(FetchFailed, match=r"cannot connect to 127\.0\.0\.1: Connection refused"):
        fetch(address, cache=cache)


def test_off_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*args: Any, **options: Any) -> None:
        raise exchange.socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(exchange.socket, "getaddrinfo", unresolved)
    with pytest.raises(FetchFailed) as caught:
        fetch("https://models.example/m.tflite", cache=cache)
    assert str(caught.value) == (
        "https://models.example/m.tflite: the name models.example cannot be resolved (Temporary failure in name "
        "resolution): no such name, or no network\n"
        "  try again with a network, or fetch the file on another machine, and name its path"
    )


def test_redirections_are_followed(server: Server, cache: Path) -> None:
    server.acts = [lying.redirect("/there"), lying.redirect(f"http://localhost:{server.port}/b.deb", 307)]
    found = fetch(server.address(), cache=cache)
    assert (found.name, found.origin) == ("a_1.0_amd64.deb", f"http://localhost:{server.port}/b.deb")
    assert [each.path for each in server.asked] == ["/a_1.0_amd64.deb", "/there", "/b.deb"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/shadow", "no say in which file"),
        ("ftp://x/y", "neither an https address nor"),
        ("http://files.example/x", "over plain http"),
        ("https://u:p@files.example/x", "with a password"),
        ("http://127.0.0.1:99999/", "it is no address"),
        ("https://[x/", "it is no address"),
    ],
)
def test_redirections_elsewhere_are_refused(server: Server, cache: Path, location: str, words: str) -> None:
    server.acts = [lying.redirect(location)]
    with pytest.raises(FetchFailed, match=words):
        fetch(server.address(), cache=cache)


def test_endless_redirections_end(server: Server, cache: Path) -> None:
    server.acts = [lying.redirect("/again")] * 20
    with pytest.raises(FetchFailed, match="more than 10 redirections"):
        fetch(server.address(), cache=cache)


def test_from_https_no_plain_http(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to this machine, and not with a sha256."""

    class Redirecting:
        def __init__(self, address: Any, headers: Any, seconds: float) -> None:
            pass

        def answer(self) -> exchange.Answer:
            headers = exchange.Message()
            headers["Location"] = "http://127.0.0.1/x"
            return exchange.Answer(301, headers)

        def close(self) -> None:
            pass

    monkeypatch.setattr(download, "Exchange", Redirecting)
    with pytest.raises(FetchFailed, match="from https only https is followed"):
        fetch("https://files.example/x", sha256=SHA, cache=cache)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://files.example/x.deb", "over plain http anybody on the way may change it"),
        ("ftp://files.example/x.deb", "neither an https address nor an absolute path"),
        ("x.deb", "neither an https address nor an absolute path"),
        ("https:///x.deb", "an address has a host"),
        ("https://files.example:0/x", "an address has a host"),
        ("https://files.example:x/", "it is no address"),
        ("https://[::1/x", "it is no address"),
        ("https://files.example/a b", "ASCII characters without spaces"),
        ("https://files.example/a\nHost: x", "ASCII characters without spaces"),
        ("https://user:secret@files.example/x", "an address with a password"),
        ("file://elsewhere/x", "named by file:///PATH"),
        ("https://files.example/" + "x" * 3000, "at most 2,048 characters"),
    ],
)
def test_addresses_that_are_refused(address: str, words: str, cache: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        fetch(address, cache=cache)
    assert "secret" not in str(caught.value)
    assert not cache.exists()


def test_plain_http_is_taken_with_a_sha256(cache: Path) -> None:
    """The name is looked up: the address as such is taken."""
    with pytest.raises(FetchFailed, match="cannot be resolved"):
        fetch("http://clusteradm.invalid/x.deb", sha256=SHA, cache=cache)


def test_the_proxy_of_the_environment_is_asked(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address("/"))
    found = fetch("http://files.example/x.deb", sha256=SHA, cache=cache)
    assert found.path.read_bytes() == BODY
    assert [(each.path, each.headers["host"]) for each in server.asked] == [
        ("http://files.example/x.deb", "files.example")
    ]


def test_this_machine_is_asked_without_a_proxy(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in between is what plain http to it is allowed for."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(server.address(), cache=cache).sha256 == SHA


def test_a_proxy_of_an_unknown_kind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(FetchFailed, match="http_proxy of the environment names a proxy of no known kind"):
        fetch("http://files.example/x.deb", sha256=SHA, cache=cache)


@pytest.mark.parametrize("proxy", ["http://user:secret@127.0.0.1:1", "127.0.0.1:1"])
def test_a_proxy_that_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(FetchFailed) as caught:
        fetch("http://files.example/x.deb", sha256=SHA, cache=cache)
    assert "cannot connect to files.example through http_proxy of the environment: Connection" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_a_killed_process_leaves_is_taken_up(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it was synced: nothing is noted at its end."""
    server.body = BODY * 10
    monkeypatch.setattr(store.Part, "keep", lambda part: store.Part._note(part))

    def kill(state: Progress) -> None:
        if state.done > 1_500_000:
            raise SystemExit

    with pytest.raises(SystemExit):
        fetch(server.address(), cache=cache, progress=kill)
    monkeypatch.undo()
    notes = next((cache / "parts").glob("*.json"))
    assert '"kept": 0' in notes.read_text()
    found = fetch(server.address(), cache=cache)
    assert found.path.read_bytes() == BODY * 10


def test_a_sha256_that_is_none(cache: Path) -> None:
    with pytest.raises(UsageError, match="is no sha256"):
        fetch("https://files.example/x", sha256="abc", cache=cache)


def test_a_file_of_this_machine(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "b c.deb"
    path.write_bytes(BODY)
    for address in (str(path), path.as_uri(), f"file://localhost{path.as_uri()[7:]}"):
        found = fetch(address, sha256=SHA, cache=cache)
        assert (found.path.read_bytes(), found.name, found.cached) == (BODY, "b_c.deb", False)
    path.write_bytes(OTHER)
    with pytest.raises(WrongContent, match="it is another file"):
        fetch(str(path), sha256=SHA, cache=cache)
    with pytest.raises(FetchFailed, match="more than 1,000"):
        fetch(str(path), most=1000, cache=cache)
    with pytest.raises(WrongContent, match="not 7"):
        fetch(str(path), size=7, cache=cache)


def test_what_is_no_file_of_this_machine(tmp_path: Path, cache: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "it is a FIFO"), ("none", "No such file"), (".", "it is a folder")):
        with pytest.raises(UsageError, match=words):
            fetch(f"{tmp_path}/{name}", cache=cache)


def test_ctrl_c_keeps_the_part(server: Server, cache: Path) -> None:
    def interrupt(state: Progress) -> None:
        if state.done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.address(), cache=cache, progress=interrupt)
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    kept = str(server.ranges()[1])
    assert kept.startswith("bytes=") and int(kept[6:-1]) > 100_000


def test_a_part_is_believed_as_far_as_it_was_synced(server: Server, cache: Path) -> None:
    """After a power cut, what was written last may read as zeros."""
    server.acts = [lying.whole(sent=100_000), *[lying.status(503)] * 4]
    with pytest.raises(FetchFailed):
        fetch(server.address(), cache=cache)
    part = next(path for path in (cache / "parts").iterdir() if path.suffix != ".json")
    with part.open("ab") as file:
        file.write(bytes(50_000))
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges()[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    "notes", [b"", b"[" * 20_000, b"{}", b'{"kept": -1, "etag": null, "modified": null, "total": 5}', b"\xff", b"7"]
)
def test_notes_that_cannot_be_read_are_no_notes(server: Server, cache: Path, notes: bytes) -> None:
    server.acts = [lying.whole(sent=100_000), *[lying.status(503)] * 4]
    with pytest.raises(FetchFailed):
        fetch(server.address(), cache=cache)
    next((cache / "parts").glob("*.json")).write_bytes(notes)
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert server.ranges()[-1] is None


def test_two_at_once_fetch_it_once(server: Server, cache: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(server: Server, to: Any) -> None:
        begun.set()
        go_on.wait(10)
        lying.serve(server, to)

    server.acts = [slow]
    notes: list[str] = []

    def waiting(state: Progress) -> None:
        notes.append(state.note)
        go_on.set()

    results: list[Any] = []
    first = threading.Thread(target=lambda: results.append(fetch(server.address(), sha256=SHA, cache=cache)))
    first.start()
    begun.wait(10)
    second = fetch(server.address(), sha256=SHA, cache=cache, progress=waiting)
    first.join()
    assert second.cached and not results[0].cached
    assert notes[0] == "another run fetches it"
    assert len(server.asked) == 1


def test_old_parts_are_removed(server: Server, cache: Path) -> None:
    (cache / "parts").mkdir(parents=True)
    for name, age in (("old", 15), ("young", 13)):
        path = cache / "parts" / name
        path.touch()
        then = path.stat().st_mtime - age * 24 * 3600
        os.utime(path, (then, then))
    fetch(server.address(), cache=cache)
    assert parts(cache) == ["young"]


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FetchFailed, match=r"cannot keep downloads here: Not a directory\n  make room"):
        fetch(server.address(), cache=tmp_path / "file" / "cache")


def test_a_full_disk_keeps_what_came(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = store._locked, [100_000]

    class Full(store.FileIO):
        def write(self, data: Any) -> int:
            if left[0] <= 0:
                raise OSError(28, "No space left on device")
            taken = super().write(memoryview(data)[: left[0]])
            left[0] -= taken
            return taken

    def full(path: Path, waiting: Any) -> Full:
        with real(path, waiting) as file:
            return Full(os.dup(file.fileno()), "r+b")

    monkeypatch.setattr(store, "_locked", full)
    with pytest.raises(FetchFailed, match="No space left on device"):
        fetch(server.address(), cache=cache)
    monkeypatch.setattr(store, "_locked", real)
    assert fetch(server.address(), cache=cache).path.read_bytes() == BODY
    assert str(server.ranges()[1]).startswith("bytes=")


def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    for named, folder in (("/c", "/c"), ("relative", "/home/a/.cache"), ("", "/home/a/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert str(default_cache()) == f"{folder}/clusteradm/downloads"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://x/a/b_1.0-1~x+y.deb", "b_1.0-1~x+y.deb"),
        ("https://x/", "download"),
        ("https://x/..", "download"),
        ("https://x/%2e%2e%2fpasswd", "passwd"),
        ("https://x/a%0Ab.deb?q=/c", "a_b.deb"),
        ("https://x/-rf", "rf"),
        ("/tmp/.hidden", "hidden"),
        ("/tmp/a?b.deb", "a_b.deb"),
        ("https://x/" + "é" * 5, "_"),
        ("https://x/" + "a" * 300 + ".deb", "a" * 196 + ".deb"),
    ],
)
def test_names(address: str, name: str) -> None:
    assert name_of(address) == name
