"""The machine itself: temperature, fans, power, memory, worn storage, time service, pending reboot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clusteradm.health.finding import Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

# Margin below a zone's critical trip point, in milli-degrees; there the kernel powers the board off.
CRITICAL_MARGIN = 5_000
# Margin above a fan's trip point, in milli-degrees; the kernel reads a zone only every few seconds.
FAN_MARGIN = 5_000
# Memory is low if less than both is available: 5 % of a large machine is plenty, a small machine needs little.
MIN_AVAILABLE = 64 * 1024**2
MIN_AVAILABLE_SHARE = 0.05
# Time, in seconds, for which a killed process is reported.
KILLED_RECENTLY = 24 * 3600.0
# JEDEC 5.0: life used in tenths, 10 is 90 to 100 %. Pre-EOL 2: of the spare blocks 80 % are used.
WORN = 9
PRE_EOL = 2


def judge(host: Host, machine: Reading, system: Reading) -> Iterator[Finding]:
    """One finding for each of heat, fan, power, memory, storage and reboot that is not ok, else one for `machine`."""
    failed = [
        *_heat(host, machine),
        *_fan(host, machine),
        *_power(host, machine),
        *_memory(host, system),
        *_killed(host, machine, system),
        *_storage(host, machine),
        *_reboot(host, machine),
    ]
    yield from failed
    if not failed:
        yield ok(host.name, "machine", _detail(machine, system))


def _detail(machine: Reading, system: Reading) -> str:
    temperatures = [zone.temperature for zone in _zones(machine)]
    parts = [
        system.text("model") or "",
        _celsius(max(temperatures)) if temperatures else "",
        *(f"{rpm} rpm" for fan in machine.parts("fans") if (rpm := fan.integer("rpm"))),
        _Time.of(machine).words,
    ]
    return ", ".join(part for part in parts if part) or "ok"


@dataclass(frozen=True)
class _Zone:
    """A thermal zone: its temperature and trip points in milli-degrees, None for a trip point that it does not have."""

    name: str
    temperature: int
    active: int | None
    passive: int | None
    critical: int | None

    def __str__(self) -> str:
        return f"{self.name} {_celsius(self.temperature)}"


def _zones(machine: Reading) -> list[_Zone]:
    return [
        _Zone(
            zone.text("type") or zone.text("zone") or "a zone",
            temperature,
            _trip(zone, "active"),
            _trip(zone, "passive"),
            _trip(zone, "critical"),
        )
        for zone in machine.parts("zones")
        if (temperature := zone.integer("temp")) is not None
    ]


def _trip(zone: Reading, kind: str) -> int | None:
    # A trip point that is not in use is 0, or below absolute zero.
    temperature = zone.integer(kind)
    return temperature if temperature is not None and temperature > 0 else None


def _heat(host: Host, machine: Reading) -> Iterator[Finding]:
    remedy, source = _cooler(machine)
    zones = _zones(machine)
    for zone in zones:
        if zone.critical is not None and zone.temperature >= zone.critical - CRITICAL_MARGIN:
            cause = (
                f"{zone.name} has {_celsius(zone.temperature)}; "
                f"at {_celsius(zone.critical)} the kernel powers the board off"
            )
            yield error(host.name, "heat", "CRITICAL", cause, remedy, detail=str(zone), source=source)
            return
    for zone in zones:
        if zone.passive is not None and zone.temperature >= zone.passive:
            cause = f"{zone.name} has {_celsius(zone.temperature)}, and is slowed down from {_celsius(zone.passive)} on"
            yield warning(host.name, "heat", "HOT", cause, remedy, detail=str(zone), source=source)
            return


def _celsius(millidegrees: int) -> str:
    return f"{millidegrees / 1000:.0f} °C"


def _cooler(machine: Reading) -> tuple[str, str]:
    """Remedy for heat, and its source."""
    # The speed of a gpio-fan is not measured: its rpm is computed from whether it is switched on.
    if any(fan.text("type") == "gpio-fan" and fan.integer("state") for fan in machine.parts("cooling")):
        remedy = "listen whether its fan turns: it is switched on, but with some boards its circuit is dead"
        return f"{remedy}; see to its heat sink, and to the air", "ET#770"
    return "see to its fan and heat sink, and to the air", ""


def _fan(host: Host, machine: Reading) -> Iterator[Finding]:
    steps = [step for fan in machine.parts("cooling") if (step := fan.integer("state")) is not None]
    for zone in _zones(machine):
        if steps and not any(steps) and zone.active is not None and zone.temperature >= zone.active + FAN_MARGIN:
            cause = (
                f"{zone.name} has {_celsius(zone.temperature)}, and the fan is off: "
                f"the kernel should have switched it on at {_celsius(zone.active)}"
            )
            remedy = (
                "in /sys/class/thermal on the host, the zone's mode has to be enabled, its policy not user_space; "
                "until it is so, writing 1 to the fan's cur_state turns it on"
            )
            yield warning(host.name, "fan", "STILL", cause, remedy, detail=str(zone))
            return
    for fan in machine.parts("fans"):
        # 0 rpm of a PC's monitoring chip means little: most have connectors without a fan.
        if fan.text("chip") == "pwmfan" and fan.integer("rpm") == 0 and (speed := fan.integer("pwm")):
            cause = f"{fan.text('fan') or 'the fan'} is set to turn ({speed} of 255), but its measured speed is 0 rpm"
            remedy = "see whether it is plugged in and turns freely; if so, replace it"
            yield warning(host.name, "fan", "STILL", cause, remedy)
            return


def _power(host: Host, machine: Reading) -> Iterator[Finding]:
    if alarms := machine.texts("power_alarms"):
        cause = f"a voltage is or was too low: {', '.join(alarms)}"
        remedy = "a power supply that gives what the board asks for (a Dev Board: 5 V, 3 A), on a short cable"
        yield warning(host.name, "power", "LOW", cause, remedy)


def _memory(host: Host, system: Reading) -> Iterator[Finding]:
    total, free = system.integer("memory_total"), system.integer("memory_available")
    if total and free is not None and free < MIN_AVAILABLE and free < MIN_AVAILABLE_SHARE * total:
        cause = f"{_mebibytes(free)} of {_mebibytes(total)} of memory are available"
        remedy = (
            "ps aux --sort=-rss on the host says what holds it: end what need not run there, before the kernel does"
        )
        yield warning(host.name, "memory", "LOW", cause, remedy)


def _killed(host: Host, machine: Reading, system: Reading) -> Iterator[Finding]:
    uptime = system.number("uptime")
    recently = [
        killed.text("name") or "a process"
        for killed in machine.parts("killed")
        if uptime is not None and (at := killed.number("at")) is not None and uptime - at < KILLED_RECENTLY
    ]
    if recently:
        cause = f"for want of memory the kernel killed {', '.join(dict.fromkeys(recently))} within the last day"
        remedy = "dmesg on the host says what each process held then; run less at once there, or give it swap"
        yield warning(host.name, "memory", "OOM", cause, remedy)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _storage(host: Host, machine: Reading) -> Iterator[Finding]:
    for chip in machine.parts("emmc"):
        life, pre_eol = chip.integer("life"), chip.integer("pre_eol")
        if (life or 0) >= WORN or (pre_eol or 0) >= PRE_EOL:
            values = [("life {} of 10", life), ("pre-EOL {}", pre_eol)]
            seen = ", ".join(text.format(value) for text, value in values if value is not None)
            cause = f"the eMMC {chip.text('card') or 'chip'} is worn out ({seen})"
            yield warning(host.name, "storage", "WORN", cause, "save what is on it, and replace the board in time")


@dataclass(frozen=True)
class _Time:
    """Whether a time service is on, and whether the clock follows it; None if unknown.

    Shown, not judged: a host that reaches no time server is ok while its clock is right (checks/clock.py).
    """

    service: bool | None
    follows: bool | None

    @classmethod
    def of(cls, machine: Reading) -> _Time:
        ntp = machine.part("ntp")
        if machine.part("time").boolean("runs"):
            return cls(None, None)  # chrony says more (checks/clock.py)
        if not ntp:
            return cls(None, machine.boolean("ntp"))  # older documents have no more than this
        return cls(False if ntp.boolean("can") is False else ntp.boolean("enabled"), ntp.boolean("synchronized"))

    @property
    def words(self) -> str:
        # A board without a clock of its own starts with the date of its image.
        if self.follows:
            return "time synchronised"
        if self.service is False:
            return "no time service"
        return "time not synchronised" if self.service and self.follows is False else ""


def _reboot(host: Host, machine: Reading) -> Iterator[Finding]:
    if machine.boolean("reboot"):
        cause = "a new kernel or library waits for a reboot (/run/reboot-required)"
        yield warning(host.name, "reboot", "PENDING", cause, "reboot the host when no job runs on it")
