"""Saved probes of hosts in every state and with every driver generation (tests/fixtures/probes), judged.

Each file: "source", from what it was reconstructed; "expected"; "document", as node/probe gives it.
"""

from __future__ import annotations

import copy
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.health.finding import Finding
from clusteradm.health.tpu import patterns
from clusteradm.health.tpu import state as tpu
from clusteradm.node.probe import tpu as probe

PROBES = Path(__file__).resolve().parents[2] / "fixtures" / "probes"
FILES = sorted(PROBES.glob("*.json"))
STATES = {"ABSENT", "NO_DRIVER", "NO_NODE", "NO_PERMISSION", "LAMED", "WEDGED", "BUSY", "HOT", "THROTTLED", "LINK"}
STATES |= {"RUNTIME", "OK"}


def load(name: str) -> dict[str, Any]:
    return dict(json.loads((PROBES / f"{name}.json").read_text(encoding="utf-8")))


def judged(fixture: dict[str, Any]) -> list[Finding]:
    return list(tpu.judge("h", fixture["expected"]["cluster_tpus"], fixture["document"]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_saved_probe(path: Path) -> None:
    fixture = load(path.stem)
    expected = fixture["expected"]
    assert fixture["source"]
    findings = judged(fixture)
    assert [[each.subject.partition(" ")[2], each.state] for each in findings] == expected["findings"]
    assert len(tpu.healthy("h", fixture["document"])) == expected["healthy"]
    failing = [each for each in findings if not each.ok]
    for each in failing:
        assert each.cause and each.remedy and each.source
        assert "{" not in each.cause + each.remedy
    if failing:
        # A file is of one state: all TPUs in it have the same cause.
        assert any(expected["cause"] in each.cause for each in failing), [each.cause for each in failing]
        assert any(expected["remedy"] in each.remedy for each in failing), [each.remedy for each in failing]


def test_every_state_has_one() -> None:
    seen = {state for path in FILES for _, state in load(path.stem)["expected"]["findings"]}
    assert seen == STATES


def lines(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Everything that the table of patterns may be asked about."""
    about, trial = document["tpu"], document.get("trial", {})
    for line in [*(about["kernel_log"] or ()), *trial.get("kernel_log", ())]:
        yield "kernel", line
    for line in (about["driver"]["dkms"] or {}).get("log") or ():
        yield "dkms", line
    for attempt in (trial.get("attempts") or {}).values():
        for line in attempt.get("stderr", ()):
            yield "stderr", line
        if "signal" in attempt:
            yield "stderr", str(signal.strsignal(attempt["signal"]))


@pytest.mark.parametrize("pattern", patterns.patterns(), ids=lambda pattern: pattern.name)
def test_every_pattern_has_one(pattern: patterns.Pattern) -> None:
    assert pattern.where in {"kernel", "stderr", "dkms"} and pattern.state in STATES
    assert pattern.cause and pattern.remedy and pattern.source
    matching = [
        (path.stem, line)
        for path in FILES
        for where, line in lines(load(path.stem)["document"])
        if (found := patterns.match(where, line)) and found.pattern is pattern
    ]
    assert matching
    if pattern.state != "OK":
        assert any(pattern.state in str(load(name)["expected"]["findings"]) for name, _ in matching)


def test_a_probe_still_gives_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes in the probe changes in these files, too; else they show what no host says any more."""
    folder = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    apex = tmp_path / "sys/class/apex/apex_0"
    for path, text in {folder / "vendor": "0x1ac1", folder / "device": "0x089a", apex / "pci_address": "x"}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(probe, "lspci", list)
    now, saved = probe.probe(str(tmp_path), {}), load("ok-dkms-1.2")["document"]["tpu"]
    for part in (lambda about: about, lambda about: about["driver"], *(first(name) for name in ("pci", "apex"))):
        assert set(part(saved)) <= set(part(now))


def first(name: str) -> Any:
    return lambda about: about[name][0]


def test_the_runtimes_own_list_says_which_pci_n_it_is() -> None:
    fixture = load("ok-readdir-order")
    details = {each.subject: each.detail for each in judged(fixture)}
    # On the bus it is first; the driver calls it apex_7; the library lists that third.
    assert details["h 0000:04:00.0"].startswith("/dev/apex_7, pci:2, ")
    assert details["h 0000:0b:00.0"].startswith("/dev/apex_4, pci:7, ")
    found = tpu.healthy("h", fixture["document"])
    assert [each.device_path for each in found] == [f"/dev/apex_{number}" for number in (7, 2, 0, 5, 1, 6, 3, 4)]


def test_the_tree_shows_which_slot_is_empty() -> None:
    finding = judged(load("absent-1-of-8"))[-1]
    assert "0000:03:05.0 > empty, 0000:03:06.0 > 0000:0a:00.0 TPU" in finding.detail
    assert finding.detail.startswith("0000:00:01.0 > 0000:02:00.0 > [0000:03:00.0 > 0000:04:00.0 TPU, ")


def test_its_own_jobs_are_no_error_and_have_it_to_themselves() -> None:
    fixture = load("ok-own-job")
    (finding,) = judged(fixture)
    assert finding.ok and "in use by job 20261124-031500-7f3a" in finding.detail
    assert tpu.healthy("h", fixture["document"]) == ()
    fixture["document"]["tpu"]["apex"][0]["temp"] = "91050"
    assert [each.state for each in judged(fixture)] == ["THROTTLED"]


@pytest.mark.parametrize(
    ("temperature", "clock"),
    [("84550", "500"), ("84800", "250"), ("89550", "250"), ("89800", "125"), ("94550", "125"), ("94800", "62.5")],
)
def test_the_clock_follows_the_trip_points_as_read_back(temperature: str, clock: str) -> None:
    fixture = load("ok-dkms-1.2")
    fixture["document"]["tpu"]["apex"][0]["temp"] = temperature
    (finding,) = judged(fixture)
    assert f", {clock} MHz" in finding.detail
    assert finding.ok is (clock == "500")


@pytest.mark.parametrize("temperature", ["44550", "96050"])
def test_without_polling_no_clock_is_computed(temperature: str) -> None:
    fixture = load("ok-mendel-1.1")
    fixture["document"]["tpu"]["apex"][0]["temp"] = temperature
    (finding,) = judged(fixture)
    assert "does not throttle" in finding.detail
    assert "MHz" not in finding.detail + finding.cause


def test_a_line_about_another_card_is_no_cause() -> None:
    """A line that names a card says nothing of the others behind its bridge; nor does one of a bridge elsewhere."""
    fixture = load("absent-1-of-8")
    fixture["document"]["tpu"]["kernel_log"] = [
        "[5.1] pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:05:00.0",
        "[5.2] DMAR: [DMA Read] Request device [05:00.0] fault addr ffffe000 [fault reason 06]",
        "[5.3] pcieport 0000:0e:01.0: DPC: containment event, status:0x1f01 source:0x0000",
        "[5.4] pcieport 0000:03:00.0: pciehp: Slot(5): Link Down",
    ]
    for attempt in fixture["document"]["trial"]["attempts"].values():
        attempt.update(ok=False, stage="invoke", timeout=True)
    causes = {each.subject.partition(" ")[2]: each.cause for each in judged(fixture)}
    assert "Link Down" in causes["0000:04:00.0"]  # the card behind that port
    assert "AER" in causes["0000:05:00.0"]
    for address in ("0000:06:00.0", "0000:07:00.0"):
        assert not re.search("AER|DMAR|DPC|Link Down", causes[address])


def test_a_crash_elsewhere_is_not_the_last_word_about_it() -> None:
    """Below a crash or a warning of any part, the kernel lists every module."""
    fixture = load("wedged-hang-unexplained")
    log = fixture["document"]["tpu"]["kernel_log"]
    log += ["[99.1] Modules linked in: apex(OE) gasket(OE) zram", "[99.2]  xt_nat gasket(OE) e1000e"]
    assert all(fixture["expected"]["cause"] in each.cause for each in judged(fixture))


def test_what_a_good_line_does_not_disprove_stays(tmp_path: Path) -> None:
    """ "Not throttled" is about heat alone; a card that is taken anew is another story."""
    fixture = load("wedged-ram")
    log = fixture["document"]["tpu"]["kernel_log"]
    for line, states in (
        ("[9840.1] apex 0000:02:00.0: Apex performance not throttled due to temperature", ["WEDGED"]),
        ("[9841.1] apex 0000:02:00.0: enabling device (0000 -> 0002)", ["OK"]),
    ):
        log.append(line)
        assert [each.state for each in judged(fixture)] == states


def test_what_explains_the_others_comes_first() -> None:
    """One TPU in every state that files can show, repaired one by one."""
    fixture = load("throttled-125")
    document = fixture["document"]
    device, card = document["tpu"]["apex"][0], document["tpu"]["pci"][0]
    address = card["address"]
    healthy = copy.deepcopy((device, card, document["runtime"]))
    device.update(node=None, interrupt_counts=None, is_device_owned="1", status="DEAD", device_owner="1")
    card["link_speed"] = "2.5 GT/s"
    document["runtime"].update(package="16.0")
    del document["trial"]["attempts"][address]
    seen = []
    for heal in (
        lambda: device.update(node={**healthy[0]["node"], "mode": "0600"}),
        lambda: device.update(node=healthy[0]["node"]),
        lambda: device.update(interrupt_counts=healthy[0]["interrupt_counts"]),
        lambda: device.update(status="ALIVE"),
        lambda: device.update(is_device_owned="0"),
        lambda: document["runtime"].update(healthy[2]),
        lambda: device.update(temp="44550"),
        lambda: card.update(link_speed="5 GT/s"),
    ):
        seen += [each.state for each in judged(fixture)]
        heal()
    seen += [each.state for each in judged(fixture)]
    assert seen == ["NO_NODE", "NO_PERMISSION", "LAMED", "WEDGED", "BUSY", "RUNTIME", "THROTTLED", "LINK", "OK"]


@pytest.mark.parametrize(
    ("kernel", "headers", "remedy"),
    [
        ("5.10.0-30-amd64", True, "run clusteradm bootstrap"),
        # Google's package does not build there; bootstrap has a rebuilt one.
        ("6.12.41+deb13-amd64", True, "run clusteradm bootstrap"),
        ("6.12.41+deb13-amd64", False, "run clusteradm bootstrap"),
        ("6.8.12-4-pve", False, "apt-get install pve-headers-$(uname -r)"),
    ],
)
def test_a_driver_that_is_not_installed_is_bootstraps(kernel: str, headers: bool, remedy: str) -> None:
    fixture = load("no-driver")
    fixture["document"]["tpu"]["driver"] |= {"kernel": kernel, "headers": headers}
    (finding,) = judged(fixture)
    assert finding.state == "NO_DRIVER" and "it is not installed" in finding.cause
    assert finding.remedy.startswith(remedy) and finding.remedy.endswith("clusteradm bootstrap")
