"""Edge TPUs that serving holds, as a person names them; inference jobs have the others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clusteradm import health
from clusteradm.errors import HostFailed, UsageError
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.serving import DesiredState
from clusteradm.transport import Connections

ALL = "all"


def choose(connections: Connections, hosts: Sequence[Host], text: str) -> dict[str, tuple[str, ...]] | None:
    """The TPUs that serving is to hold, by host and PCI address; None for all.

    `text`: all; N, of each host as many; or HOST:TPU, each by its PCI address or as apex_N, with commas between.
    Raises UsageError for what there is not, HostFailed where a host does not say what it has.
    """
    return None if text == ALL else of_text(_there(connections, hosts), text)


def choose_for_model(
    connections: Connections, hosts: Sequence[Host], text: str, state: DesiredState
) -> tuple[tuple[str, ...], int | None]:
    """The TPUs that a model is to be on: those that are named, each HOST:PCI-ADDRESS, none for all; or so many of each
    host, else None.

    `text`: all; N; or TPUs with commas between, each a PCI address or apex_N, of every host that has it, or of one with
    HOST: before it. Raises UsageError for what there is not, or serving does not hold; HostFailed as `choose`.
    """
    if text == ALL:
        return (), None
    if text.isdecimal():
        return (), int(text)
    there = _there(connections, hosts)
    found = named(there, text)
    held = {board.host: board.tpus for board in state.boards}
    for copy in found:
        host, _, address = copy.partition(":")
        if host in held and address not in held[host]:
            raise UsageError(
                f"serving does not hold {address} of {host}: jobs have it",
                next_step="clusteradm serve up --tpus says which it is to hold",
            )
    return found, None


def named(there: dict[str, dict[str, str]], text: str) -> tuple[str, ...]:
    """The TPUs of a model, each HOST:PCI-ADDRESS. `there`: by host, each name of a TPU and its PCI address."""
    found: set[str] = set()
    for word in (word.strip() for word in text.split(",")):
        host, _, rest = word.partition(":")
        where, tpu = ({host: there[host]}, rest) if host in there else (there, word)
        mine = {f"{name}:{tpus[tpu]}" for name, tpus in where.items() if tpu in tpus}
        if not mine:
            has = "; ".join(f"{name}: {', '.join(tpus) or 'none'}" for name, tpus in where.items())
            raise UsageError(f"there is no TPU {word!r}", next_step=f"there are: {has}")
        found |= mine
    return tuple(sorted(found))


def check_for_model(text: str) -> str:
    """The words, as far as they can be judged without the hosts. Raises UsageError."""
    if text.isdecimal() and not 0 < int(text) < 1000:
        raise UsageError("--tpus takes a number from 1 to 999", next_step="all; a number; or TPUs, as apex_0")
    if not re.fullmatch(r"[A-Za-z0-9_.:,\- ]+", text):
        raise UsageError(f"--tpus takes no {text!r}", next_step="all; a number; or TPUs, as apex_0 or coral-1:apex_0")
    return text


def _there(connections: Connections, hosts: Sequence[Host]) -> dict[str, dict[str, str]]:
    survey = health.collect(connections, hosts, sections=("tpu",))
    there = {}
    for host in hosts:
        if host.name not in survey.documents:
            raise HostFailed(
                "does not say which TPUs it has", where=host.name, next_step="clusteradm health says what is wrong"
            )
        there[host.name] = tpu_facts.read(survey.documents[host.name]).addresses
    return there


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
