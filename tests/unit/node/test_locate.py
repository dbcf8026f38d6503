"""The LED that blinks, and that it is afterwards as it was; the beeper; a host with neither."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clusteradm.errors import HostFailed
from clusteradm.fleet import locate as admin
from clusteradm.inventory import Host
from clusteradm.node.fleet import locate
from clusteradm.node.spec.wire.locate import Locate, Located, Signal
from clusteradm.testing import FakeConnections, FakeHosts
from clusteradm.transport import Node


def led(root: Path, name: str, trigger: str = "none timer [heartbeat]") -> Path:
    folder = root / "sys/class/leds" / name
    folder.mkdir(parents=True)
    for file, text in (("trigger", trigger), ("brightness", "1"), ("max_brightness", "255")):
        (folder / file).write_text(text)
    return folder


def test_which_led(tmp_path: Path) -> None:
    for name in ("input3::capslock", "mmc0::", "enp1s0-0::lan", "PWR", "ACT", "green:status", "phy0-led"):
        led(tmp_path, name)
    assert locate.leds(str(tmp_path)) == ["green:status", "ACT", "PWR"]


def test_it_blinks_and_is_as_before(start: Callable[[], Node], tmp_path: Path) -> None:
    folder = led(tmp_path, "ACT")
    replies = start().ask(Locate(0.4, str(tmp_path)))
    assert next(replies) == Signal("led", "ACT", ("ACT",))
    with pytest.raises(StopIteration) as end:
        next(replies)
    assert end.value.value == Located()
    assert (folder / "trigger").read_text() == "heartbeat" and (folder / "brightness").read_text() == "1"


def test_the_brightness_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = led(tmp_path, "ACT")
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(
        locate,
        "_alone_after",
        lambda seconds, ended: seen.append(((folder / "brightness").read_text(), (folder / "trigger").read_text())),
    )
    clock = iter(range(9))
    monkeypatch.setattr(locate.time, "monotonic", lambda: next(clock))
    with locate._kept(str(folder)) as place:
        locate._blink(place, 3.5, [])
    assert seen == [("255", "none"), ("0", "none"), ("255", "none")]


def test_two_persons_and_one_who_goes(start: Callable[[], Node], tmp_path: Path) -> None:
    """The second would keep for later what the first has it show; and it blinks for nobody."""
    folder = led(tmp_path, "ACT")
    first = start()
    next(first.ask(Locate(60, str(tmp_path))))
    replies = start().ask(Locate(0.1, str(tmp_path)))
    with pytest.raises(StopIteration) as end:
        next(replies)
    assert end.value.value == Located("it blinks for somebody else now")
    first.close()
    end_of_wait = time.monotonic() + 20
    while (folder / "trigger").read_text() != "heartbeat" and time.monotonic() < end_of_wait:
        time.sleep(0.02)
    assert (folder / "trigger").read_text() == "heartbeat" and (folder / "brightness").read_text() == "1"


def test_a_beep_and_nothing(start: Callable[[], Node], tmp_path: Path) -> None:
    led(tmp_path, "input3::capslock")
    assert next(start().ask(Locate(0.1, str(tmp_path)))) == Signal(None, "", ("input3::capslock",))
    beeper = tmp_path / "dev/input/by-path/platform-pcspkr-event-spkr"
    beeper.parent.mkdir(parents=True)
    beeper.touch()
    replies = start().ask(Locate(0.1, str(tmp_path)))
    assert next(replies) == Signal("beep", str(beeper))
    with pytest.raises(StopIteration):
        next(replies)
    assert len(beeper.read_bytes()) == 2 * 24


def test_what_the_person_is_told(tmp_path: Path) -> None:
    from clusteradm.inventory import Cluster

    hosts, said = FakeHosts(), list[str]()
    host = Host("w1", (), {"cluster_rack": "A", "cluster_slot": 3}, {})
    cluster = Cluster(tmp_path / "i.yml", {}, {"w1": host})
    hosts["w1"].answer("locate", {}, {"by": "led", "device": "ACT", "leds": ["ACT"]})
    hosts["w1"].answer("locate", {}, {"by": None, "leds": ["mmc0::"]})
    hosts["w1"].answer("locate", {"reason": "Read-only file system"}, {"by": "beep", "device": "x"})
    with FakeConnections(hosts, cluster, tmp_path / "k") as connections:
        admin.locate(connections, host, 5, said.append)
        assert said == ["blinks, by its LED ACT, for 5 s"]
        with pytest.raises(HostFailed, match="only mmc0::") as error:
            admin.locate(connections, host, 5, said.append)
        assert error.value.next_step == "the inventory says: rack A, slot 3"
        with pytest.raises(HostFailed, match="the signal failed: Read-only"):
            admin.locate(connections, host, 5, said.append)
