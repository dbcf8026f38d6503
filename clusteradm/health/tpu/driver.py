"""Edge TPUs without a device of the driver: why apex is not bound to the card, or not loaded, or not built."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clusteradm.health.finding import BOOTSTRAP
from clusteradm.health.tpu import kernel_log, patterns
from clusteradm.health.tpu.facts import Card, Driver, Facts

# Drivers that keep a card for a virtual machine.
_KEEPERS = ("vfio-pci", "pci-stub", "uio_pci_generic", "pciback", "xen-pciback")
# DKMS's version of the packages that Fedora's repositories build from a fork's current source.
_FORK = re.compile(r"0\.0\.git\.")
# The lines of a build's log that say what failed, as against those that say that something did. A compiler speaks the
# language of the administrator.
_ERROR = re.compile(
    r"(\berror|\berreur|\bFehler|\bошибка|错误|エラー) ?[:：]|^ERROR: (?!Cannot create report)|^Error!\s+(?!Bad return)"
    r"|(fixdep|recordmcount|modpost|genksyms|objtool): .*(not found|format error)"
    r"|(gcc|clang)(-\d+)?: (command )?not found|\*\*\* No rule to make target|No space left on device"
    r"|/build: No such file"
)
# Beginning of a line about the signature of a module that is named.
_OTHERS = re.compile(r"module '(?!apex|gasket)|\] (?!apex|gasket|[Ll]ockdown)[\w-]+: (module verification|Loading of)")
# What modpost says of a symbol that the kernel does not have, as an error or, for modules built apart, as a warning.
_UNDEFINED = re.compile(r"undefined!$")
# Debian's kernels, whose headers bootstrap installs (playbooks/tpu.yml).
_DEBIAN = re.compile(r"-(amd64|arm64|armmp(-lpae)?|686(-pae)?|rpi-(v[678]l?|2712))$")
_POWER = "power the host off and on again (a reboot does not do)"
_LOG_OF = re.compile(r"make\.log for \S+ for kernel (\S+)")


@dataclass(frozen=True)
class Verdict:
    """State, cause, remedy and source of a TPU."""

    state: str
    cause: str
    remedy: str
    source: str


def unbound(card: Card, facts: Facts) -> Verdict:
    """Verdict on a card that has no device of the driver."""
    driver = facts.driver
    if keeper := _keeper(card):
        kept = card.driver is None or card.driver in _KEEPERS
        cause = f"the driver {keeper} has it, not apex" + (": it is kept for a virtual machine" if kept else "")
        remedy = (
            f"remove 1ac1:089a from {keeper}'s ids (grep -rn 1ac1:089a /etc/modprobe.d /proc/cmdline), and the card "
            "from any virtual machine, then reboot"
        )
        return Verdict("NO_DRIVER", cause, remedy, "MBS#53")
    if driver.loaded or card.driver == "apex":
        return _loaded(card, facts)
    cause = "no driver is bound to it, and the module apex is not loaded" + _of_kernel(driver)
    verdict = _not_loaded(card, facts)
    said, remedy = "" if '"' in verdict.cause else kernel_log.last_words(card, facts), verdict.remedy
    # The bus or the card's address space may have failed as well, which a driver does not mend.
    if match := kernel_log.explained(card, facts, ("WEDGED", "NO_NODE")):
        said = f"; {match.cause}"
        remedy += f"; and {_of_the_host(match)}"
    return Verdict(verdict.state, f"{cause}; {verdict.cause}{said}", remedy, verdict.source)


def _of_the_host(match: patterns.Match) -> str:
    """Remedy of the match for a card that has no device; a reset, for one, needs a device."""
    return _POWER if "{" in match.pattern.remedy else match.pattern.remedy


def _keeper(card: Card) -> str | None:
    """Another driver that has the card, or that it is reserved for."""
    if card.driver is not None:
        return card.driver if card.driver != "apex" else None
    wanted = card.driver_override
    return wanted if wanted and wanted not in ("(null)", "apex") else None


def _loaded(card: Card, facts: Facts) -> Verdict:
    """The driver is there, and made no device of the card."""
    driver = facts.driver
    if match := kernel_log.explained(card, facts, ("NO_NODE", "WEDGED")):
        return Verdict("NO_NODE", match.cause, _of_the_host(match), match.pattern.source)
    said = kernel_log.last_words(card, facts)
    remedy = f"{_POWER}; dmesg | grep -i apex on it says more"
    if card.driver == "apex":
        cause = f"the driver apex has it, but made no device of it{said}"
        return Verdict("NO_NODE", cause, remedy, "ET#343, ET#729")
    cause = f"no driver is bound to it, though apex {driver.version or ''} is loaded".replace("  ", " ")
    return Verdict("NO_DRIVER", f"{cause}{_of_kernel(driver)}{said}", remedy, "ET#742, ET#809")


def _not_loaded(card: Card, facts: Facts) -> Verdict:
    """Why the module is not loaded; the cause without its beginning."""
    driver = facts.driver
    there = driver.file is not None or driver.dkms_built is True
    # What is blacklisted is not loaded: a line about a module that was refused is of another.
    match = _refused(card, facts) if there and not driver.blacklisted else None
    if match:
        remedy = _filled(match.pattern.remedy, driver)
        return Verdict("NO_DRIVER", match.cause, remedy, match.pattern.source)
    # Who builds gasket excludes the old one of the distribution's kernel (ET#328), which then is no cause.
    if driver.dkms_built is False and (driver.file is None or driver.file.startswith("kernel/")):
        return _not_built(driver)
    if driver.file and driver.blacklisted:
        where = driver.blacklist or "/etc/modprobe.d"
        cause = f"{driver.file} is there, but blacklisted in {where}"
        remedy = "remove the line `blacklist apex` (grep -rn apex /etc/modprobe.d /proc/cmdline), then modprobe apex"
        return Verdict("NO_DRIVER", cause, remedy, "ET#328")
    if driver.file:
        return _there(driver)
    if driver.dkms_built:
        cause = f"DKMS has built {_name(driver)} for it, but not installed it"
        remedy = _filled("dkms install --force {gasket} -k {kernel} on the host, then modprobe apex", driver)
        return Verdict("NO_DRIVER", cause, remedy, "dkms(8)")
    cause, source = "it is not installed", "coral.ai/docs/m2/get-started; ET#808"
    if driver.headers is False:
        cause += ", and neither are the headers of this kernel that it is built with"
    if driver.headers is False and driver.kernel and not _DEBIAN.search(driver.kernel):
        return Verdict("NO_DRIVER", cause, f"{_headers(driver)}; then clusteradm bootstrap", source)
    return Verdict("NO_DRIVER", cause, BOOTSTRAP, source)


def _refused(card: Card, facts: Facts) -> patterns.Match | None:
    """What the kernel's log says of the module. A line about a signature seldom names the module that it is about.

    One of the distribution's kernel is signed, and without Secure Boot none has to be: then it is about another one.
    """
    driver = facts.driver
    signed = driver.secure_boot is False or (driver.file or "").startswith("kernel/")
    lines = []
    for line in kernel_log.about(card, facts):
        found = patterns.match("kernel", line)
        if found and found.pattern.name == "module-signature" and (signed or _OTHERS.search(line[:2000])):
            continue
        lines.append(line)
    return patterns.in_force(lines, ("NO_DRIVER",))


def _there(driver: Driver) -> Verdict:
    """The module is there, not excluded, and not loaded. One of the distribution's kernel is signed, one of DKMS not.

    The kernel's log may have lost by now that it refused the module.
    """
    cause = f"{driver.file} is there, but not loaded"
    remedy = "modprobe apex on the host; if it refuses, dmesg says why"
    if driver.secure_boot is False or (driver.file or "").startswith("kernel/"):
        return Verdict("NO_DRIVER", cause, remedy, "ET#328")
    if driver.secure_boot:
        cause += ": Secure Boot is on, and loads no module whose key is not enrolled"
    else:
        cause += ": so it is where Secure Boot rejects a module whose key is not enrolled"
    remedy = (
        'modprobe apex on the host; if it says "Key was rejected by service" or "Operation not permitted", sign it: '
        "mokutil --import /var/lib/dkms/mok.pub, reboot, and enrol the key at the console; or turn Secure Boot off in "
        "the firmware"
    )
    return Verdict("NO_DRIVER", cause, remedy, "ET#407, ET#556, ET#752, GD#11")


def _not_built(driver: Driver) -> Verdict:
    """DKMS has the driver, and not for the running kernel."""
    cause = f"DKMS has not built {_name(driver)} for it"
    if driver.headers is False:
        cause += f": the headers of the running kernel {driver.kernel or ''} are not installed".replace("  ", " ")
        remedy = f"{_headers(driver)}, then dkms autoinstall; or boot the kernel that was used before"
        return Verdict("NO_DRIVER", cause, remedy, "Bytelake/Coral-in-LXC#4, ET#695, ET#723")
    other = next((found[1] for line in driver.dkms_log if (found := _LOG_OF.search(line))), None)
    if other and driver.kernel and other != driver.kernel:
        cause += f"; its last build was for another kernel, {other}"
    line = first_error(driver.dkms_log)
    if not line:
        remedy = "dkms autoinstall on the host; /var/lib/dkms/gasket*/*/build/make.log says why it fails"
        return Verdict("NO_DRIVER", cause, remedy, "ET#808, ET#866, ET#905")
    said = f'{cause}: "{patterns.named(line)}"'
    match = patterns.match("dkms", line)
    if match is None:
        return Verdict("NO_DRIVER", said, _newer(driver), "KyleGospo/gasket-dkms#25, ET#808, ET#905")
    return Verdict("NO_DRIVER", f"{said} ({match.cause})", _filled(match.pattern.remedy, driver), match.pattern.source)


def first_error(log: tuple[str, ...]) -> str | None:
    """The first line of a build's log that says what failed; else the first of make's own, else None."""
    found = next((line for line in log if _ERROR.search(line[:2000])), None)
    found = found or next((line for line in log if _UNDEFINED.search(line[:2000].rstrip())), None)
    return found or next((line for line in log if "*** " in line or "rror" in line), None)


def _filled(remedy: str, driver: Driver) -> str:
    words = {
        "headers": _headers(driver),
        "newer": _newer(driver),
        "kernel": driver.kernel or "$(uname -r)",
        "gasket": f"{driver.dkms_name or 'gasket'}/{driver.dkms_version or '$(ls /var/lib/dkms/gasket | head -1)'}",
    }
    for name, text in words.items():
        remedy = remedy.replace("{" + name + "}", text)
    return remedy


def _name(driver: Driver) -> str:
    return f"{driver.dkms_name or 'gasket'} {driver.dkms_version or ''}".strip()


def _of_kernel(driver: Driver) -> str:
    return f" (Linux {driver.kernel})" if driver.kernel else ""


def _release(driver: Driver) -> tuple[int, ...]:
    """The kernel's major and minor version; empty if unknown."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", driver.kernel or "")
    return (int(found[1]), int(found[2])) if found else ()


def _newer(driver: Driver) -> str:
    """How to get a gasket that builds. A fork that fails is not recommended to its own user."""
    linux = ".".join(map(str, _release(driver))) or "this kernel"
    if _FORK.match(driver.dkms_version or ""):
        return (
            "boot an older kernel, for which this gasket was built, or install a newer gasket, one that builds on "
            f"Linux {linux} (this is KyleGospo/gasket-dkms already; its issues and feranick/gasket-driver have patches)"
        )
    if re.search(r"\.(fc|el)\d+", driver.kernel or ""):
        return f"install a gasket that builds on Linux {linux} (KyleGospo/gasket-dkms), or boot an older kernel"
    return (
        f"get a gasket-dkms that builds on Linux {linux}: apt-get purge gasket-dkms on the host, then clusteradm "
        "bootstrap, which installs a rebuilt one (playbooks/vars/runtimes.yml); or boot an older kernel"
    )


def _headers(driver: Driver) -> str:
    """The command that installs the running kernel's headers, by the distribution that its name shows."""
    kernel = driver.kernel or ""
    if kernel.endswith("-pve"):
        return "apt-get install pve-headers-$(uname -r) on the host (Proxmox 8 and later: proxmox-headers-$(uname -r))"
    if re.search(r"\.(fc|el)\d+", kernel):
        return "dnf install kernel-devel-$(uname -r) on the host"
    if re.search(r"-v[78]l?\+|\+?rpt-rpi", kernel):
        return "apt-get install raspberrypi-kernel-headers (or linux-headers-$(uname -r)) on the host"
    return "apt-get install linux-headers-$(uname -r) on the host"
