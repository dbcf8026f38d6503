"""State of each USB Accelerator: of several that hold, the one that causes the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clusteradm.health import runtimes
from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok, warning
from clusteradm.health.tpu import patterns
from clusteradm.health.tpu.facts import Accelerator, Attempt, Facts

# Mbit/s of USB 3; USB 2 has 480. pycoral's benchmarks: MobileNet v2 takes 2.3 ms there, 10.8 ms on a Raspberry Pi 3.
_USB_3 = 5000
_CHECK = "tpu"
_PLUG = "unplug it and plug it in again"
_RESET = "clusteradm tpu reset {tpu}; else " + _PLUG


@dataclass(frozen=True)
class _Case:
    subject: str
    accelerator: Accelerator
    attempt: Attempt | None
    facts: Facts

    @property
    def reset(self) -> str:
        """The remedy of one that hangs."""
        return _RESET.format(tpu=self.subject.replace(" ", ":"))

    def error(self, state: str, cause: str, remedy: str, source: str) -> Finding:
        return error(self.subject, _CHECK, state, cause, remedy, detail=_detail(self), source=source)

    def warning(self, state: str, cause: str, remedy: str, source: str) -> Finding:
        return warning(self.subject, _CHECK, state, cause, remedy, detail=_detail(self), source=source)


_Check = Callable[[_Case], "Finding | None"]


def judge(host: str, accelerator: Accelerator, facts: Facts) -> Finding:
    """The finding about one accelerator. Raises nothing, whatever it reads."""
    return _one(f"{host} {accelerator.address}", accelerator, facts, _CHECKS)


def by_itself(subject: str, accelerator: Accelerator, facts: Facts) -> Finding:
    """Its state whoever uses it now, and may open it, as that of a TPU on PCI (state.by_itself)."""
    checks = tuple(check for check in _CHECKS if check not in (_no_permission, _busy))
    return _one(subject, accelerator, facts, checks)


def _one(subject: str, accelerator: Accelerator, facts: Facts, checks: tuple[_Check, ...]) -> Finding:
    case = _Case(subject, accelerator, facts.attempts.get(accelerator.address), facts)
    return next((found for check in checks if (found := check(case))), None) or ok(subject, _CHECK, _detail(case))


def _power(case: _Case) -> Finding | None:
    about = case.accelerator
    if about.authorized is False:
        remedy = f"on the host: echo 1 >/sys/bus/usb/devices/{about.name}/authorized"
        source = "Linux Documentation/usb/authorization.rst"
        return case.error("NO_PERMISSION", "the kernel may not use it: its file authorized is 0", remedy, source)
    if about.configured:
        return None
    cause = "the kernel has chosen no configuration for it, as for a device that asks for more power than its port has"
    if about.max_power:
        cause += f" ({about.max_power})"
    source = "Linux drivers/usb/core/generic.c (insufficient available bus power)"
    return case.error(
        "POWER", cause, "plug it into the machine itself, or into a hub with its own power supply", source
    )


def _no_node(case: _Case) -> Finding | None:
    about = case.accelerator
    if about.node is None:
        cause = f"there is no device node {about.path or 'for it in /dev/bus/usb'}, though the kernel has the device"
        remedy = f"{_PLUG}; in a container, pass /dev/bus/usb as a whole: its node changes with the first use"
        return case.error("NO_NODE", cause, remedy, "libusb opens /dev/bus/usb/BUS/DEVICE; ET#715")
    listed = case.facts.listed
    if listed is None or case.facts.runtime.has("library_error") or about.listed_as in listed:
        return None
    if case.attempt and case.attempt.ok:
        return None
    cause = f"libedgetpu lists {', '.join(listed) or 'no Edge TPU'}, but not {about.listed_as}"
    return case.error("NO_NODE", cause, _PLUG, "edgetpu_list_devices asks libusb (libedgetpu 16.0)")


def _no_permission(case: _Case) -> Finding | None:
    node, attempt = case.accelerator.node, case.attempt
    if node is None or node.mode is None or node.mode & 0o006 == 0o006:
        return None
    allowed = node.mode & 0o060 == 0o060 and case.accelerator.user_in_group
    if allowed and not (attempt and attempt.access is False):
        return None
    cause = f"{node.path} is {node.owner}:{node.group} {node.mode:04o}"
    cause += ", which the cluster user may not open" if allowed else ", and the cluster user is not in that group"
    if node.mode & 0o060 != 0o060:
        cause = f"{node.path} is {node.owner}:{node.group} {node.mode:04o}: its group may not read and write it"
    source = "udev gives it to a group: plugdev by 60-libedgetpu1-std.rules, apex by bootstrap's; PC#72"
    return case.error("NO_PERMISSION", cause, BOOTSTRAP, source)


def _busy(case: _Case) -> Finding | None:
    owner = case.accelerator.owner
    if owner is None or owner.job:
        return None
    who = f"process {owner.pid}" + (f" of {owner.user}" if owner.user else "")
    who += f": {owner.command}" if owner.command else ""
    # A second process that opens it takes it from the first.
    return case.warning("BUSY", f"it is in use by {who}", "wait for it, or end it", "ET#756")


def _did_not_load(case: _Case) -> Finding | None:
    attempt = case.attempt
    if attempt is None or not attempt.failed:
        return None
    match = patterns.first("stderr", [*attempt.stderr, attempt.error or ""])
    if match and match.pattern.state == "RUNTIME" and "{" not in match.pattern.remedy:
        return case.error("RUNTIME", match.cause, match.pattern.remedy, match.pattern.source)
    if attempt.timeout:
        cause = f"a process that tried it hung ({attempt.stage}) and was killed"
        return case.error("WEDGED", cause, case.reset, "ET#629")
    if attempt.signal:
        cause = f"the process that used it was ended by signal {attempt.signal} ({attempt.stage})"
        return case.error("RUNTIME", cause, BOOTSTRAP, "ET#812")
    source = "measured with libedgetpu 16.0"
    if attempt.stage == "load":
        return case.error(
            "WEDGED", f"it does not open: {attempt.last_words}", f"{case.reset}; another cable or port", source
        )
    return case.error("RUNTIME", f"a trial inference failed ({attempt.stage}): {attempt.last_words}", BOOTSTRAP, source)


def _runtime(case: _Case) -> Finding | None:
    issue = runtimes.issue(case.facts.runtime, infers=case.attempt is not None and case.attempt.infers)
    return case.error("RUNTIME", issue.cause, issue.remedy, issue.source) if issue else None


def _link(case: _Case) -> Finding | None:
    about = case.accelerator
    # Before its firmware it may be slower than its port is.
    if about.speed is None or about.speed >= _USB_3 or not about.ready:
        return None
    cause = f"it runs at {about.speed:g} Mbit/s (USB 2): an inference takes several times as long as with USB 3"
    return case.warning(
        "LINK", cause, "a port and a cable of USB 3, without a hub of USB 2 between", "coral.ai, USB Accelerator"
    )


_CHECKS: tuple[_Check, ...] = (
    _power,
    _no_node,
    _no_permission,
    _busy,
    _did_not_load,
    _runtime,
    _link,
)


def _detail(case: _Case) -> str:
    about, facts = case.accelerator, case.facts
    parts = [about.path or "no device node"]
    usb = [path for path in facts.listed or () if path.startswith("/sys/bus/usb/")]
    if about.listed_as in usb:
        parts.append(f"usb:{usb.index(about.listed_as)}")
    if about.speed is not None:
        parts.append(f"{about.speed:g} Mbit/s")
    parts.append(about.id if about.ready else f"{about.id}, before its first use, which uploads its firmware")
    if about.over_current:
        parts.append(f"its port was switched off {about.over_current} times for too high a current")
    if about.owner is not None and about.owner.job:
        parts.append(f"in use by {about.owner.holder}")
    return ", ".join([*parts, *facts.simulated])
