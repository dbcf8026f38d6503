"""Temperatures beside a running job: by the probe, of the hosts that answer, and nobody is asked about a key."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from clusteradm.cli import temperatures
from clusteradm.cli.temperatures import Temperatures, Warmth
from clusteradm.health import Severity
from clusteradm.inventory import load
from clusteradm.testing import FakeHosts

A, B = "0000:01:00.0", "0000:02:00.0"


def tpu(address: str, name: str, millidegrees: str) -> dict[str, str]:
    return {"pci_address": address, "name": name, "temp": millidegrees, "status": "ALIVE"}


def probed(hosts: FakeHosts, host: str, **temperatures: str) -> None:
    devices = [
        tpu(address, f"apex_{n}", text)
        for n, (address, text) in enumerate(zip((A, B), temperatures.values(), strict=False))
    ]
    cards = [{"address": each["pci_address"], "vendor": "0x1ac1", "device": "0x089a"} for each in devices]
    hosts[host].answer_always("probe", {"document": {"tpu": {"pci": cards, "apex": devices}}})


def test_of_each_tpu_that_answers(hosts: FakeHosts, inventory: Path) -> None:
    probed(hosts, "w1", a="51250", b="-89700")
    hosts["w2"].unreachable = True
    whole = load(inventory)
    with hosts.connections(whole, inventory) as connections:
        found = temperatures.measure(connections, whole, ["w2", "w1", "elsewhere"])
    assert found["w1", A].celsius == 51.25
    assert found["w1", B].state and found["w1", B].severity is Severity.ERROR
    assert {host for host, _ in found} == {"w1"}
    (request,) = [request for request in hosts["w1"].requests if request.do == "probe"]
    assert request.fields["sections"] == ["tpu"]


def test_it_measures_in_the_background_until_the_end(
    hosts: FakeHosts, inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed(hosts, "w1", a="51250")
    whole = load(inventory)
    measured = threading.Event()
    real = temperatures.measure

    def measure(*about: object) -> dict[tuple[str, str], Warmth]:
        found = real(*about)  # type: ignore[arg-type]
        measured.set()
        return found

    monkeypatch.setattr(temperatures, "measure", measure)
    with hosts.connections(whole, inventory) as connections, Temperatures(connections, whole) as running:
        assert running.of("w1", A) is None
        running.watch([])
        assert not measured.is_set()
        running.watch(["w1"])
        assert measured.wait(30)
        while running.of("w1", A) is None:
            pass
        assert running.of("w1", A) and running.of("w1", None) is None


def test_a_defect_of_the_thread_is_raised_where_it_is_used(
    hosts: FakeHosts, inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def measure(*_: object) -> None:
        failed.set()
        raise ZeroDivisionError

    monkeypatch.setattr(temperatures, "measure", measure)
    whole = load(inventory)
    with hosts.connections(whole, inventory) as connections, Temperatures(connections, whole) as running:
        running.watch(["w1"])
        assert failed.wait(30) and running._thread is not None
        running._thread.join(30)
        with pytest.raises(ZeroDivisionError):
            running.watch(["w1"])
