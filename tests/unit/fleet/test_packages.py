"""Packages from addresses and files: accepted once, and from then on that file or an error that says what to do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lying_server as lying
import pytest
from lying_server import Server
from made_debs import deb

from clusteradm.errors import UsageError
from clusteradm.fetch import download
from clusteradm.fleet.packages import Packages
from clusteradm.inventory import Cluster, load

DEB, OTHER = deb(version="1.0-1"), deb(version="1.0-2")
SHA, OTHER_SHA = (hashlib.sha256(data).hexdigest() for data in (DEB, OTHER))
INVENTORY = """\
all:
  vars: {cluster_subnet: 192.168.100.0/24}
  children:
    head: {hosts: {head: {cluster_ip: 192.168.100.1, cluster_interface: eth0}}}
    compute: {hosts: {w1: {cluster_ip: 192.168.100.2, cluster_interface: eth0, cluster_tpu_packages: [%s]}}}
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSES", (0.0,) * 4)
    with lying.running(Server(DEB)) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[..., Cluster]:
    """A cluster whose w1 has these packages."""

    def make(*packages: str) -> Cluster:
        path = tmp_path / "inventory.yml"
        path.write_text(INVENTORY % ", ".join(packages))
        return load(path)

    return make


class Person:
    """Somebody who is asked, and answers."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.tables: list[str] = []

    def __call__(self, table: str) -> bool:
        self.tables.append(table)
        return self.answer


def packages(cluster: Cluster, ask: Callable[[str], bool], **options: Any) -> Packages:
    return Packages(cluster, ask=ask, cache=cluster.path.parent / "cache", **options)


def test_a_new_one_is_shown_asked_about_once_and_kept(server: Server, cluster: Any) -> None:
    person, address = Person(), server.address()
    first = packages(cluster(), person)
    assert first.known == {}
    first.provide({"head": [address], "w1": [address]})
    assert person.tables == [
        "Packages not seen before, to be installed by root:\n"
        f"  libx 1.0-1 (all), {len(DEB):,} bytes, for head, w1\n"
        f"    {address}\n"
        f"    sha256 {SHA}"
    ]
    entry = {"sha256": SHA, "size": len(DEB), "origin": address}
    entry |= {"package": "libx", "version": "1.0-1", "architecture": "all"}
    assert {name: value for name, value in first.known[address].items() if name != "path"} == entry
    assert Path(first.known[address]["path"]).read_bytes() == DEB
    second = packages(cluster(), person)
    assert second.known == {address: entry}
    second.provide({"w1": [address]})
    assert second.known[address]["path"] == first.known[address]["path"]
    assert len(person.tables) == 1 and len(server.asked) == 1


def test_where_a_redirection_leads_is_shown(server: Server, cluster: Any) -> None:
    person, elsewhere = Person(), server.address("/objects/1234")
    server.acts = [lying.redirect("/objects/1234?signature=secret")]
    packages(cluster(), person).provide({"w1": [server.address()]})
    assert f"    by way of {elsewhere}\n" in person.tables[0]
    assert "secret" not in person.tables[0]


def test_no_is_an_error_of_that_address(server: Server, cluster: Any, tmp_path: Path) -> None:
    address = server.address()
    found = packages(cluster(), Person(False))
    found.provide({"w1": [address]})
    assert found.known == {
        address: {
            **{name: value for name, value in found.known[address].items() if name != "error"},
            "error": f"{address} was not accepted. When you know that it is right: clusteradm bootstrap --accept-new",
        }
    }
    assert "path" not in found.known[address]
    assert not (tmp_path / "clusteradm.lock").exists()


def test_scripts_accept_without_a_question(server: Server, cluster: Any) -> None:
    person = Person(False)
    found = packages(cluster(), person, accept_new=True)
    found.provide({"w1": [server.address()]})
    assert found.lock.read()[server.address()].sha256 == SHA
    assert person.tables == []


def test_a_changed_file_is_refused_and_the_way_out_works(server: Server, cluster: Any, tmp_path: Path) -> None:
    address = server.address()
    packages(cluster(), Person()).provide({"w1": [address]})
    (tmp_path / "cache" / SHA).unlink()
    server.body, server.etag = OTHER, '"second"'
    for accept_new in (False, True):  # --accept-new is for what is new, not for what has changed
        found = packages(cluster(), Person(), accept_new=accept_new)
        found.provide({"w1": [address]})
        assert found.known[address]["error"] == (
            f"{address}: it has sha256 {OTHER_SHA} ({len(OTHER):,} bytes), not {SHA}: it is another file, which "
            f"{tmp_path / 'clusteradm.lock'} has. If the change is intended: clusteradm packages forget {address}"
        )
        assert "path" not in found.known[address]
    found.lock.remove(address)
    person = Person()
    again = packages(cluster(), person)
    again.provide({"w1": [address]})
    assert again.known[address]["version"] == "1.0-2" and OTHER_SHA in person.tables[0]


def test_a_file_of_another_size_is_refused_before_its_body(server: Server, cluster: Any, tmp_path: Path) -> None:
    packages(cluster(), Person()).provide({"w1": [server.address()]})
    (tmp_path / "cache" / SHA).unlink()
    server.body = DEB + b"more"
    server.acts = [lying.stall(0)]
    found = packages(cluster(), Person())
    found.provide({"w1": [server.address()]})
    assert f"it has {len(DEB) + 4:,} bytes, not {len(DEB):,}" in found.known[server.address()]["error"]


def test_what_is_in_the_cache_needs_no_network(server: Server, cluster: Any) -> None:
    packages(cluster(), Person()).provide({"w1": [server.address()]})
    server.acts = [lying.status(404)] * 5
    found = packages(cluster(), Person())
    found.provide({"w1": [server.address()]})
    assert "path" in found.known[server.address()]


def test_a_file_beside_the_inventory(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "debs").mkdir()
    path = tmp_path / "debs" / "x.deb"
    path.write_bytes(DEB)
    person = Person()
    packages(cluster(), person).provide({"w1": ["debs/x.deb"]})
    assert f"    debs/x.deb\n    sha256 {SHA}" in person.tables[0]
    path.write_bytes(OTHER)
    found = packages(cluster(), person)
    found.provide({"w1": ["debs/x.deb"]})
    assert "it is another file" in found.known["debs/x.deb"]["error"]
    assert "clusteradm packages forget debs/x.deb" in found.known["debs/x.deb"]["error"]


def test_the_name_of_the_inventory_s_folder_is_not_in_the_lock(cluster: Any, tmp_path: Path) -> None:
    """Another machine has another one; and it may have characters that the lock does not take."""
    folder = tmp_path / "Bücher"
    folder.mkdir()
    (folder / "x.deb").write_bytes(DEB)
    (folder / "inventory.yml").write_text(INVENTORY % "x.deb")
    found = packages(load(folder / "inventory.yml"), Person())
    found.provide({"w1": ["x.deb"]})
    assert "error" not in found.known["x.deb"]
    assert packages(load(folder / "inventory.yml"), Person()).known["x.deb"]["origin"] == "x.deb"


@pytest.mark.parametrize("location", ["https://[x/", "https://[::1/x", "//[/", "https://\xe9[/"])
def test_a_redirection_to_what_is_no_address(server: Server, cluster: Any, location: str) -> None:
    server.acts = [lying.redirect(location)]
    found = packages(cluster(), Person())
    found.provide({"w1": [server.address("/a"), server.address("/b")]})
    assert "which is refused: " in found.known[server.address("/a")]["error"]
    assert "path" in found.known[server.address("/b")]


def test_an_error_that_nobody_thought_of_is_that_address_s(
    server: Server, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> Any:
        raise RuntimeError("oh")

    monkeypatch.setattr("clusteradm.fetch.deb.read", read)
    found = packages(cluster(), Person())
    found.provide({"w1": [server.address()]})
    assert found.known[server.address()]["error"] == (
        f"{server.address()}: an internal error of clusteradm (RuntimeError: oh)"
    )


def test_a_sha256_of_the_inventory_is_an_answer(server: Server, cluster: Any) -> None:
    person = Person(False)
    text = f"{server.address()}#sha256={SHA.upper()}"
    found = packages(cluster(text), person)
    found.provide({"w1": [text]})
    assert person.tables == [] and found.lock.read()[server.address()].sha256 == SHA


def test_a_sha256_of_a_playbook_is_checked_and_asked_about(server: Server, cluster: Any) -> None:
    person = Person()
    right, wrong = f"{server.address()}#sha256={SHA}", f"{server.address('/b')}#sha256={OTHER_SHA}"
    found = packages(cluster(), person)
    found.provide({"w1": [right, wrong]})
    assert len(person.tables) == 1 and "/b" not in person.tables[0]
    assert (
        "it is another file. See that the address and the sha256 are right."
        in found.known[server.address("/b")]["error"]
    )
    assert list(found.lock.read()) == [server.address()]


def test_the_inventory_and_the_lock_disagree(server: Server, cluster: Any) -> None:
    packages(cluster(), Person()).provide({"w1": [server.address()]})
    found = packages(cluster(), Person())
    found.provide({"w1": [f"{server.address()}#sha256={OTHER_SHA}"]})
    assert f"is to have sha256 {OTHER_SHA}, and" in found.known[server.address()]["error"]


def test_two_hosts_disagree(server: Server, cluster: Any) -> None:
    found = packages(cluster(), Person())
    found.provide({"w1": [f"{server.address()}#sha256={SHA}"], "head": [server.address()]})
    assert "is wanted with two sha256, or once without" in found.known[server.address()]["error"]
    assert server.asked == []


def test_one_that_fails_leaves_the_others(server: Server, cluster: Any) -> None:
    server.acts = [lying.status(404)]
    person = Person()
    found = packages(cluster(), person)
    found.provide({"w1": [server.address("/a"), server.address("/b")]})
    error = found.known[server.address("/a")]["error"]
    assert error.startswith(f"{server.address('/a')}: the server answers 404 Not Found; see that the address is")
    assert "path" in found.known[server.address("/b")]


def test_what_is_no_package_is_never_asked_about(server: Server, cluster: Any) -> None:
    server.body = b"<!doctype html>Please log in"
    person = Person()
    found = packages(cluster(), person)
    found.provide({"w1": [server.address()]})
    assert "it is no Debian package" in found.known[server.address()]["error"]
    assert person.tables == []


def test_check_mode_fetches_nothing_new(server: Server, cluster: Any, tmp_path: Path) -> None:
    found = packages(cluster(), Person(), check=True)
    found.provide({"w1": [server.address()]})
    assert found.known == {server.address(): {"pending": True}}
    assert server.asked == [] and not (tmp_path / "clusteradm.lock").exists()
    packages(cluster(), Person()).provide({"w1": [server.address()]})
    found = packages(cluster(), Person(), check=True)
    found.provide({"w1": [server.address()]})
    assert "path" in found.known[server.address()]


def test_a_lock_that_cannot_be_understood_ends_the_run_before_it_begins(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "clusteradm.lock").write_text("{")
    with pytest.raises(UsageError, match="it cannot be understood"):
        packages(cluster(), Person())


def test_a_lock_that_cannot_be_written_is_an_error_of_the_new_ones(
    server: Server, cluster: Any, tmp_path: Path
) -> None:
    found = packages(cluster(), Person())
    (tmp_path / "clusteradm.lock").mkdir()
    found.provide({"w1": [server.address()]})
    assert "it is a folder" in found.known[server.address()]["error"]


def test_two_admins_at_once(server: Server, cluster: Any) -> None:
    """Both are asked; both entries are kept, and a different answer of the other is seen."""
    both = threading.Barrier(2)

    def ask(table: str) -> bool:
        both.wait(10)
        return True

    made = cluster()
    runs = [packages(made, ask) for _ in range(2)]
    threads = [
        threading.Thread(target=run.provide, args=({"w1": [server.address(path)]},))
        for run, path in zip(runs, ("/a", "/b"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(runs[0].lock.read()) == [server.address("/a"), server.address("/b")]


def test_ctrl_c_passes(server: Server, cluster: Any, tmp_path: Path) -> None:
    def ask(table: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packages(cluster(), ask).provide({"w1": [server.address()]})
    assert not (tmp_path / "clusteradm.lock").exists()
