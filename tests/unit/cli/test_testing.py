"""clusteradm.testing: what the fake hosts answer, and what they do not let pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusteradm import transport
from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Cluster, load
from clusteradm.testing import FakeConnections, FakeHosts


@pytest.fixture
def cluster(inventory: Path) -> Cluster:
    return load(inventory)


def connections(hosts: FakeHosts, cluster: Cluster) -> FakeConnections:
    return hosts.connections(cluster, cluster.known_hosts)


def test_answers_in_order_then_always(cluster: Cluster) -> None:
    hosts = FakeHosts()
    hosts["w1"].answer("hello", {"n": 1})
    hosts["w1"].answer("hello", {"n": 2}, {"progress": 1}, {"progress": 2})
    hosts["w1"].answer_always("hello", lambda fields: {"n": fields["add"] + 1})
    with connections(hosts, cluster) as made:
        node = made.node(cluster.hosts["w1"])
        assert node.call("hello") == {"n": 1}
        replies = node.ask("hello", timeout=1, deep=True)
        assert [next(replies), next(replies)] == [{"progress": 1}, {"progress": 2}]
        with pytest.raises(StopIteration) as end:
            next(replies)
        assert end.value.value == {"n": 2}
        assert [node.call("hello", add=number) for number in (2, 3)] == [{"n": 3}, {"n": 4}]
        node.send("cancel", batch="x")
    assert [(request.do, dict(request.fields)) for request in hosts["w1"].requests] == [
        ("hello", {}),
        ("hello", {"deep": True}),
        ("hello", {"add": 2}),
        ("hello", {"add": 3}),
        ("cancel", {"batch": "x"}),
    ]
    hosts.check()


def test_what_is_raised_and_who_is_unreachable(cluster: Cluster) -> None:
    hosts = FakeHosts()
    hosts["w1"].answer_always("hello", transport.NodeError("no", where="w1"))
    hosts["w2"].unreachable = True
    with connections(hosts, cluster) as made:
        outcome = made.each(cluster.compute, lambda host: made.node(host).call("hello"))
    assert {name: type(error) for name, error in outcome.failed.items()} == {
        "w1": transport.NodeError,
        "w2": HostUnreachable,
    }
    hosts.check()


def test_blobs_are_kept(cluster: Cluster, tmp_path: Path) -> None:
    hosts, told = FakeHosts(), []
    (tmp_path / "body").write_bytes(b"two")
    with connections(hosts, cluster) as made:
        made.node(cluster.head).put_blobs({"a": b"one", "b": tmp_path / "body"}, lambda *sizes: told.append(sizes))
    assert hosts["head"].blobs == {"a": b"one", "b": b"two"} and told == [(6, 6)]


def test_the_check_finds_what_was_not_foreseen(cluster: Cluster) -> None:
    hosts = FakeHosts()
    made = connections(hosts, cluster)
    hosts["w1"].answer("probe", {})
    hosts["w2"].answer_always("hello", {})
    with pytest.raises(AssertionError, match="w1 has no answer to the request hello"):
        made.node(cluster.hosts["w1"]).call("hello")
    with pytest.raises(AssertionError, match="without SSH connects to head"):
        made.connection(cluster.head)
    with pytest.raises(AssertionError) as found:
        hosts.check()
    assert str(found.value).splitlines() == [
        "w1: unexpected request hello {}",
        "w1: 1 answers to probe were not asked for",
        "w2: 1 answers to hello were not asked for",
        "connections were left open",
    ]


def test_they_are_what_everybody_gets_while_installed(cluster: Cluster) -> None:
    real = transport.Connections
    with FakeHosts().installed():
        assert isinstance(transport.Connections(cluster, cluster.known_hosts), FakeConnections)
    assert transport.Connections is real
