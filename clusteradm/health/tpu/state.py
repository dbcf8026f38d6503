"""State of each Edge TPU: of several that hold, the one that causes the others; and the TPUs that a job may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clusteradm.health import runtimes, unanswered
from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.health.tpu import bus as tpu_bus
from clusteradm.health.tpu import driver as tpu_driver
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.health.tpu import heat, kernel_log, patterns, usb
from clusteradm.health.tpu.facts import Attempt, Card, Device, DeviceNode, Facts, Owner
from clusteradm.node.spec import apex

CHECK = "tpu"
ABSENT = "ABSENT"  # of a host: it has fewer TPUs than it should
# States of a TPU that a job's rank may use; LINK only makes transfers slower.
USABLE = ("OK", "LINK")
_RESET = "clusteradm tpu reset {tpu}; else a power cycle"
# Owner and group, in a user namespace, of what belongs to nobody in it.
_UNMAPPED = {"nobody", "nogroup", "65534"}
_AIR = "more air over the module: a fan, a heat sink, fewer modules side by side"


@dataclass(frozen=True)
class Tpu:
    """One Edge TPU of a host: its stable address (PCI, or usb:PORT), and the device node that it has now."""

    pci_address: str
    device_path: str


@dataclass(frozen=True)
class _Case:
    """One TPU that has a device of the driver, with the facts about it and its host."""

    subject: str
    card: Card
    device: Device
    attempt: Attempt | None
    facts: Facts

    @property
    def name(self) -> str:
        """HOST:PCI-ADDRESS, as commands take it."""
        return self.subject.replace(" ", ":")

    @property
    def log(self) -> list[str]:
        return kernel_log.about(self.card, self.facts)

    @property
    def said(self) -> str:
        """The kernel's last line about it that no pattern knows, as the end of a cause."""
        return kernel_log.last_words(self.card, self.facts)

    def error(self, state: str, cause: str, remedy: str, source: str) -> Finding:
        return error(self.subject, CHECK, state, cause, remedy, detail=_detail(self), source=source)

    def warning(self, state: str, cause: str, remedy: str, source: str) -> Finding:
        return warning(self.subject, CHECK, state, cause, remedy, detail=_detail(self), source=source)

    def matched(self, match: patterns.Match) -> Finding:
        """Finding of the pattern that a line matches."""
        present = self.facts.driver.dma_bit_mask or "64 unless set"
        remedy = match.pattern.remedy.replace("{tpu}", self.name).replace("{present}", present)
        remedy = remedy.replace("{mask}", "64" if present == "32" else "32")
        finding = self.warning if match.pattern.state in ("BUSY", "THROTTLED") else self.error
        return finding(match.pattern.state, match.cause, remedy, match.pattern.source)


_Check = Callable[[_Case], Finding | None]


def judge(host: str, expected: int | None, document: object) -> Iterator[Finding]:
    """One finding for each TPU of the host and one for those that are missing. Raises nothing, whatever it reads."""
    facts = tpu_facts.read(document)
    if facts.error is not None:
        reading = Reading(document)
        yield unanswered.judge(host, CHECK, reading.part("tpu"), reading.part("load"))
        return
    yield from tpu_bus.judge(host, facts)
    for card in facts.cards:
        yield _one(f"{host} {card.address}", card, facts)
    for accelerator in facts.accelerators:
        yield usb.judge(host, accelerator, facts)
    missing = (expected or 0) - len(facts.cards) - len(facts.accelerators)
    if missing > 0:
        cause, remedy = tpu_bus.absent(missing, expected or 0, facts)
        source = "lspci shows one line per chip (MBS#4, MBS#39); google-coral/edgetpu#256, #446"
        yield error(host, CHECK, ABSENT, cause, remedy, detail=tpu_bus.tree(facts), source=source)


def healthy(host: str, document: object, *, of_jobs: bool = False, of_others: bool = False) -> tuple[Tpu, ...]:
    """TPUs that a job may use now: those that are OK or LINK and not in use, in the order of the document.

    `of_jobs`: also those that jobs of this cluster have, which another may wait for; `of_others`: also those that
    anybody has.
    """
    facts = tpu_facts.read(document)
    if facts.error is not None:
        return ()
    found = []
    for card in facts.cards:
        device = facts.devices.get(card.address)
        if device is None:
            continue
        free = not device.owned or (of_jobs and device.owner is not None and device.owner.job is not None)
        if (free or of_others) and _one(host, card, facts).state in USABLE:
            found.append(Tpu(card.address, device.path))
    for accelerator in facts.accelerators:
        owner = accelerator.owner
        free = owner is None or (of_jobs and owner.job is not None)
        if (free or of_others) and usb.judge(host, accelerator, facts).state in USABLE:
            found.append(Tpu(accelerator.address, accelerator.path or ""))
    return tuple(found)


def by_itself(subject: str, card: Card, facts: Facts) -> Finding:
    """State of a TPU whoever uses it now, and may open it: what matters where something else gives out the device."""
    return _one(subject, card, facts, tuple(check for check in _CHECKS if check not in (_no_permission, _busy)))


def _one(subject: str, card: Card, facts: Facts, checks: tuple[_Check, ...] = ()) -> Finding:
    device = facts.devices.get(card.address)
    if device is None:
        verdict = tpu_driver.unbound(card, facts)
        return error(subject, CHECK, verdict.state, verdict.cause, verdict.remedy, source=verdict.source)
    if device.leaving:
        cause = "the driver apex is being unloaded"
        return error(subject, CHECK, "NO_DRIVER", cause, "modprobe apex on the host", source="GD gasket_core.c")
    case = _Case(subject, card, device, facts.attempts.get(card.address), facts)
    found = next((found for check in checks or _CHECKS if (found := check(case))), None)
    return found or ok(subject, CHECK, _detail(case))


def _no_node(case: _Case) -> Finding | None:
    device = case.device
    if device.node is None:
        cause, remedy = _in_its_place(device)
        return case.error("NO_NODE", cause, remedy, "ET#644, GD#19; major 120")
    listed = case.facts.listed
    if listed is None or case.facts.runtime.has("library_error") or device.path in listed:
        return None
    if case.attempt and case.attempt.ok:
        return None
    cause = f"libedgetpu lists {', '.join(listed) or 'no Edge TPU'}, but not {device.path}, which the driver has"
    remedy = "see whether the cluster user can read /sys/class/apex on the host; in a container, pass it through"
    return case.error("NO_NODE", cause, remedy, "edgetpu_list_devices reads /sys/class/apex (libedgetpu 16.0)")


def _in_its_place(device: Device) -> tuple[str, str]:
    """Cause and remedy for a device without a node. udev makes no nodes: the kernel does, when the driver is loaded."""
    again = "modprobe -r apex gasket; modprobe apex on the host"
    container = (
        f"in a container, remove it, and pass the device itself: dev0: {device.path} (Proxmox), lxc.mount.entry "
        f"without create=file (LXC), --device {device.path} (Docker)"
    )
    if device.in_place == "nothing":
        return f"{device.path} is not there, though the driver has the device", f"{again}; {container}"
    if device.in_place:
        remedy = f"rm -r {device.path} on the host, then {again}; {container}"
        return f"{device.path} is {device.in_place}, not a device node", remedy
    cause = f"there is no device node at {device.path}: nothing, or a plain file or folder that a container made there"
    look = f"ls -ld {device.path} on the host, rm -r {device.path} if it is a file or folder"
    remedy = f"{look}, then {again}; {container}"
    return cause, remedy


def _no_permission(case: _Case) -> Finding | None:
    node, facts = case.device.node, case.facts
    cause = _permission(node, facts) if node else ""
    source = "SUBSYSTEM apex: 0660, group apex (gasket-dkms); ET#256, ET#637, tensorflow#35054"
    remedy = BOOTSTRAP
    if not cause and case.attempt and case.attempt.access is False and case.attempt.error:
        cause = f"{case.device.path} may not be opened by the cluster user"
        if node and node.mode is not None and facts.user_in_group:
            cause += ", though its owner, group and mode allow it"
            remedy = "in a container, allow the device as well as pass it: lxc.cgroup2.devices.allow: c 120:* rwm (LXC)"
            remedy += f", or --device {case.device.path} (Docker); else getfacl {case.device.path} on the host"
    if node and _UNMAPPED & {node.owner, node.group}:
        cause += ": an id of the container's host that the container does not have"
        remedy = f"on the container's host, pass it with the container's group: dev0: {node.path},gid=GID,mode=0660"
    return case.error("NO_PERMISSION", cause, remedy, source) if cause else None


def _permission(node: DeviceNode, facts: Facts) -> str:
    """Cause why the cluster user may not open the node; empty if it may."""
    if node.mode is None:
        return ""
    if node.mode & 0o006 == 0o006:
        return ""
    if node.group != "apex" or node.mode & 0o060 != 0o060:
        return f"{node.path} is {node.owner}:{node.group} {node.mode:04o}, not root:apex 0660"
    if facts.user_in_group:
        return ""
    has = "" if facts.members is None else f", whose members are: {', '.join(facts.members) or 'nobody'}"
    return f"the cluster user is not in the group apex{has}"


def _no_interrupts(case: _Case) -> Finding | None:
    device, attempt = case.device, case.attempt
    still = attempt is not None and attempt.inference and attempt.interrupts is False
    if device.interrupts and device.status != "LAMED" and not still:
        return None
    remedy = (
        "the host must give it 13 MSI-X vectors; boot without pci=nomsi, on a Raspberry Pi 5 with "
        "dtoverlay=pciex1-compat-pi5,no-mip; else another slot, or another host (virtual machines often cannot)"
    )
    source = "ET#122, ET#223; GD gasket_interrupt.c"
    if match := patterns.in_force(case.log, {"LAMED"}):
        cause, remedy, source = match.cause, match.pattern.remedy, match.pattern.source
    elif still:
        cause = "an inference ended, and its interrupt_counts stand still (MSI-X)"
    elif device.interrupts:
        cause = "the driver calls it LAMED: its interrupts are not configured (MSI-X)"
    else:
        cause = "its interrupts are not configured (MSI-X): the driver has no interrupt_counts for it"
    return case.error("LAMED", cause + tpu_bus.vectors(case.card, case.facts), remedy, source)


def _wedged(case: _Case) -> Finding | None:
    device, attempt = case.device, case.attempt
    reset = _RESET.format(tpu=case.name)
    if device.temperature is not None and device.temperature <= apex.WEDGED_MILLIDEGREES:
        read = f"it reads {device.temperature / 1000:.1f} °C, as a chip that fell off the bus"
        cause = f"{read} (status says {device.status}){_evidence(case)}"
        return case.error("WEDGED", cause, reset, "ET#843, ET#741, ET#647")
    if tpu_bus.silent(case.card):
        cause = f"its registers read all ones, as those of a card that fell off the bus{_evidence(case)}"
        return case.error("WEDGED", cause, reset, "ET#741, ET#647")
    if device.status not in (None, "ALIVE"):
        cause = f"the driver calls it {device.status}{_evidence(case)}"
        return case.error("WEDGED", cause, "power-cycle the host", "GD gasket_core.c")
    if device.owned or (attempt and attempt.ok):
        return None  # it was opened since the kernel complained
    own = patterns.first("stderr", _last_lines(attempt)) if attempt else None
    if own and own.pattern.state != "WEDGED":
        return None  # what ended the trial is known, and is none of the chip's
    # Without a trial, nothing says that a line of long ago still holds.
    lines = case.log if attempt or case.facts.tried else kernel_log.recent(case.log, case.facts)
    if match := patterns.in_force(lines, {"WEDGED"}):
        return case.matched(match)
    if own:
        return case.matched(own)
    if attempt and attempt.timeout and attempt.stage != "import":
        cause = f"a process that tried it hung ({attempt.stage}) and was killed{case.said}"
        return case.error("WEDGED", cause, reset, "ET#345, ET#507")
    return None


def _evidence(case: _Case) -> str:
    """What the kernel's log says of a chip that is known to be wedged, as the end of the cause."""
    match = patterns.in_force(case.log, {"WEDGED"})
    return f'; the kernel: "{patterns.quoted(match.line)}"' if match else case.said


def _last_lines(attempt: Attempt) -> list[str]:
    """What a trial's process said, and the name of the signal that ended it."""
    return [*attempt.stderr, attempt.error or "", tpu_bus.SIGNALS.get(attempt.signal or 0, "")]


def _busy(case: _Case) -> Finding | None:
    device, attempt = case.device, case.attempt
    owner = device.owner if device.owned else None
    if not device.owned and attempt and not attempt.ok:
        owner = attempt.owner
    if (not device.owned and owner is None) or (owner and owner.job):
        return None
    who, remedy = _who(owner, device.owner_pid), "wait for it, or end it"
    if owner and not owner.user and not owner.command:
        who += ", which the host does not show"
        remedy += "; a container does not show a process of its host; one that is gone: modprobe -r apex; modprobe apex"
    return case.warning("BUSY", f"it is in use by {who}", remedy, "ET#359; GD gasket_open")


def _who(owner: Owner | None, pid: str | None) -> str:
    if owner is None:
        return f"process {pid}"
    text = f"process {pid if owner.pid is None else owner.pid}"
    text += f" of {owner.user}" if owner.user else ""
    return text + (f": {owner.command}" if owner.command else "")


def _did_not_load(case: _Case) -> Finding | None:
    """A trial that failed for none of the causes checked before, such as a crash, or "Failed to load delegate"."""
    attempt = case.attempt
    if attempt is None or not attempt.failed:
        return None
    match = patterns.first("stderr", _last_lines(attempt))
    if match and match.pattern.name == "open-refused" and (held := patterns.in_force(case.log, {"BUSY"})):
        return case.matched(held)
    # Where the versions are those that bootstrap installs, it does not help against a crash.
    remedy = BOOTSTRAP
    if case.facts.runtime.boolean("ok") and not runtimes.issue(case.facts.runtime) and attempt.stage != "import":
        remedy = f"{_RESET.format(tpu=case.name)}; the versions go together (playbooks/vars/runtimes.yml)"
    if match and match.pattern.name == "abi" and remedy != BOOTSTRAP:
        cause = f"the process crashed (signal 11, {attempt.stage}){case.said}"
        return case.error("RUNTIME", cause, remedy, match.pattern.source)
    if match:
        finding = case.matched(match)
        has = runtimes.installed(case.facts.runtime)
        if match.pattern.name == "abi" and has:
            return case.error(finding.state, f"{finding.cause}; have {has}", finding.remedy, finding.source)
        return finding
    source = "ET#359, #589, #645, #756; measured with libedgetpu 16.0"
    if attempt.signal:
        cause = f"the process that used it was ended by signal {attempt.signal} ({attempt.stage}){case.said}"
        return case.error("RUNTIME", cause, remedy, source)
    if attempt.count == 0 or attempt.stage == "list":
        cause = ("libedgetpu lists no Edge TPU" if attempt.count == 0 else attempt.last_words) + case.said
        look = "see whether the cluster user can read /sys/class/apex on the host; in a container, pass /sys through"
        return case.error("NO_NODE", cause, look, source)
    if attempt.stage == "load" and attempt.error:
        if held := patterns.in_force(case.log, {"BUSY"}):
            return case.matched(held)
        cause = f"{attempt.error}, with no reason; it may be opened, so another process may have had it{case.said}"
        return case.warning("BUSY", cause, "clusteradm health again; it names the owner if there is one", source)
    return case.error(
        "RUNTIME", f"a trial inference failed ({attempt.stage}): {attempt.last_words}{case.said}", remedy, source
    )


def _runtime(case: _Case) -> Finding | None:
    """Versions that do not work together, unless a trial inference showed that they do."""
    issue = runtimes.issue(case.facts.runtime, infers=case.attempt is not None and case.attempt.infers)
    return case.error("RUNTIME", issue.cause, issue.remedy, issue.source) if issue else None


def _hot(case: _Case) -> Finding | None:
    device = case.device
    source = "GD apex_driver.c (clk_div at the trip points); ET#197, ET#843"
    if device.temperature is None or not device.trips:
        match = patterns.in_force(case.log, {"THROTTLED"})
        return case.matched(match) if match else None
    step = apex.step(device.temperature, device.trips)
    if step == 0:
        return None
    trip = device.trips[step - 1]
    cause = f"{device.temperature / 1000:.1f} °C is above its trip point {step - 1} ({trip / 1000:.1f} °C)"
    if device.poll_interval == 0:
        return case.warning("HOT", f"{cause}; this driver does not throttle (temp_poll_interval 0)", _AIR, source)
    return case.warning("THROTTLED", f"{cause}: it runs at {apex.CLOCKS_MHZ[step]:g} of 500 MHz", _AIR, source)


def _link(case: _Case) -> Finding | None:
    cause = tpu_bus.slow_link(case.card)
    remedy = "another slot or riser (Gen 1 risers give 2.5 GT/s), or the slot's speed in the firmware"
    return case.warning("LINK", cause, remedy, "ET#308 (LnkCap 5GT/s x1), ET#262, MBS#11") if cause else None


# A state comes before those that it causes, and one that keeps jobs off the TPU before one that only slows it down.
_CHECKS: tuple[_Check, ...] = (
    _no_node,
    _no_permission,
    _no_interrupts,
    _wedged,
    _busy,
    _did_not_load,
    _runtime,
    _hot,
    _link,
)


def _detail(case: _Case) -> str:
    device, facts = case.device, case.facts
    parts = [device.path]
    pci = [path for path in facts.listed or () if path.startswith("/dev/apex_")]
    if device.path in pci:
        parts.append(f"pci:{pci.index(device.path)}")
    parts.append(f"apex {device.version or 'n/a'}")
    temperature = device.temperature
    parts.append("temperature n/a" if temperature is None else f"{temperature / 1000:.1f} °C")
    if device.poll_interval == 0:
        parts.append("does not throttle (temp_poll_interval 0)")
    elif (megahertz := heat.clock(device)) is not None:
        parts.append(f"{megahertz:g} MHz")
    if device.unique_id:
        parts.append(f"id {device.unique_id}")
    if facts.untried and not device.owned:
        parts.append(f"not tried: {facts.untried}")
    if device.owned and device.owner and device.owner.job:
        parts.append(f"in use by {device.owner.holder}")
    return ", ".join([*parts, *facts.simulated])
