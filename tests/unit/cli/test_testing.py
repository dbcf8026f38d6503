"""clusteradm.testing: what the fake hosts answer, and what they do not let pass."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from clusteradm import transport
from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Cluster, load
from clusteradm.node.spec.wire.job_requests import FetchFile
from clusteradm.node.spec.wire.node import Cancel, Hello, Probe
from clusteradm.testing import FakeConnections, FakeHosts


@pytest.fixture
def cluster(inventory: Path) -> Cluster:
    return load(inventory)


def connections(hosts: FakeHosts, cluster: Cluster) -> FakeConnections:
    return hosts.connections(cluster, cluster.known_hosts)


def document(number: int) -> dict[str, dict[str, int]]:
    return {"document": {"n": number}}


def test_answers_in_order_then_always(cluster: Cluster) -> None:
    hosts = FakeHosts()
    hosts["w1"].answer("probe", document(1))
    hosts["w1"].answer_always("probe", lambda fields: document(len(fields["sections"])))
    data = base64.b64encode(b"x").decode()
    hosts["w1"].answer("job-fetch", {"size": 2}, {"data": data}, {"data": data})
    with connections(hosts, cluster) as made:
        node = made.node(cluster.hosts["w1"])
        assert node.call(Hello()).time > 1e9
        assert [node.call(Probe(("a", "b"), {})).document for _ in range(3)] == [{"n": 1}, {"n": 2}, {"n": 2}]
        replies = node.ask(FetchFile("/s", "u", "20261123-170102-3fa9c2", "log"), timeout=1)
        assert [next(replies).data, next(replies).data] == [data, data]
        with pytest.raises(StopIteration) as end:
            next(replies)
        assert end.value.value.size == 2
        node.send(Cancel("x"))
    assert [request.do for request in hosts["w1"].requests] == ["hello", *["probe"] * 3, "job-fetch", "cancel"]
    assert hosts["w1"].requests[-1].fields == {"batch": "x"}
    hosts.check()


def test_an_answer_that_does_not_fit_is_the_hosts_failure(cluster: Cluster) -> None:
    hosts = FakeHosts()
    hosts["w1"].answer("probe", {"document": 1})
    with connections(hosts, cluster) as made, pytest.raises(HostFailed, match="not as agreed"):
        made.node(cluster.hosts["w1"]).call(Probe((), {}))


def test_what_is_raised_and_who_is_unreachable(cluster: Cluster) -> None:
    hosts = FakeHosts()
    hosts["w1"].answer_always("probe", transport.NodeError("no", where="w1"))
    hosts["w2"].unreachable = True
    with connections(hosts, cluster) as made:
        outcome = made.each(cluster.compute, lambda host: made.node(host).call(Probe((), {})))
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
    hosts["w1"].answer("facts", {})
    hosts["w2"].answer_always("hello", {})
    with pytest.raises(AssertionError, match="w1 has no answer to the request probe"):
        made.node(cluster.hosts["w1"]).call(Probe((), {}))
    with pytest.raises(AssertionError, match="without SSH connects to head"):
        made.connection(cluster.head)
    with pytest.raises(AssertionError) as found:
        hosts.check()
    assert str(found.value).splitlines() == [
        "w1: unexpected request probe {'sections': [], 'options': {}}",
        "w1: 1 answers to facts were not asked for",
        "w2: 1 answers to hello were not asked for",
        "connections were left open",
    ]


def test_they_are_what_everybody_gets_while_installed(cluster: Cluster) -> None:
    real = transport.Connections
    with FakeHosts().installed():
        assert isinstance(transport.Connections(cluster, cluster.known_hosts), FakeConnections)
    assert transport.Connections is real
