"""One time for the cluster: the head serves it, the others follow it, and health says whose it is.

The boards share the machine's clock and cannot set it: their chrony watches it (-x). What it follows is the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SHARED, Cluster
from jobs import wait

pytestmark = pytest.mark.lab

# A request of NTP version 3; prints the stratum of the answer. The argument: the address that it comes from.
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 0))
s.settimeout(2)
s.sendto(b"\\x1b" + 47 * b"\\0", ("10.78.0.1", 123))
print("stratum", s.recv(100)[1])
"""
CONFIGURATION = "/etc/chrony/chrony.conf"


def clocks(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Host -> health's finding about its clock, whatever it says of the rest."""
    document = cluster.health(expect=None)
    return {finding["subject"]: finding for finding in document["findings"] if finding["check"] == "clock"}


def until(cluster: Cluster, node: str, command: str) -> None:
    """A chrony that got no answers asks every minute or two."""
    wait(lambda: not cluster.lab.exec(node, ["sh", "-c", command], check=False, timeout=120).returncode, 600)


def reboot(cluster: Cluster, node: str) -> float:
    """Reboot a board; seconds until its boot was complete."""
    boots = cluster.lab.status()["nodes"][node]["boots"]
    begun = time.monotonic()
    cluster.on(node, "systemctl", "reboot", check=False)
    wait(lambda: (now := cluster.lab.status()["nodes"][node])["boots"] > boots and now["state"] == "running")
    return time.monotonic() - begun


def test_every_board_follows_the_head(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert cluster.on(node, "systemctl", "is-active", "chrony").strip() == "active"
        assert cluster.on(node, "systemctl", "is-enabled", "systemd-timesyncd", check=False).strip() != "enabled"
        if node != "head":
            # ^*: the source that is followed.
            until(cluster, node, "chronyc -n sources | grep -q '^^\\* 10.78.0.1 '")
            assert cluster.on(node, "sh", "-c", "chronyc -n sources | grep -c '^^'").strip() == "1"
            assert cluster.on(node, "chronyc", "-n", "-c", "tracking").split(",")[1:3] == ["10.78.0.1", "11"]
    assert cluster.on("head", "chronyc", "-n", "-c", "tracking").split(",")[2] == "10"


def test_the_time_is_served_to_the_subnet_alone(cluster: Cluster) -> None:
    assert cluster.on("w1", "python3", "-c", ASK, "10.78.0.2").strip() == "stratum 10"
    own = "$(ip -o -4 address show | awk '/ 10[.]77[.]0/ { print $2 }')"
    cluster.on("w1", "sh", "-c", f"ip route add 10.78.0.1/32 via 10.77.0.1 dev {own}")
    try:
        assert "stratum" not in cluster.on("w1", "python3", "-c", ASK, "10.77.0.2", check=False)
    finally:
        cluster.on("w1", "ip", "route", "del", "10.78.0.1/32", "via", "10.77.0.1")


def test_health_says_whose_time_it_is(cluster: Cluster) -> None:

    def said() -> bool:
        found = clocks(cluster)
        own = found["head"]["detail"].endswith("; its own time")
        return own and found["w1"]["detail"].endswith(" ms to the head's time, which follows no time server")

    wait(said)


# A time server of the world, on a board's other address: a second chrony beside the board's own.
WORLD = """
cat >/run/world.conf <<'END'
local stratum 3
bindaddress 10.77.0.4
allow
cmdport 0
bindcmdaddress /
pidfile /run/world.pid
user root
END
systemd-run --quiet --unit=world chronyd -x -d -f /run/world.conf
"""


def test_the_head_takes_the_time_from_the_world_where_it_can(cluster: Cluster, tmp_path: Path) -> None:
    document = yaml.safe_load(cluster.lab.inventory.read_text(encoding="utf-8"))
    document["all"]["vars"]["cluster_time_source"] = "10.77.0.4"
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "known_hosts").write_bytes(cluster.lab.inventory.with_name("known_hosts").read_bytes())
    cluster.on("w3", "sh", "-c", WORLD)
    try:
        cluster.run("bootstrap", "-i", inventory, "--limit", "head", "--tags", "clock")
        for node, follows in (("head", "10.77.0.4,4"), ("w1", "10.78.0.1,5")):
            until(cluster, node, f"chronyc -n -c tracking | grep -q ',{follows},'")

        def said() -> bool:
            found = clocks(cluster)
            world = found["head"]["detail"].endswith(" to the time of 10.77.0.4 (stratum 4)")
            return world and found["w1"]["detail"].endswith(" to the head's time")

        wait(said)
    finally:
        cluster.on("w3", "systemctl", "stop", "world")
        cluster.run("bootstrap", "--limit", "head", "--tags", "clock")
        cluster.on("head", "sh", "-c", f"rm -f {CONFIGURATION}.*~")
    until(cluster, "w1", "chronyc -n -c tracking | grep -q ',10.78.0.1,11,'")


def test_a_time_service_that_does_not_run_is_started_by_fix(cluster: Cluster) -> None:
    cluster.on("w1", "systemctl", "disable", "--now", "chrony")
    found = clocks(cluster)["w1"]
    assert found["state"] == "NOT_KEPT" and "bootstrap" in found["remedy"]
    cluster.health("--fix", expect=None)
    until(cluster, "w1", "chronyc waitsync 1")
    wait(lambda: clocks(cluster)["w1"]["state"] == "OK")
    assert cluster.on("w1", "systemctl", "is-enabled", "chrony").strip() == "enabled"


def test_a_board_that_follows_another_is_put_right_by_fix(cluster: Cluster) -> None:
    cluster.on("w2", "sh", "-c", f"sed -i 's/^server .*/server 10.78.0.99 iburst/' {CONFIGURATION}")
    cluster.on("w2", "systemctl", "restart", "chrony")
    found = clocks(cluster)["w2"]
    assert found["state"] == "NOT_FOLLOWING" and "does not answer" in found["cause"]
    cluster.health("--fix", expect=None)
    until(cluster, "w2", "chronyc waitsync 1")
    wait(lambda: clocks(cluster)["w2"]["state"] == "OK")
    cluster.on("w2", "sh", "-c", f"rm -f {CONFIGURATION}.*~")


def test_a_boot_has_the_time_before_the_share(cluster: Cluster) -> None:
    reboot(cluster, "w1")
    until(cluster, "w1", f"findmnt {SHARED}")
    shown = {
        unit: int(cluster.on("w1", "systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", unit))
        for unit in ("clusteradm-time.service", "time-sync.target", "srv-cluster.mount")
    }
    assert 0 < shown["clusteradm-time.service"] < shown["srv-cluster.mount"]
    assert shown["clusteradm-time.service"] <= shown["time-sync.target"]
    assert cluster.on("w1", "chronyc", "-n", "-c", "tracking").split(",")[1] == "10.78.0.1"


def test_a_head_without_time_does_not_hang_a_boot(cluster: Cluster) -> None:
    cluster.on("head", "systemctl", "stop", "chrony")
    try:
        assert reboot(cluster, "w1") < 150
        assert cluster.on("w1", "systemctl", "--failed", "--no-legend").strip() == ""
        found = clocks(cluster)
        assert found["head"]["state"] == "NOT_KEPT"
        assert (found["w1"]["state"], found["w1"]["because"]) == ("NOT_FOLLOWING", "head clock: NOT_KEPT")
    finally:
        cluster.on("head", "systemctl", "start", "chrony")
    until(cluster, "w1", "chronyc waitsync 1")
    wait(lambda: {finding["state"] for finding in clocks(cluster).values()} == {"OK"})
