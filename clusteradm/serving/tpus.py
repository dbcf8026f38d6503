"""Edge TPUs that serving holds, as a person names them; inference jobs have the others."""

from __future__ import annotations

from collections.abc import Sequence

from clusteradm import health
from clusteradm.errors import HostFailed, UsageError
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.inventory import Host
from clusteradm.transport import Connections

ALL = "all"


def choose(connections: Connections, hosts: Sequence[Host], text: str) -> dict[str, tuple[str, ...]] | None:
    """The TPUs that serving is to hold, by host and PCI address; None for all.

    `text`: all; N, of each host as many; or HOST:TPU, each by its PCI address or as apex_N, with commas between.
    Raises UsageError for what there is not, HostFailed where a host does not say what it has.
    """
    if text == ALL:
        return None
    survey = health.collect(connections, hosts, sections=("tpu",))
    there = {}
    for host in hosts:
        if host.name not in survey.documents:
            raise HostFailed(
                "does not say which TPUs it has", where=host.name, next_step="clusteradm health says what is wrong"
            )
        there[host.name] = tpu_facts.read(survey.documents[host.name]).addresses
    return of_text(there, text)


def check(text: str, hosts: Sequence[str]) -> None:
    """Raise UsageError for what names no TPUs, whatever the hosts have."""
    if text != ALL and not (text.isascii() and text.isdecimal() and len(text) < 4):
        for word in text.split(","):
            host, sign, _ = word.strip().partition(":")
            if not sign or host not in hosts:
                raise UsageError(
                    f"--tpus takes no {word.strip()!r}",
                    next_step=f"all, a number, or HOST:TPU with commas between; the hosts are {', '.join(hosts)}",
                )


def of_text(there: dict[str, dict[str, str]], text: str) -> dict[str, tuple[str, ...]]:
    """The TPUs by host. `there`: by host, each name of a TPU and its PCI address."""
    check(text, list(there))
    if text.isdecimal():
        return {host: tuple(sorted(set(names.values()))[: int(text)]) for host, names in there.items()}
    held: dict[str, set[str]] = {host: set() for host in there}
    for word in text.split(","):
        host, _, tpu = word.strip().partition(":")
        if tpu not in there[host]:
            has = ", ".join(there[host]) or "none"
            raise UsageError(f"{host} has no TPU {tpu!r}", next_step=f"it has: {has}")
        held[host].add(there[host][tpu])
    return {host: tuple(sorted(addresses)) for host, addresses in held.items()}
