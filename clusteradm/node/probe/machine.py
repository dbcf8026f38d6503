"""Section "machine": temperatures, fans, power, wear of the storage, time service, versions."""

import os
import re
import time
from typing import Any, Dict, List, Optional

from clusteradm.node.probe.kernel_log import log
from clusteradm.node.probe.programs import output
from clusteradm.node.probe.system import meminfo
from clusteradm.node.texts import names, number, read

# Packages whose versions have to be the same on every host of a cluster.
PACKAGES = (
    "openmpi-bin",
    "libopenmpi3",
    "libopenmpi3t64",
    "libopenmpi40",
    "python3-mpi4py",
    "libedgetpu1-std",
    "nfs-common",
    "nfs-ganesha",
)
# Types of the cooling devices of the kernel's drivers for fans in a device tree (drivers/hwmon).
FANS = ("gpio-fan", "pwm-fan")
# For each program: the section has a few seconds in all, and is lost if one takes longer.
_SECONDS = 3.0
_TRIPS = 12
_FEW = ("0", "1", "2")  # answers of a server: with three, chrony follows it
_KILLED = 10


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Temperatures in thousandths of a degree Celsius, sizes in bytes; null for what the machine does not have."""
    memory = meminfo(root)
    return {
        "zones": zones(root),
        "fans": fans(root),
        "cooling": cooling(root),
        "power_alarms": power_alarms(root),
        "cma_total": memory.get("CmaTotal"),
        "cma_free": memory.get("CmaFree"),
        "killed": killed(root),
        "emmc": emmc(root),
        "ntp": ntp(),
        "time": keeper(root),
        "reboot": read(root, "run/reboot-required") is not None,
        "packages": packages(),
        "mpi_wheel": mpi_wheel(root),
    }


def zones(root: str) -> List[Dict[str, Any]]:
    """Thermal zones (the kernel's ABI/testing/sysfs-class-thermal): type, temperature, the lowest trip points."""
    base = os.path.join(root, "sys/class/thermal")
    found = []
    for name in names(base):
        temperature = number(read(base, name, "temp"))
        if not name.startswith("thermal_zone") or temperature is None:
            continue
        trips = _trips(os.path.join(base, name))
        found.append(
            {
                "zone": name,
                "type": read(base, name, "type"),
                "temp": temperature,
                "active": trips.get("active"),
                "passive": trips.get("passive"),
                "critical": trips.get("critical"),
            }
        )
    return found


def _trips(zone: str) -> Dict[str, int]:
    """The lowest trip point of each kind: above it a fan turns (active), the CPU is slowed down (passive)."""
    lowest: Dict[str, int] = {}
    for trip in range(_TRIPS):
        kind = read(zone, "trip_point_%d_type" % trip)
        temperature = number(read(zone, "trip_point_%d_temp" % trip))
        # An unused one is at 0, or below absolute zero (linux/thermal.h, THERMAL_TEMP_INVALID).
        if kind and temperature and temperature > 0:
            lowest[kind] = min(temperature, lowest.get(kind, temperature))
    return lowest


def fans(root: str) -> List[Dict[str, Any]]:
    """Fans of hwmon: chip, turns per minute, and the speed that they are set to (0 to 255)."""
    return [
        {
            "fan": "%s %s" % (read(folder, "name") or "", name[: -len("_input")]),
            "chip": read(folder, "name"),
            "rpm": number(read(folder, name)),
            "pwm": number(read(folder, "pwm" + name[len("fan") : -len("_input")])),
        }
        for folder in _hwmon(root)
        for name in names(folder)
        if re.match(r"fan\d+_input\Z", name)
    ]


def cooling(root: str) -> List[Dict[str, Any]]:
    """Fans that the kernel controls by a zone's temperature: their step (0: off), and the highest."""
    base = os.path.join(root, "sys/class/thermal")
    return [
        {
            "device": name,
            "type": read(base, name, "type"),
            "state": number(read(base, name, "cur_state")),
            "max": number(read(base, name, "max_state")),
        }
        for name in names(base)
        if name.startswith("cooling_device") and read(base, name, "type") in FANS
    ]


def power_alarms(root: str) -> List[str]:
    """Voltages with an alarm for too low, now or since the last reading (hwmon: in*_lcrit_alarm, in*_alarm)."""
    return [
        "%s %s" % (read(folder, "name") or "", voltage)
        for folder in _hwmon(root)
        for voltage in dict.fromkeys(name.split("_")[0] for name in names(folder) if re.match(r"in\d+_", name))
        if _too_low(os.path.join(folder, voltage))
    ]


def _too_low(voltage: str) -> bool:
    """Whether an alarm for a lower limit is on; `voltage`: the prefix of its files."""
    if read(voltage + "_lcrit_alarm") == "1":
        return True
    # Most chips of PCs have limits that were never set, and alarms that are always on.
    least, measured = number(read(voltage + "_min")), number(read(voltage + "_input"))
    if least is None or least <= 0:
        return False
    # in*_alarm is of both limits.
    general = read(voltage + "_alarm") == "1" and measured is not None and measured < least
    return general or read(voltage + "_min_alarm") == "1"


def killed(root: str) -> Optional[List[Dict[str, Any]]]:
    """The last processes killed because the host was out of memory: name, and time in seconds since boot.

    From the kernel's log (mm/oom_kill.c); None if that is not readable. A process that reached the limit of its cgroup
    is not among them.
    """
    lines = log(root)
    if lines is None:
        return None
    found = []
    contained = False
    for line in lines:
        # Which memory was short: newer kernels log it on the same line, older ones (4.14) on one before.
        reason = re.match(r"\[\S+\] (.*?): Kill(?:ed)? process ", line)
        if reason:
            contained = reason.group(1).startswith("Memory cgroup ")
        death = re.match(r"\[(\d+\.\d+)\] .*\bKilled process \d+ \((.*)\).*\btotal-vm:", line)
        if death and not contained:
            found.append({"name": death.group(2), "at": float(death.group(1))})
    return found[-_KILLED:]


def emmc(root: str) -> List[Dict[str, Any]]:
    """Wear of eMMC chips (JEDEC 5.0): tenths of the lifetime used (11: exceeded), and pre-EOL 1 to 3."""
    base = os.path.join(root, "sys/class/mmc_host")
    found = []
    for host in names(base):
        for card in names(base, host):
            # One number for each type of cells.
            parts = [_hex(part) for part in (read(base, host, card, "life_time") or "").split()]
            life = max((part for part in parts if part is not None), default=None)
            pre_eol = _hex(read(base, host, card, "pre_eol_info"))
            if life is not None or pre_eol is not None:
                found.append({"card": card, "life": life, "pre_eol": pre_eol})
    return found


def ntp() -> Dict[str, Optional[bool]]:
    """The time service: whether it is installed, enabled, and the clock synchronized; None if unknown."""
    about = {"can": "CanNTP", "enabled": "NTP", "synchronized": "NTPSynchronized"}
    said = output(["timedatectl", "show", *("--property=" + name for name in about.values())], _SECONDS) or ""
    told = dict(re.findall(r"^(\w+)=(\w+)$", said, re.M))
    return {key: {"yes": True, "no": False}.get(told.get(name, "")) for key, name in about.items()}


def keeper(root: str) -> Dict[str, Any]:
    """What chrony says of the clock (chronyc(1), `tracking`); no more than "runs" false where it does not run.

    `source`: the address that it follows, "" for none; `stratum`: 0 if it follows nobody, 10 for a head that serves its
    own time; `offset`: seconds that the clock is ahead of it; `age`: seconds since the last answer; `measures`: the
    address whose answers are too few to follow it yet, as after a standstill of the host, "" for none.
    """
    said = (output(["chronyc", "-n", "-c", "tracking"], _SECONDS) or "").strip().split(",")
    silent = {"runs": False, "installed": os.path.exists(os.path.join(root, "usr/sbin/chronyd"))}
    if len(said) != 14:
        return silent
    try:
        # The fields: reference id, its address, stratum, time of the last answer, seconds that the clock is slow, ...
        return {
            "runs": True,
            "source": said[1],
            "stratum": int(said[2]),
            "offset": -float(said[4]),
            "age": round(time.time() - float(said[3]), 1),
            "measures": "" if int(said[2]) else _measured(),
        }
    except ValueError:
        return silent


def _measured() -> str:
    """A server of chrony's that answers, but whose answers are too few to follow it; "" for none."""
    # Mode, state, address, stratum, poll, answers to the last eight questions as bits in octal, ...
    answering = {row[2] for row in _rows("sources", 10) if row[5] != "0"}
    # Address, number of answers that count, ...
    few = {row[0] for row in _rows("sourcestats", 8) if row[1] in _FEW}
    return min(answering & few, default="")


def _rows(report: str, fields: int) -> List[List[str]]:
    said = output(["chronyc", "-n", "-c", report], _SECONDS) or ""
    return [row for row in (line.split(",") for line in said.split("\n")) if len(row) == fields]


def packages() -> Dict[str, str]:
    """Versions of those of PACKAGES that are installed."""
    form = "${Package} ${db:Status-Status} ${Version}\\n"
    said = output(["dpkg-query", "-W", "-f", form, *PACKAGES], _SECONDS) or ""
    rows = [line.split() for line in said.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def mpi_wheel(root: str) -> Optional[str]:
    """Version of the Open MPI that all hosts have from one wheel (playbooks/vars/mpi.yml); None where there is none."""
    mark = "VERSION-"
    found = [name for name in names(os.path.join(root, "opt/clusteradm/openmpi")) if name.startswith(mark)]
    return found[0][len(mark) :] if found else None


def _hwmon(root: str) -> List[str]:
    base = os.path.join(root, "sys/class/hwmon")
    return [os.path.join(base, name) for name in names(base)]


def _hex(text: Optional[str]) -> Optional[int]:
    try:
        return int(text, 16) if text is not None else None
    except ValueError:
        return None
